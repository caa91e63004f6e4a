"""Verlet lists of a whole batch: one check on the device, a new search for the structures that moved too far only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from forcefield.graph import Graph
from forcefield.neighbours import Edges, find_edges
from forcefield.workflows.batched.members import Member
from forcefield.workflows.batched.rows import Rows
from forcefield.workflows.batched.steppers import largest_row


def stale_lists(
    rows: Rows,
    positions: Tensor,
    deformation: Tensor,
    built_positions: Tensor,
    built_deformation: Tensor,
    *,
    cutoff: float,
    skin: float,
) -> Tensor:
    """Which structures need new neighbours: the criterion of `forcefield.neighbours.SkinList` for many at once.

    Args:
        rows: where the atoms are.
        positions: (atoms, 3) now (Å).
        deformation: (structures, 3, 3) deformation gradients now.
        built_positions: (atoms, 3) when the lists were built (Å).
        built_deformation: (structures, 3, 3) likewise.
        cutoff: interaction radius (Å).
        skin: extra radius of the lists (Å).

    Returns:
        (structures,) bool.
    """
    since = torch.linalg.solve(built_deformation.transpose(1, 2), deformation.transpose(1, 2))  # row vectors
    displacement = positions - (built_positions[:, None, :] @ since[rows.batch])[:, 0]
    largest = largest_row(displacement, rows.batch, rows.n_structures)
    stretch = torch.linalg.svdvals(since)[:, -1]
    return ~((cutoff + skin) * stretch - 2.0 * largest >= cutoff)


def rebuild(
    members: Sequence[Member], stale: Sequence[int], positions: Tensor, cells: Tensor, radius: float
) -> dict[int, ValueError | MemoryError]:
    """Search the neighbours of some structures anew.

    Args:
        members: the structures of the batch; the lists of the stale ones are replaced.
        stale: which ones.
        positions: (atoms, 3) of the batch (Å).
        cells: (structures, 3, 3) (Å).
        radius: cutoff and skin (Å).

    Returns:
        The structures for which it failed, and why.
    """
    first = np.cumsum([0] + [len(member) for member in members])
    host_positions, host_cells = positions.cpu().numpy(), cells.cpu().numpy()
    failed: dict[int, ValueError | MemoryError] = {}
    for k in stale:
        own = host_positions[first[k] : first[k + 1]]
        try:
            members[k].edges = find_edges(own, host_cells[k], members[k].start.pbc, radius)
        except (ValueError, MemoryError) as error:  # a cell that has become flat belongs to this structure alone
            failed[k] = error
    return failed


class EdgeLists:
    """The edges of all structures joined, kept on the device until one of them changes."""

    def __init__(self, members: Sequence[Member], device: torch.device) -> None:
        lists: list[Edges] = [member.edges for member in members]
        first = np.cumsum([0] + [len(member) for member in members])[:-1]
        offsets = np.repeat(first, [len(edges.centre) for edges in lists])
        centre = np.concatenate([edges.centre for edges in lists]) + offsets
        neighbour = np.concatenate([edges.neighbour for edges in lists]) + offsets
        shift = np.concatenate([edges.shift for edges in lists]).astype(np.float64)
        self.edge_index = torch.from_numpy(np.stack([centre, neighbour])).to(device)
        self.edge_shift = torch.from_numpy(shift).to(device)
        self.numbers = torch.from_numpy(np.concatenate([m.start.numbers for m in members]).astype(np.int64)).to(device)
        self.pbc = torch.from_numpy(np.stack([np.asarray(m.start.pbc) for m in members])).to(device)

    def graph(self, rows: Rows, positions: Tensor, cells: Tensor, cutoff: float) -> Graph:
        """The graph of the batch with the edges within the cutoff."""
        graph = Graph(
            numbers=self.numbers,
            positions=positions,
            cell=cells,
            pbc=self.pbc,
            edge_index=self.edge_index,
            edge_shift=self.edge_shift,
            batch=rows.batch,
            n_local=positions.shape[0],
        )
        return graph.within(cutoff)
