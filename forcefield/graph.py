"""Structures as graphs: atoms are nodes, pairs within the cutoff are directed edges. Always batched.

Row 0 of ``edge_index`` is the centre ``i`` that receives, row 1 the neighbour ``j`` that sends;
``vector = positions[j] + shift @ cell - positions[i]``. Edges are sorted by centre. Cells are as ASE has them (rows
are lattice vectors). The first ``n_local`` atoms are centres; later ones, if any, are ghosts that only send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from torch import Tensor

from forcefield.neighbours import Edges, find_edges


@dataclass(frozen=True)
class Graph:
    """One or several structures as a single graph.

    Attributes:
        numbers: (atoms,) atomic numbers, int64.
        positions: (atoms, 3) Cartesian positions (Å), float64.
        cell: (structures, 3, 3) the user's lattice vectors as rows (Å), float64; the physical cell, never a search box.
        pbc: (structures, 3) periodic axes, bool.
        edge_index: (2, edges) centre and neighbour of each edge, int64, sorted by centre.
        edge_shift: (edges, 3) lattice translation of the neighbour, float64 holding integers.
        batch: (atoms,) structure of each atom, int64.
        n_local: number of leading atoms that are centres (all of them unless an engine adds ghosts).
    """

    numbers: Tensor
    positions: Tensor
    cell: Tensor
    pbc: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    batch: Tensor
    n_local: int

    @property
    def n_atoms(self) -> int:
        """Number of atoms, ghosts included."""
        return self.numbers.shape[0]

    @property
    def n_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.shape[1]

    @property
    def n_structures(self) -> int:
        """Number of structures in the batch."""
        return self.cell.shape[0]

    @property
    def volume(self) -> Tensor:
        """(structures,) volume of the cell (Å³); only meaningful where all three axes are periodic."""
        a, b, c = self.cell.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    def edge_vectors(self) -> Tensor:
        """(edges, 3) vectors from centre to neighbour (Å), float64."""
        i, j = self.edge_index
        cell = self.cell[0] if self.n_structures == 1 else self.cell[self.batch[i]]
        translation = self.edge_shift @ cell if cell.dim() == 2 else (self.edge_shift[:, None, :] @ cell)[:, 0]
        return self.positions.index_select(0, j) - self.positions.index_select(0, i) + translation

    def edge_lengths(self) -> Tensor:
        """(edges,) distances from centre to neighbour (Å), float64."""
        return torch.linalg.vector_norm(self.edge_vectors(), dim=1)

    def atoms_per_structure(self) -> Tensor:
        """(structures,) number of atoms of each structure."""
        return torch.bincount(self.batch, minlength=self.n_structures)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on another device; itself where it is there already."""
        if self.positions.device == torch.device(device):
            return self
        names = ("numbers", "positions", "cell", "pbc", "edge_index", "edge_shift", "batch")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def within(self, cutoff: float) -> Graph:
        """The same graph with only the edges shorter than ``cutoff`` (Å), as a Verlet list needs it."""
        keep = torch.nonzero(self.edge_lengths() < cutoff)[:, 0]
        edge_index, edge_shift = self.edge_index.index_select(1, keep), self.edge_shift.index_select(0, keep)
        return replace(self, edge_index=edge_index, edge_shift=edge_shift)


def graph_from_atoms(atoms: ase.Atoms, cutoff: float, *, edges: Edges | None = None) -> Graph:
    """The neighbour graph of one structure; ``atoms`` is not modified.

    Args:
        atoms: any structure: crystal, slab, wire, molecule, single atom.
        cutoff: neighbour radius (Å).
        edges: edges found before (a Verlet list, a store); searched for if not given.
    """
    positions, cell, pbc = atoms.get_positions(), np.asarray(atoms.cell), np.asarray(atoms.pbc)
    found = find_edges(positions, cell, pbc, cutoff) if edges is None else edges
    return Graph(
        numbers=torch.from_numpy(np.array(atoms.numbers, dtype=np.int64)),
        positions=torch.from_numpy(positions),
        cell=torch.from_numpy(np.array(cell, dtype=np.float64))[None],
        pbc=torch.from_numpy(np.array(pbc))[None],
        edge_index=torch.from_numpy(np.stack([found.centre, found.neighbour])),
        edge_shift=torch.from_numpy(found.shift.astype(np.float64)),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        n_local=len(atoms),
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Join graphs into one batch; the order of structures, atoms and edges is kept.

    Raises:
        ValueError: no graph was given, or one of them has ghost atoms.
    """
    if not graphs:
        raise ValueError("no graph to collate; give at least one")
    if any(graph.n_local != graph.n_atoms for graph in graphs):
        raise ValueError("a graph with ghost atoms cannot be batched with others")
    atoms = np.cumsum([0] + [graph.n_atoms for graph in graphs])
    structures = np.cumsum([0] + [graph.n_structures for graph in graphs])
    return Graph(
        numbers=torch.cat([graph.numbers for graph in graphs]),
        positions=torch.cat([graph.positions for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        pbc=torch.cat([graph.pbc for graph in graphs]),
        edge_index=torch.cat([graph.edge_index + int(n) for graph, n in zip(graphs, atoms, strict=False)], dim=1),
        edge_shift=torch.cat([graph.edge_shift for graph in graphs]),
        batch=torch.cat([graph.batch + int(n) for graph, n in zip(graphs, structures, strict=False)]),
        n_local=int(atoms[-1]),
    )
