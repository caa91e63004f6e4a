"""The end of a run: its model with card, learning curves and parity plots."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forcefield.data.batches import load_batch, plan_batches
from forcefield.derivatives import evaluate
from forcefield.train.checkpoint import CHECKPOINT, PREVIOUS
from forcefield.train.config import TrainConfig
from forcefield.train.distributed import Group, process_group
from forcefield.train.export import About, export
from forcefield.train.logs import LOG, TABLES, Watcher
from forcefield.train.loop import Run, work
from forcefield.train.loss import COLUMNS, ROWS

MODEL = "model"
PARITY_ATOMS = 20000
"""Atoms of the validation store in a parity plot, at most."""


def train_to_model(config: TrainConfig, *, watcher: Watcher | None = None, restart: bool = False) -> Run:
    """Train to the end, or on from a checkpoint, and leave a model folder with its card, and plots.

    Args:
        config: the run.
        watcher: told what happens.
        restart: remove checkpoint and logs of an earlier run in the output folder first.

    Raises:
        ValueError: configuration and data do not fit together, a checkpoint cannot be written, or training diverges.
    """
    with process_group(config.device) as (group, device):
        if restart:
            _discard(config.output, group)
        run = Run(config.model_copy(update={"device": device}), group=group, watcher=watcher)
        if run.step:
            run.watcher.note(f"going on from step {run.step} ({100 * run.progress:.0f} % done)")
        work(run)
        if group.is_root:
            write_results(run)
    return run


def _discard(output: Path, group: Group) -> None:
    if group.is_root:
        for name in (CHECKPOINT, PREVIOUS, LOG, *TABLES.values(), "validation.json"):
            (output / name).unlink(missing_ok=True)
    group.from_root(None)  # the others wait


def write_results(run: Run) -> None:
    """Write the model of a finished run, and plots where matplotlib is installed."""
    folder = export(run, run.config.output / MODEL, about(run.config), errors=run.result)
    run.watcher.note(f"the model is {folder}")
    if run.config.plots:
        _plots(run)


def about(config: TrainConfig) -> About:
    """The card's part of the configuration."""
    return About(**config.card.model_dump())


def _plots(run: Run) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        run.watcher.note('no plots: they need matplotlib, pip install "gnn-forcefield[plot]"')
        return
    from forcefield.train.plots import learning_curve_plot, parity_plot

    output, name = run.config.output, run.config.card.name
    for event, table in TABLES.items():
        if (output / table).is_file():
            path = learning_curve_plot(output / table, output / f"{event}.png", title=f"{name}: {event}")
            run.watcher.note(f"plotted {path}")
    path = parity_plot(parity_pairs(run), output / "parity.png", title=f"{name}: validation")
    run.watcher.note(f"plotted {path}")


def parity_pairs(run: Run, most_atoms: int = PARITY_ATOMS) -> dict[str, tuple[NDArray, NDArray]]:
    """Labels and predictions of the averaged weights on the validation store, or a random part of it.

    Returns:
        energy (eV/atom), forces (eV/Å), stress (eV/Å^3) and atomic_energies (eV) as flat arrays.
    """
    found: dict[str, list[tuple[NDArray, NDArray]]] = {}
    atoms = 0
    with run.ema.average_parameters():
        for frames in plan_batches(run.validation, 4 * run.config.slots, seed=0):
            if atoms < most_atoms:
                for name, pair in _batch_pairs(run, frames).items():
                    found.setdefault(name, []).append(pair)
                atoms += int(run.validation.arrays["n_atoms"][frames].sum())
    return {name: _joined(pairs) for name, pairs in found.items()}


def _batch_pairs(run: Run, frames: NDArray[np.int64]) -> dict[str, tuple[NDArray, NDArray]]:
    graph, labels = load_batch(run.validation, frames)
    graph = graph.to(run.config.device).within(run.potential.cutoff)
    found = evaluate(run.potential, graph)
    size = graph.atoms_per_structure().cpu()
    pairs = {
        "energy": (labels.energy / size, found.energy.cpu() / size),
        "forces": (labels.forces, found.forces.cpu()),
        "stress": (labels.stress[:, ROWS, COLUMNS], found.stress.cpu()[:, ROWS, COLUMNS]),
        "atomic_energies": (labels.atomic_energies, found.energies.cpu()),
    }
    return {name: (one.numpy().ravel(), other.numpy().ravel()) for name, (one, other) in pairs.items()}


def _joined(pairs: Sequence[tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray]:
    return np.concatenate([one for one, _ in pairs]), np.concatenate([other for _, other in pairs])
