"""The atoms of one LAMMPS process as a graph: local atoms are centres, ghosts only send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forcefield.graph import Graph
from forcefield.neighbours import Edges, SkinList


@dataclass(frozen=True)
class RankAtoms:
    """What one process has of the system, local atoms first.

    Attributes:
        positions: (atoms, 3) Cartesian (Å), ghosts where their images are.
        types: (atoms,) LAMMPS atom types, from 1.
        tags: (atoms,) LAMMPS atom ids; a ghost has that of the atom it stands for.
        n_local: number of local atoms.
    """

    positions: NDArray[np.float64]
    types: NDArray[np.int64]
    tags: NDArray[np.int64]
    n_local: int


def read_atoms(lmp: Any, n_local: int) -> RankAtoms:
    """Copy the local and ghost atoms of this process out of LAMMPS.

    Args:
        lmp: the LAMMPS instance.
        n_local: number of local atoms.
    """
    n_atoms = n_local + int(lmp.extract_global("nghost"))
    if n_atoms == 0:  # LAMMPS may not have allocated anything yet
        empty = np.zeros(0, np.int64)
        return RankAtoms(np.zeros((0, 3)), empty, empty, 0)

    def column(name: str, dtype: type) -> NDArray[Any]:
        return np.array(lmp.numpy.extract_atom(name, nelem=n_atoms)[:n_atoms], dtype=dtype)

    return RankAtoms(column("x", np.float64), column("type", np.int64), column("id", np.int64), n_local)


class RankGraphs:
    """Makes the graph of each step, with a Verlet list that stays until an atom may have crossed its skin.

    Args:
        cutoff: neighbour radius of the network (Å).
        skin: extra radius of the list (Å).
        numbers: (types + 1,) atomic number of each LAMMPS type, entry 0 unused.
    """

    def __init__(self, cutoff: float, skin: float, numbers: NDArray[np.int64]) -> None:
        self.cutoff = float(cutoff)
        self.numbers = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
        self.neighbours = SkinList(cutoff, skin)
        self._edges: Edges | None = None
        self._n_local = -1
        self._edge_index = torch.zeros(2, 0, dtype=torch.int64)

    def graph(self, atoms: RankAtoms) -> Graph:
        """The graph of local and ghost atoms, in open space: every image that counts is a ghost.

        Args:
            atoms: what this process has.
        """
        positions = torch.from_numpy(atoms.positions)
        edge_index = self._candidates(atoms)
        graph = Graph(
            numbers=self.numbers[torch.from_numpy(atoms.types)],
            positions=positions,
            cell=positions.new_zeros(1, 3, 3),
            pbc=torch.zeros(1, 3, dtype=torch.bool),
            edge_index=edge_index,
            edge_shift=positions.new_zeros(edge_index.shape[1], 3),
            batch=torch.zeros(len(atoms.positions), dtype=torch.int64),
            n_local=atoms.n_local,
        )
        return graph.within(self.cutoff)

    def _candidates(self, atoms: RankAtoms) -> torch.Tensor:
        """(2, edges) of local centres within cutoff and skin; the list depends on positions only, not on ids."""
        if atoms.n_local == 0:
            return torch.zeros(2, 0, dtype=torch.int64)
        edges = self.neighbours.edges(atoms.positions, np.zeros((3, 3)), np.zeros(3, dtype=bool))
        if edges is not self._edges or atoms.n_local != self._n_local:
            count = int(np.searchsorted(edges.centre, atoms.n_local))
            self._edge_index = torch.from_numpy(np.stack([edges.centre[:count], edges.neighbour[:count]]))
            self._edges, self._n_local = edges, atoms.n_local
        return self._edge_index
