"""Labelled structures on disk with their graphs, made once and read at random."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forcefield.data.batches import load_batch
from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, folder_when_complete, write_store
from forcefield.graph import Graph
from forcefield.tasks.model import nearest_edges
from forcefield.tasks.structures import Labelled
from forcefield.tasks.task import Task

HEADER = "property.json"


def write_property_store(
    folder: str | Path, structures: Iterable[Labelled], task: Task, cutoff: float, *, max_neighbours: int | None = None
) -> PropertyStore:
    """Write structures, neighbour lists and labels; the folder appears when it is complete.

    Args:
        folder: where; must not exist.
        structures: taken one at a time.
        task: what the labels are.
        cutoff: radius of the neighbour lists (Å).
        max_neighbours: mark the edges to the nearest neighbours; None for all.

    Raises:
        FileExistsError: the folder exists.
        ValueError: a structure is unusable.
    """
    labels: list[NDArray[np.float64]] = []
    materials: list[str] = []

    def frames() -> Iterator[Frame]:
        for one in structures:
            labels.append(one.label)
            materials.append(one.material)
            atoms = one.atoms
            yield Frame(
                np.array(atoms.numbers, dtype=np.int64),
                atoms.get_positions(),
                np.array(atoms.cell, dtype=float),
                np.array(atoms.pbc, dtype=bool),
            )

    with folder_when_complete(folder) as partial:
        store = write_store(partial / "frames", frames(), cutoff)
        if max_neighbours is not None:
            np.save(partial / "keep.npy", _kept(store, max_neighbours))
        if task.level == "edge":
            labels = [_edge_labels(store, k, rows) for k, rows in enumerate(labels)]
        np.save(partial / "labels.npy", np.concatenate(labels))
        header = {"key": task.key, "level": task.level, "shape": task.shape, "materials": materials}
        (partial / HEADER).write_text(json.dumps({**header, "cutoff": cutoff, "max_neighbours": max_neighbours}))
    return PropertyStore(folder)


def _kept(store: FrameStore, most: int) -> NDArray[np.bool_]:
    """Edges to the nearest neighbours, for all frames."""
    blocks = [range(start, min(start + 64, len(store))) for start in range(0, len(store), 64)]
    return np.concatenate([nearest_edges(load_batch(store, list(block))[0], most).numpy() for block in blocks])


def _edge_labels(store: FrameStore, k: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels (edges,) of one frame from rows i, j, S, value, both directions of an edge alike; NaN elsewhere.

    Raises:
        ValueError: a row names a pair beyond the cutoff.
    """
    span = slice(int(store.first_edge[k]), int(store.first_edge[k + 1]))
    names = ("centre", "neighbour", "shift")
    centre, neighbour, shift = (store.arrays[name][span].astype(int) for name in names)
    position = {(i, j, *s): e for e, (i, j, s) in enumerate(zip(centre, neighbour, shift.tolist(), strict=True))}
    labels = np.full(len(centre), np.nan)
    for i, j, a, b, c, value in rows:
        there, back = (int(i), int(j), int(a), int(b), int(c)), (int(j), int(i), -int(a), -int(b), -int(c))
        if there not in position:
            raise ValueError(
                f"structure {k}: the pair {there[:2]} with translation {there[2:]} is no edge within {store.cutoff} Å; "
                "raise the cutoff, or count translations as ASE does (r_j + S @ cell - r_i)"
            )
        labels[[position[there], position[back]]] = value
    return labels


class PropertyStore:
    """Read access to a store.

    Args:
        folder: made by `write_property_store`.

    Raises:
        ValueError: not such a store.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / HEADER).is_file():
            raise ValueError(f"{self.folder} is no store of labelled structures (it has no {HEADER})")
        self.header = json.loads((self.folder / HEADER).read_text())
        self.materials: list[str] = self.header["materials"]
        self.level: str = self.header["level"]
        self.frames = FrameStore(self.folder / "frames")
        self.labels: NDArray[np.float64] = np.load(self.folder / "labels.npy")
        keep = self.folder / "keep.npy"
        self.keep: NDArray[np.bool_] | None = np.load(keep) if keep.is_file() else None
        self.n_atoms = np.asarray(self.frames.arrays["n_atoms"], dtype=np.int64)
        firsts = {"graph": np.arange(len(self) + 1), "atom": self.frames.first_atom, "edge": self.frames.first_edge}
        self._first = firsts[self.level]

    def __len__(self) -> int:
        return len(self.frames)

    def label(self, k: int) -> NDArray[np.float64]:
        """Labels of structure ``k``: (1 or atoms or edges, ...), NaN where unknown."""
        return self.labels[self._first[k] : self._first[k + 1]]

    def numbers(self, k: int) -> NDArray[np.int64]:
        """Atomic numbers of structure ``k``."""
        first = self.frames.first_atom
        return self.frames.arrays["numbers"][first[k] : first[k + 1]].astype(np.int64)

    def batch(self, chosen: NDArray[np.int64]) -> tuple[Graph, Tensor]:
        """Graph and labels (rows, ...) of some structures, NaN where unknown."""
        graph, _ = load_batch(self.frames, chosen)
        labels = torch.from_numpy(np.concatenate([self.label(k) for k in chosen]))
        if self.keep is None:
            return graph, labels
        first = self.frames.first_edge
        keep = torch.from_numpy(np.concatenate([self.keep[first[k] : first[k + 1]] for k in chosen]))
        kept = torch.nonzero(keep)[:, 0]
        graph = replace(graph, edge_index=graph.edge_index[:, kept], edge_shift=graph.edge_shift[kept])
        return graph, labels[kept] if self.level == "edge" else labels


def plan(store: PropertyStore, chosen: NDArray[np.int64], atoms: int, seed: int | None) -> list[NDArray[np.int64]]:
    """Divide structures into batches of about ``atoms`` atoms, at least one structure each.

    Args:
        store: the structures.
        chosen: which of them.
        atoms: size of a batch.
        seed: shuffles them; None keeps their order.
    """
    order = chosen if seed is None else chosen[np.random.default_rng(seed).permutation(len(chosen))]
    total = np.cumsum(store.n_atoms[order])
    cuts = np.flatnonzero(np.diff((total - 1) // atoms)) + 1
    return [part for part in np.split(order, cuts) if len(part)]
