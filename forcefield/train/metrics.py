"""Errors of a potential on labelled frames, in total and by kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from forcefield.data.batches import load_batch
from forcefield.data.store import FrameStore
from forcefield.derivatives import evaluate
from forcefield.potential import Potential
from forcefield.train.loss import differences

LABELS = ("energy", "forces", "stress", "atomic_energies")

Errors = dict[str, dict[str, list[NDArray[np.float64]]]]
"""Kind of frame -> label -> labelled errors, batch by batch; "frames" beside the labels counts the frames."""


def measure(
    potential: Potential, store: FrameStore, batches: Iterable[NDArray[np.int64]], *, device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Mean absolute and root mean square errors.

    Args:
        potential: the potential, with the store's cutoff or a smaller one.
        store: labelled frames.
        batches: frame indices, batch by batch.
        device: where to compute.

    Returns:
        kind of frame ("all" for the total) -> "frames", and for each label its ``_mae``, ``_rmse`` and
        ``_median``: energy in eV/atom, forces per component in eV/Å, stress per component in eV/Å^3,
        atomic energies in eV.
    """
    return summarise([collect(potential, store, batches, device=device, cutoff=potential.cutoff)])


def collect(
    potential: Potential, store: FrameStore, batches: Iterable[NDArray[np.int64]], *, device: str, cutoff: float
) -> Errors:
    """Errors of frames by kind, for `summarise`; arguments as of `measure`, ``cutoff`` that of the potential (Å)."""
    errors: Errors = {}
    for frames in batches:
        graph, labels = load_batch(store, frames)
        graph, labels = graph.to(device), labels.to(device)
        if cutoff < store.cutoff:
            graph = graph.within(cutoff)
        structure = {"energy": labels.kind, "stress": labels.kind}
        for name, difference in differences(graph, evaluate(potential, graph), labels).items():
            values = difference.cpu().numpy()
            kinds = structure.get(name, labels.kind[graph.batch]).cpu().numpy()
            for kind in np.unique(kinds):
                part = values[kinds == kind].ravel()
                errors.setdefault(store.kinds[kind], {}).setdefault(name, []).append(part[~np.isnan(part)])
        for kind in labels.kind.tolist():
            errors[store.kinds[kind]].setdefault("frames", []).append(np.ones(1))
    return errors


def summarise(parts: Sequence[Errors]) -> dict[str, dict[str, float]]:
    """Statistics of what several processes have collected; returns what `measure` does."""
    per_kind: dict[str, dict[str, NDArray[np.float64]]] = {}
    for kind in sorted({kind for part in parts for kind in part}):
        found = [part[kind] for part in parts if kind in part]
        per_kind[kind] = {
            name: np.concatenate([values for one in found for values in one.get(name, [])] or [np.zeros(0)])
            for name in (*LABELS, "frames")
        }
    total = {name: np.concatenate([values[name] for values in per_kind.values()]) for name in (*LABELS, "frames")}
    return {kind: _statistics(values) for kind, values in {"all": total, **per_kind}.items()}


def _statistics(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    out = {"frames": float(values["frames"].size)}
    for name in LABELS:
        error = values[name]
        if error.size:
            out[f"{name}_mae"] = float(np.abs(error).mean())
            out[f"{name}_rmse"] = float(np.sqrt((error**2).mean()))
            out[f"{name}_median"] = float(np.median(np.abs(error)))
    return out
