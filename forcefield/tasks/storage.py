"""Property models on disk: the format of `forcefield.models`, with ``"task": "property"`` in ``config.json``."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols
from safetensors.torch import save as save_safetensors

from forcefield.models import (
    FORMAT,
    WEIGHTS,
    ModelError,
    model_folder,
    read_config,
    read_weights,
    write_config,
    write_file,
)
from forcefield.tasks.bodies import BODIES, build_body
from forcefield.tasks.model import PropertyModel
from forcefield.tasks.task import Task
from forcefield.version import __version__

LEARNED_BUFFERS = ("reference", "scale", "running_mean", "running_var", "num_batches_tracked")
"""Last names of buffers that come from training; all others are constants of the rotation group."""


@dataclass(frozen=True)
class LoadedProperty:
    """A property model with what is known about it.

    Attributes:
        name: folder name.
        model: ready to evaluate.
        config: the contents of ``config.json``.
    """

    name: str
    model: PropertyModel
    config: Mapping[str, Any] = field(repr=False)


def save_property(
    folder: str | os.PathLike[str],
    model: PropertyModel,
    *,
    network: str,
    hyperparameters: Mapping[str, Any],
    **about: Any,
) -> Path:
    """Write a model folder; an existing one is replaced file by file, each atomically.

    Args:
        folder: where.
        model: trained model.
        network: its body's key in `forcefield.tasks.bodies.BODIES`.
        hyperparameters: keywords its body was built with; defaults are written out as they are now.
        about: further JSON-serialisable entries (training, errors, licence, labels, ...).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    widths = {"channels": model.channels, "tensor_channels": model.tensor_channels}
    exact = _fresh(network, model.elements, hyperparameters, model.task, widths, model.max_neighbours)
    for name, value in exact.named_buffers():
        if name in state and name.rsplit(".", 1)[-1] not in LEARNED_BUFFERS:
            state[name] = value.to(torch.float64).contiguous()
    weights = save_safetensors(state, metadata={"format": "pt"})
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(BODIES[network]).parameters.items()
        if parameter.default is not parameter.empty
    }
    config = {
        "format": FORMAT,
        "package_version": __version__,
        "task": "property",
        "property": asdict(model.task),
        "network": network,
        "hyperparameters": {**defaults, **hyperparameters},
        "cutoff": model.cutoff,
        "max_neighbours": model.max_neighbours,
        **widths,
        "elements": [chemical_symbols[z] for z in model.elements],
        "parameters": sum(p.numel() for p in model.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
        **about,
    }
    write_file(folder / WEIGHTS, weights)
    write_config(folder, config)
    return folder


@torch.inference_mode(False)
def load_property(
    path: str | os.PathLike[str], *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LoadedProperty:
    """Load a property model from its folder.

    Args:
        path: model folder, or the name of a shipped property model.
        device: where it shall live.
        dtype: precision of body and head, float32 or float64.

    Raises:
        ModelError: the model is missing, damaged, of a newer format, or a potential.
    """
    folder = model_folder(path)
    config = read_config(folder)
    if config.get("task", "potential") != "property":
        raise ModelError(f"{folder} is a potential, not a property model; give it as GNNCalculator(model=...)")
    weights = read_weights(folder, config)
    elements = [chemical_symbols.index(symbol) for symbol in config["elements"]]
    with torch.device("meta"):
        model = _fresh(
            config["network"],
            elements,
            config["hyperparameters"],
            Task(**config["property"]),
            {
                "channels": config["channels"],
                "tensor_channels": config.get("tensor_channels", ()),
            },  # older ones have none
            config["max_neighbours"],
        )
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit the network {config['network']!r}: {error}") from error
    model.requires_grad_(False)
    return LoadedProperty(folder.name, model.with_dtype(dtype).to(device).eval(), config)


def is_property(path: str | os.PathLike[str]) -> bool:
    """Whether a model (a folder or a shipped model's name) is a property model.

    Raises:
        ModelError: there is no such model.
    """
    return read_config(model_folder(path)).get("task", "potential") == "property"


def _fresh(
    network: str,
    elements: list[int] | tuple[int, ...],
    hyperparameters: Mapping[str, Any],
    task: Task,
    widths: Mapping[str, Any],
    max_neighbours: int | None,
) -> PropertyModel:
    """A model with random weights, made without touching the generator."""
    with torch.random.fork_rng(devices=[]):
        body = build_body(network, list(elements), **hyperparameters)
        return PropertyModel(body, task, max_neighbours=max_neighbours, **widths)
