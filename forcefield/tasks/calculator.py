"""Property models beside the potential of a calculator: magnetic moments, charges and whatever else was trained."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import ase
import torch

from forcefield.structures import check_structure
from forcefield.tasks.prediction import predict_property
from forcefield.tasks.storage import LoadedProperty, load_property

TAKEN = ("energy", "free_energy", "energies", "forces", "stress", "stresses")
"""Results of the potential, which no property model may stand for."""


class PropertySet:
    """Property models by the names of their results.

    Args:
        folders: model folders; each model's key is the name of its result.
        device: where they shall live.
        dtype: precision of the networks.

    Raises:
        ModelError: a model is missing or damaged, or a potential.
        ValueError: two models give the same result, or one that the potential gives, or one of edges.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]], *, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.models: dict[str, LoadedProperty] = {}
        for folder in folders:
            loaded = load_property(folder, device=device, dtype=dtype)
            task = loaded.model.task
            if task.key in self.models or task.key in TAKEN:
                raise ValueError(
                    f"{folder} predicts {task.key!r}, which another model of this calculator gives; leave one out"
                )
            if task.level == "edge":
                raise ValueError(
                    f"{folder} predicts {task.key!r} of edges, for which a calculator has no place; "
                    "use forcefield.predict"
                )
            self.models[task.key] = loaded

    @property
    def names(self) -> list[str]:
        """Names of the results."""
        return list(self.models)

    def results(self, atoms: ase.Atoms, names: Iterable[str]) -> dict[str, Any]:
        """Those results that are among ``names``.

        Raises:
            ValueError: the structure has an element that a model does not know.
        """
        found = {}
        for name in names:
            if name in self.models:
                model = self.models[name].model
                check_structure(atoms, model.elements)
                found[name] = predict_property(model, [atoms], device=self.device)[0]
        return found
