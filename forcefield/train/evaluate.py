"""Predictions for labelled frames: any model or ASE calculator, on any file of frames or a store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forcefield.data.batches import load_batch
from forcefield.data.frames import Frame, atoms_from_frame
from forcefield.data.label import labelled
from forcefield.data.labels import ReadOptions
from forcefield.data.readers import read_entries_of
from forcefield.data.store import FrameStore
from forcefield.derivatives import evaluate
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.potential import Potential
from forcefield.structures import check_structure
from forcefield.train.comparison import Predicted
from forcefield.train.loss import COLUMNS, ROWS

MAX_EDGES = 100_000
"""Size of a batch in padded neighbour pairs."""

FEWEST_NEIGHBOURS = 16
"""Neighbours that an atom counts for at least: a batch of isolated atoms must not become endless."""

WINDOW = 512
"""Frames of a file that are sorted by neighbours before they are put into batches."""


def predict_data(
    engine: Any,
    path: str | Path,
    *,
    chosen: Sequence[int] | NDArray[np.int64] | None = None,
    max_edges: int = MAX_EDGES,
    options: ReadOptions | None = None,
    on_bad: Callable[[str], None] | None = None,
) -> Iterator[Predicted]:
    """Predict the frames of a file or store; batches come out in an order of their own.

    Args:
        engine: a `Potential`, which works in batches on the device where it lives, or any ASE calculator.
        path: a file that `forcefield.data.readers.read_frames` reads, or a store folder; the edges of a store are used
            where they reach far enough.
        chosen: numbers of the frames to take; all if not given.
        max_edges: size of a batch in padded neighbour pairs (atoms times the most neighbours of one).
        options: which keys and units the file has.
        on_bad: told in a line which frame could not be read or predicted and why; without it that is an error.

    Raises:
        ValueError: a frame could not be read or predicted and nobody is to be told, or ``max_edges`` is below 1.
    """
    if max_edges < 1:
        raise ValueError(f"max_edges is {max_edges}, but at least 1 is needed")

    def refuse(message: str) -> None:
        if on_bad is None:
            raise ValueError(message)
        on_bad(message)

    path = Path(path)
    if isinstance(engine, Potential) and path.is_dir():
        store = FrameStore(path)
        if store.cutoff >= engine.cutoff:
            return _predict_store(engine, store, chosen, max_edges, refuse)
    frames = _frames(path, chosen, options, refuse)
    if isinstance(engine, Potential):
        return _predict_windows(engine, frames, max_edges, refuse)
    return _predict_singly(engine, frames, refuse)


def _frames(
    path: Path,
    chosen: Sequence[int] | NDArray[np.int64] | None,
    options: ReadOptions | None,
    refuse: Callable[[str], None],
) -> Iterator[tuple[str, Frame]]:
    """Places and frames of a file; stops behind the last one chosen."""
    wanted = None if chosen is None else {int(k) for k in chosen}
    end = None if wanted is None else max(wanted, default=-1) + 1
    for k, (place, frame, fault) in enumerate(islice(read_entries_of(path, options=options), end)):
        if wanted is not None and k not in wanted:
            continue
        if frame is None:
            refuse(f"{path} {place}: {fault}")
        else:
            yield f"{path} {place}", frame


def _predict_singly(
    calculator: Any, frames: Iterator[tuple[str, Frame]], refuse: Callable[[str], None]
) -> Iterator[Predicted]:
    for place, frame in frames:
        try:
            prediction = labelled(frame, calculator)
        except Exception as error:  # whatever a calculator raises belongs to its frame
            refuse(f"{place}: {type(error).__name__}: {' '.join(str(error).split())}")
        else:
            yield Predicted(place, frame, prediction)


def _predict_windows(
    potential: Potential, frames: Iterator[tuple[str, Frame]], max_edges: int, refuse: Callable[[str], None]
) -> Iterator[Predicted]:
    while window := list(islice(frames, WINDOW)):
        graphs: list[tuple[str, Frame, Graph]] = []
        for place, frame in window:
            atoms = atoms_from_frame(frame)
            try:
                check_structure(atoms, potential.elements)
            except ValueError as error:
                refuse(f"{place}: {error}")
            else:
                graphs.append((place, frame, graph_from_atoms(atoms, potential.cutoff)))
        n_atoms = np.array([graph.n_atoms for _, _, graph in graphs])
        most = np.array([int(torch.bincount(graph.edge_index[0], minlength=1).max()) for _, _, graph in graphs])
        for batch in group_by_size(n_atoms, most, max_edges):
            members = [graphs[k] for k in batch]
            yield from _predict_batch(
                potential, collate([graph for _, _, graph in members]), [(place, frame) for place, frame, _ in members]
            )


def _predict_store(
    potential: Potential,
    store: FrameStore,
    chosen: Sequence[int] | NDArray[np.int64] | None,
    max_edges: int,
    refuse: Callable[[str], None],
) -> Iterator[Predicted]:
    indices = np.arange(len(store)) if chosen is None else np.asarray(chosen, dtype=np.int64)
    unknown = [z for z in store.elements if z not in potential.elements]
    if unknown:
        strange = np.isin(store.arrays["numbers"], unknown)
        frames = np.unique(np.searchsorted(store.first_atom, np.flatnonzero(strange), side="right") - 1)
        for k in np.intersect1d(indices, frames):
            refuse(f"{store.folder} #{k}: it has atomic numbers that the model does not know, of {unknown}")
        indices = np.setdiff1d(indices, frames)
    n_atoms, most = (np.asarray(store.arrays[name][indices], dtype=np.int64) for name in ("n_atoms", "max_neighbours"))
    for batch in group_by_size(n_atoms, most, max_edges):
        graph, _ = load_batch(store, indices[batch])
        if potential.cutoff < store.cutoff:
            graph = graph.within(potential.cutoff)
        members = [(f"{store.folder} #{k}", store.frame(int(k))) for k in indices[batch]]
        yield from _predict_batch(potential, graph, members)


def group_by_size(n_atoms: NDArray[np.int64], most: NDArray[np.int64], max_edges: int) -> Iterator[NDArray[np.int64]]:
    """Divide frames into batches of like neighbour counts, each at most so many padded edges unless it is one frame.

    Args:
        n_atoms: (frames,) number of atoms.
        most: (frames,) most neighbours of one atom.
        max_edges: largest product of a batch's atoms and its largest neighbour count.
    """
    order = np.argsort(most, kind="stable")
    first, atoms = 0, 0
    for k, frame in enumerate(order):
        atoms += int(n_atoms[frame])
        if k > first and atoms * max(int(most[frame]), FEWEST_NEIGHBOURS) > max_edges:
            yield order[first:k]
            first, atoms = k, int(n_atoms[frame])
    if len(order):
        yield order[first:]


@torch.inference_mode(False)
def _predict_batch(potential: Potential, graph: Graph, members: list[tuple[str, Frame]]) -> list[Predicted]:
    device = potential.get_buffer("scale").device
    found = evaluate(potential, graph.to(device))
    energy, energies = found.energy.cpu().numpy(), found.energies.cpu().numpy()
    forces, stress = found.forces.cpu().numpy(), found.stress.cpu().numpy()[:, ROWS, COLUMNS]
    results, start = [], 0
    for k, (place, frame) in enumerate(members):
        atoms = slice(start, start + len(frame.numbers))
        prediction = replace(
            frame,
            energy=float(energy[k]),
            forces=forces[atoms],
            stress=stress[k] if frame.pbc.all() else None,
            atomic_energies=energies[atoms],
            magmoms=None,
        )
        results.append(Predicted(place, frame, prediction))
        start = atoms.stop
    return results


def choose_frames(
    paths: Sequence[str | Path],
    *,
    index: int | slice = slice(None),
    limit: int | None = None,
    seed: int = 0,
    options: ReadOptions | None = None,
) -> list[NDArray[np.int64] | None]:
    """Which frames of each file or store to take; None for all of them.

    Args:
        paths: files and store folders; those that do not tell their length are read through once where that matters.
        index: frames of each, a number or a slice.
        limit: take only so many of these, drawn at random over all paths.
        seed: same seed, same frames.
        options: which keys and units the files have.

    Raises:
        ValueError: ``limit`` is below 1, or a file cannot be read.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, but at least 1 frame is needed")
    if index == slice(None) and limit is None:
        return [None] * len(paths)
    selections = []
    for path in paths:
        count = len(FrameStore(path)) if Path(path).is_dir() else sum(1 for _ in read_entries_of(path, options=options))
        numbers = np.arange(count)
        if isinstance(index, slice):
            selections.append(numbers[index])
        else:
            selections.append(numbers[index:][:1] if index >= 0 else numbers[index : index + 1 or None])
    if limit is None or limit >= sum(map(len, selections)):
        return list(selections)
    ends = np.cumsum([len(numbers) for numbers in selections])
    drawn = np.sort(np.random.default_rng(seed).choice(int(ends[-1]), size=limit, replace=False))
    starts = [0, *ends[:-1].tolist()]
    return [
        numbers[drawn[(drawn >= start) & (drawn < end)] - start]
        for numbers, start, end in zip(selections, starts, ends.tolist(), strict=True)
    ]
