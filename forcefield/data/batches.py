"""Batches of stored frames: graphs with their labels, sized by edges and bucketed by neighbour count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forcefield.data.store import FrameStore
from forcefield.graph import Graph


@dataclass(frozen=True)
class Labels:
    """Labels of a batch; NaN where a frame has none.

    Attributes:
        energy: (structures,) in eV.
        forces: (atoms, 3) in eV/Å.
        stress: (structures, 3, 3) in eV/Å^3.
        atomic_energies: (atoms,) in eV.
        kind: (structures,) index into the store's kinds.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    atomic_energies: Tensor
    kind: Tensor

    def to(self, device: torch.device | str) -> Labels:
        """The same labels on another device."""
        return Labels(**{name: value.to(device) for name, value in vars(self).items()})


VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Voigt component of each tensor component."""


def load_batch(store: FrameStore, frames: Sequence[int] | NDArray[np.int64]) -> tuple[Graph, Labels]:
    """Read frames from the store as one batch, with the stored edges (at the store's cutoff)."""
    arrays = store.arrays
    atoms = [np.s_[store.first_atom[k] : store.first_atom[k + 1]] for k in frames]
    edges = [np.s_[store.first_edge[k] : store.first_edge[k + 1]] for k in frames]
    n_atoms, n_edges = arrays["n_atoms"][frames].astype(np.int64), arrays["n_edges"][frames].astype(np.int64)
    offset = np.repeat(np.cumsum(n_atoms) - n_atoms, n_edges)

    def joined(name: str, parts: list[slice], dtype: type) -> NDArray:
        return np.concatenate([arrays[name][part] for part in parts]).astype(dtype)

    graph = Graph(
        numbers=torch.from_numpy(joined("numbers", atoms, np.int64)),
        positions=torch.from_numpy(joined("positions", atoms, np.float64)),
        cell=torch.from_numpy(arrays["cell"][frames].astype(np.float64)),
        pbc=torch.from_numpy(np.array(arrays["pbc"][frames])),
        edge_index=torch.from_numpy(
            np.stack([joined("centre", edges, np.int64) + offset, joined("neighbour", edges, np.int64) + offset])
        ),
        edge_shift=torch.from_numpy(joined("shift", edges, np.float64)),
        batch=torch.from_numpy(np.repeat(np.arange(len(frames)), n_atoms)),
        n_local=int(n_atoms.sum()),
    )
    labels = Labels(
        energy=torch.from_numpy(np.array(arrays["energy"][frames])),
        forces=torch.from_numpy(joined("forces", atoms, np.float64)),
        stress=torch.from_numpy(arrays["stress"][frames].astype(np.float64)[:, VOIGT]),
        atomic_energies=torch.from_numpy(joined("atomic_energies", atoms, np.float64)),
        kind=torch.from_numpy(arrays["kind"][frames].astype(np.int64)),
    )
    return graph, labels


FEWEST_SLOTS = 16
"""Neighbours that an atom counts for at least: hundreds of dimers in one batch would have too little say."""


def plan_batches(store: FrameStore, slots: int, *, seed: int, window: int = 4096) -> list[NDArray[np.int64]]:
    """Divide all frames into batches of at most ``slots`` padded edges (atoms times the most neighbours of one atom).

    Frames are shuffled, then sorted by neighbour count within windows, so that padding stays small while every epoch
    has other batches; their order is shuffled again. A frame larger than ``slots`` is a batch of its own.

    Args:
        store: the frames.
        slots: size of a batch in padded edges.
        seed: same seed, same batches.
        window: frames sorted together.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(store))
    n_atoms = np.asarray(store.arrays["n_atoms"], dtype=np.int64)
    most = np.maximum(np.asarray(store.arrays["max_neighbours"], dtype=np.int64), FEWEST_SLOTS)
    batches = []
    for start in range(0, len(order), window):
        chosen = order[start : start + window]
        chosen = chosen[np.argsort(most[chosen], kind="stable")]
        first, atoms = 0, 0
        for k, frame in enumerate(chosen):
            atoms += n_atoms[frame]
            if atoms * most[frame] > slots and k > first:
                batches.append(chosen[first:k])
                first, atoms = k, n_atoms[frame]
        batches.append(chosen[first:])
    return [batches[k] for k in generator.permutation(len(batches))]
