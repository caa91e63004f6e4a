"""Data of a fine-tuning: new frames in a store, divided, and mixed with replayed ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from forcefield.data.fingerprint import fingerprint
from forcefield.data.frames import Frame
from forcefield.data.labels import ReadOptions
from forcefield.data.materials import group_of
from forcefield.data.readers import read_frames
from forcefield.data.store import FrameStore, write_store
from forcefield.train.stores import label_counts

MOST_COPIES = 50
"""New frames are repeated at most so often to keep up with the replayed ones."""
TOLERANCE = 1.5
"""Whole materials may exceed the share wanted for validation by this factor."""
LARGEST_SHARE = 1 / 3
"""Share of the frames that a single material may have and still be set aside as a whole."""


@dataclass(frozen=True)
class Division:
    """Which frames of a store are for training and which for validation, and how that was decided."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    how: str
    by_material: bool = True


def write_new_store(
    folder: Path, files: Sequence[Path], cutoff: float, elements: Sequence[int], options: ReadOptions | None
) -> tuple[FrameStore, list[str]]:
    """Read labelled files into a store.

    Args:
        folder: store folder to make.
        files: labelled files or store folders.
        cutoff: radius of the neighbour lists (Å).
        elements: atomic numbers that the model knows.
        options: which keys and units the files have.

    Returns:
        The store, and for each frame the file and kind that it is from.

    Raises:
        ValueError: a file is missing or broken, there is no frame or no label, or an element is unknown to the model.
    """
    series: list[str] = []

    def frames() -> Iterator[Frame]:
        for file in files:
            if not file.exists():
                raise ValueError(f"{file} does not exist; give labelled files or store folders")
            for number, frame in enumerate(read_frames(file, options=options)):
                refuse_unknown(frame, f"{file} #{number}", elements)
                series.append(f"{file} {frame.kind}")
                yield frame if frame.material else replace(frame, material=group_of(frame, str(file), "material"))

    names = ", ".join(str(file) for file in files)
    try:
        store = write_store(folder, frames(), cutoff)
    except ValueError as error:
        raise ValueError(
            str(error) if any(str(file) in str(error) for file in files) else f"{names}: {error}"
        ) from error
    if not any(label_counts(store).values()):
        raise ValueError(
            f"{names}: no frame has an energy, forces or stress to learn from; name the keys (--keys energy=... "
            "forces=...) if the labels have other names"
        )
    return store, series


def refuse_unknown(frame: Frame, place: str, elements: Sequence[int]) -> None:
    """Raises: ValueError: the frame has an element that the model does not know."""
    unknown = [chemical_symbols[z] for z in np.unique(frame.numbers) if z not in elements]
    if unknown:
        raise ValueError(
            f"{place} has {', '.join(unknown)}, which the model does not know; fine-tuning adds no elements: leave "
            "these frames out, or train a model on data with these elements"
        )


def divide(materials: Sequence[str], series: Sequence[str], share: float, seed: int) -> Division:
    """Set frames aside for validation: whole materials, or the last frames of each series where that is impossible.

    It is impossible where there is one material only, or where each has too many of the frames.

    Args:
        materials: material of each frame.
        series: what each frame belongs to in time order (file and kind).
        share: of the frames that are to be set aside.
        seed: another seed, other materials.

    Raises:
        ValueError: one side would be empty.
    """
    total = len(materials)
    chosen = _materials_aside(materials, share, seed)
    if chosen:
        aside = np.array([material in chosen for material in materials])
        count = len(set(materials))
        how = f"{aside.sum()} frames of {len(chosen)} of {count} materials, which do not occur in training"
        return Division(np.flatnonzero(~aside), np.flatnonzero(aside), how)
    members: dict[str, list[int]] = {}
    for k, name in enumerate(series):
        members.setdefault(name, []).append(k)
    last = [k for frames in members.values() for k in frames[len(frames) - round(share * len(frames)) :]]
    if not last:
        last = [total - 1]
    if len(last) == total:
        raise ValueError(
            f"{total} frame{'s' if total > 1 else ''} cannot be divided into training and validation; give more data, "
            "or a file of its own (--validation)"
        )
    aside = np.isin(np.arange(total), last)
    how = f"the last {aside.sum()} of {total} frames in the order of the files, of the same materials as in training"
    return Division(np.flatnonzero(~aside), np.flatnonzero(aside), how, by_material=False)


def _materials_aside(materials: Sequence[str], share: float, seed: int) -> set[str]:
    """Whole materials with about the share wanted of the frames; none where that cannot be."""
    names, counts = np.unique(materials, return_counts=True)
    wanted = share * len(materials)
    order = sorted(range(len(names)), key=lambda k: hashlib.blake2b(f"{seed} {names[k]}".encode()).digest())
    chosen: set[str] = set()
    taken = 0
    for k in order:
        if taken < wanted and taken + counts[k] <= TOLERANCE * wanted:
            chosen.add(str(names[k]))
            taken += int(counts[k])
    smallest = int(np.argmin(counts))
    if not chosen and len(names) > 1 and counts[smallest] <= LARGEST_SHARE * len(materials):
        chosen = {str(names[smallest])}
    return chosen


def repeated_frames(one: FrameStore, frames: NDArray[np.int64], other: FrameStore) -> int:
    """How many of the chosen frames of one store are, atom for atom, in the other as well."""

    def key(store: FrameStore, k: int) -> str:
        frame = store.frame(k)
        return fingerprint(frame.numbers, frame.positions, frame.cell, frame.pbc)

    known = {key(other, k) for k in range(len(other))}
    return sum(key(one, int(k)) in known for k in frames)


def mixture(new_atoms: int, replay_atoms: int, share: float) -> tuple[int, int]:
    """How often new frames are repeated and how many replayed atoms join them, for a share of the atoms.

    All replayed frames take part if new ones, repeated up to `MOST_COPIES` times, can keep up with them.

    Returns:
        Copies of the new frames, and the number of replayed atoms (frames are repeated if it is beyond what there is).
    """
    ratio = share / (1 - share)
    copies = min(max(int(replay_atoms / (ratio * new_atoms)), 1), MOST_COPIES)
    return copies, ceil(ratio * copies * new_atoms)


def write_mixture(
    folder: Path, new: FrameStore, training: NDArray[np.int64], replay: FrameStore | None, share: float, seed: int
) -> tuple[FrameStore, int]:
    """Write the store to train on.

    Args:
        folder: store folder to make.
        new: new frames.
        training: which of them to train on.
        replay: frames of the base model's training, on the new energy scale; None for none.
        share: of the atoms that are replayed.
        seed: another seed, other replayed frames where not all take part.

    Returns:
        The store, and how often each new frame is in it.
    """
    if replay is None:
        return write_store(folder, (new.frame(int(k)) for k in training), new.cutoff), 1
    copies, atoms = mixture(int(new.arrays["n_atoms"][training].sum()), int(replay.first_atom[-1]), share)
    order = np.random.default_rng(seed).permutation(len(replay))
    sizes = np.cumsum(np.tile(replay.arrays["n_atoms"][order], ceil(atoms / int(replay.first_atom[-1]))))
    chosen = np.resize(order, int(np.searchsorted(sizes, atoms)) + 1)

    def frames() -> Iterator[Frame]:
        for _ in range(copies):
            yield from (new.frame(int(k)) for k in training)
        yield from (replay.frame(int(k)) for k in chosen)

    return write_store(folder, frames(), new.cutoff), copies
