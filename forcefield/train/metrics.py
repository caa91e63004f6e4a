"""Errors of a potential on labelled frames, in total and by kind."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from forcefield.data.batches import load_batch
from forcefield.data.store import FrameStore
from forcefield.derivatives import evaluate
from forcefield.potential import Potential
from forcefield.train.loss import differences

LABELS = ("energy", "forces", "stress", "atomic_energies")


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
    collected: dict[str, dict[str, list[NDArray[np.float64]]]] = {}
    counts: dict[str, int] = {}
    for frames in batches:
        graph, labels = load_batch(store, frames)
        graph, labels = graph.to(device), labels.to(device)
        if potential.cutoff < store.cutoff:
            graph = graph.within(potential.cutoff)
        prediction = evaluate(potential, graph)
        structure = {"energy": labels.kind, "stress": labels.kind}
        for name, difference in differences(graph, prediction, labels).items():
            values = difference.cpu().numpy()
            kinds = structure.get(name, labels.kind[graph.batch]).cpu().numpy()
            for kind in np.unique(kinds):
                part = values[kinds == kind].ravel()
                collected.setdefault(store.kinds[kind], {}).setdefault(name, []).append(part[~np.isnan(part)])
        for kind in labels.kind.tolist():
            counts[store.kinds[kind]] = counts.get(store.kinds[kind], 0) + 1
    per_kind = {kind: {k: np.concatenate(v) for k, v in parts.items()} for kind, parts in collected.items()}
    total = {name: np.concatenate([parts[name] for parts in per_kind.values() if name in parts]) for name in LABELS}
    summary = {"all": {"frames": float(sum(counts.values())), **_statistics(total)}}
    for kind in sorted(per_kind):
        summary[kind] = {"frames": float(counts[kind]), **_statistics(per_kind[kind])}
    return summary


def _statistics(values: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    out = {}
    for name, error in values.items():
        if error.size:
            out[f"{name}_mae"] = float(np.abs(error).mean())
            out[f"{name}_rmse"] = float(np.sqrt((error**2).mean()))
            out[f"{name}_median"] = float(np.median(np.abs(error)))
    return out
