"""Losses on energy per atom, forces, stress and a teacher's atomic energies; missing labels count nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from forcefield.data.batches import Labels
from forcefield.derivatives import Prediction
from forcefield.graph import Graph
from forcefield.train.config import LossKind

ROWS, COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
"""Tensor components in Voigt order."""


@dataclass(frozen=True)
class Term:
    """One loss.

    Attributes:
        weight: its factor in the sum.
        kind: huber, mae or mse.
        threshold: of the Huber loss, in the unit of the error.
    """

    weight: float
    kind: LossKind = "huber"
    threshold: float = 1.0


def differences(graph: Graph, prediction: Prediction, labels: Labels) -> dict[str, Tensor]:
    """Prediction minus label, NaN where there is no label.

    Returns:
        energy (structures,) in eV/atom, forces (atoms, 3) in eV/Å, stress (structures, 6) in eV/Å^3 and Voigt order,
        atomic_energies (atoms,) in eV.
    """
    return {
        "energy": (prediction.energy - labels.energy) / graph.atoms_per_structure(),
        "forces": prediction.forces - labels.forces,
        "stress": (prediction.stress - labels.stress)[:, ROWS, COLUMNS],
        "atomic_energies": prediction.energies - labels.atomic_energies,
    }


def labelled(error: Tensor) -> Tensor:
    """Entries that have a label, as one row."""
    return error[~torch.isnan(error.detach())]


def penalty(error: Tensor, kind: LossKind, threshold: float) -> Tensor:
    """Loss of each entry: ``|e|``, ``e^2``, or Huber's ``e^2 / 2t`` where ``|e| < t`` and ``|e| - t / 2`` beyond."""
    if kind == "mse":
        return error * error
    size = error.abs()
    if kind == "mae":
        return size
    return torch.where(size < threshold, error * error / (2 * threshold), size - threshold / 2)


def total_loss(
    errors: Mapping[str, Tensor], terms: Mapping[str, Term], counts: Mapping[str, float] | None = None
) -> Tensor:
    """Weighted sum of the mean losses; what has no label counts nothing.

    Args:
        errors: prediction minus label, NaN where there is no label.
        terms: the loss for each of them.
        counts: labelled entries to divide by, where these errors are part of a larger batch; their own if not given.
    """
    parts = []
    for name, error in errors.items():
        if terms[name].weight > 0:
            known = labelled(error)
            count = known.numel() if counts is None else counts[name]
            parts.append(
                terms[name].weight / max(count, 1) * penalty(known, terms[name].kind, terms[name].threshold).sum()
            )
    return torch.stack(parts).sum() if parts else torch.zeros((), dtype=torch.float64)
