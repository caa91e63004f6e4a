"""Samples of a model's training data that travel with it: replayed when it is fine-tuned, so that it forgets less.

A sample is a compact archive (`forcefield.data.frames.read_compact`). A model folder has ``replay.npz`` to train on and
``validation_sample.npz``, of frames never trained on, to measure forgetting with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore

REPLAY, VALIDATION_SAMPLE = "replay.npz", "validation_sample.npz"
STEPS = 65536
"""Steps of a fractional coordinate."""
MARGIN = 1.0
"""Å around a structure that is not periodic, in the box its coordinates are fractions of."""


def choose_evenly(store: FrameStore, count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw frames evenly over kinds and elements.

    Kinds take turns; each gives a random frame with the element that is in the fewest frames so far.

    Args:
        store: where to draw from.
        count: number of frames.
        seed: same seed, same frames.

    Returns:
        Sorted numbers of the frames, all different.

    Raises:
        ValueError: the store has not so many frames.
    """
    if not 0 < count <= len(store):
        raise ValueError(f"count is {count}, but {store.folder} has {len(store)} frames to draw from")
    pools, members = _pools(store, np.random.default_rng(seed))
    drawn: set[int] = set()
    seen = np.zeros(119, dtype=np.int64)
    kinds = sorted({kind for kind, _ in pools})
    turn = 0
    while len(drawn) < count:
        kind = kinds[turn % len(kinds)]
        elements = [z for k, z in pools if k == kind]
        if not elements:
            kinds.remove(kind)
            continue
        element = min(elements, key=lambda z: (seen[z], z))
        pool = pools[kind, element]
        while pool and pool[-1] in drawn:
            pool.pop()
        if not pool:
            del pools[kind, element]
            continue
        frame = pool.pop()
        drawn.add(frame)
        seen[members[frame]] += 1
        turn += 1
    return np.array(sorted(drawn), dtype=np.int64)


def _pools(
    store: FrameStore, generator: np.random.Generator
) -> tuple[dict[tuple[int, int], list[int]], NDArray[np.bool_]]:
    """Shuffled frames of each kind with each element, and which elements each frame has, (frames, 119)."""
    members = np.zeros((len(store), 119), dtype=bool)
    frame_of = np.repeat(np.arange(len(store)), store.arrays["n_atoms"])
    members[frame_of, store.arrays["numbers"]] = True
    kinds = np.asarray(store.arrays["kind"])
    order = generator.permutation(len(store))
    pools = {}
    for kind in np.unique(kinds):
        frames = order[kinds[order] == kind]
        for element in np.flatnonzero(members[frames].any(axis=0)):
            pools[int(kind), int(element)] = frames[members[frames, element]].tolist()
    return pools, members


def write_sample(path: str | Path, frames: Sequence[Frame]) -> None:
    """Write frames as a sample: fractional coordinates in 1/65536, forces and atomic energies in meV.

    Args:
        path: the ``.npz``; replaced only when the new one is complete.
        frames: with or without labels; magnetic moments are left out.

    Raises:
        ValueError: there is no frame.
    """
    if not frames:
        raise ValueError("there is no frame to write")
    cells, fractional = zip(*(_fractions(frame) for frame in frames), strict=True)
    kinds = sorted({frame.kind for frame in frames})
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            n_atoms=np.array([len(frame.numbers) for frame in frames], dtype=np.uint16),
            numbers=np.concatenate([frame.numbers for frame in frames]).astype(np.uint8),
            fractional=np.concatenate(fractional),
            cell=np.array(cells),
            pbc=np.array([frame.pbc for frame in frames]),
            energy=np.array([np.nan if frame.energy is None else frame.energy for frame in frames]),
            stress=np.array([np.full(6, np.nan) if f.stress is None else f.stress for f in frames], dtype=np.float32),
            forces=_thousandths([_or_nan(frame.forces, (len(frame.numbers), 3)) for frame in frames]),
            atomic_energies=_thousandths([_or_nan(frame.atomic_energies, (len(frame.numbers),)) for frame in frames]),
            kind=np.array([kinds.index(frame.kind) for frame in frames], dtype=np.uint8),
            kind_names=np.array(kinds),
            material=np.array([frame.material for frame in frames]),
        )
    partial.replace(path)


def _fractions(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Cell and coordinates in steps of it; a structure that is not periodic along all axes gets a box around it."""
    cell, positions = frame.cell, frame.positions
    if not frame.pbc.any():
        low, high = positions.min(axis=0), positions.max(axis=0)
        cell, positions = np.diag(high - low + 2 * MARGIN), positions - low + MARGIN
    elif not frame.pbc.all():
        raise ValueError("a sample takes frames that are periodic along all axes or none; leave slabs in vacuum out")
    steps = np.round(np.linalg.solve(cell.T, positions.T).T * STEPS).astype(np.int64)
    return cell, (steps % STEPS).astype(np.uint16)


def _or_nan(label: NDArray[np.float64] | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.full(shape, np.nan) if label is None else label


def _thousandths(parts: Sequence[NDArray[np.float64]]) -> NDArray:
    """All values in thousandths, in the smallest type that holds them."""
    values = np.round(np.concatenate(parts) * 1000)
    if np.isnan(values).any():
        return values.astype(np.float32)
    return values.astype(np.int16 if np.abs(values).max() < 2**15 else np.int32)
