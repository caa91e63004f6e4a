"""Verlet lists of a batch whose structures come and go, as torch-sim swaps them.

One check on the device for all structures, by the criterion of `forcefield.neighbours.SkinList`; a new search only for
those that moved too far. torch-sim says nothing about which structure is which between two calls. A list belongs to no
particular structure, however: it holds for any positions that are near those it was built for. So the lists are handed
on in order, and whatever does not fit any more is searched anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forcefield.neighbours import Edges, completed_cell, find_edges


class BuiltList(NamedTuple):
    """Neighbours of one structure and what they were built for."""

    edges: Edges
    positions: Tensor  # (atoms, 3) Å
    lattice: Tensor  # (3, 3) Å, completed


class BatchNeighbours:
    """Neighbour lists of the structures of a batch.

    Args:
        cutoff: interaction radius (Å).
        skin: extra radius (Å); 0 builds every list at every call.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.builds = 0
        self._lists: list[BuiltList] = []
        self._joined: tuple[Tensor, Tensor] | None = None
        self._pbc = np.zeros(3, dtype=bool)

    def edges(
        self, positions: Tensor, cell: Tensor, pbc: np.ndarray, atoms_per_structure: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Edges of all structures, some longer than the cutoff by up to the skin.

        Args:
            positions: (atoms, 3) Å, float64.
            cell: (structures, 3, 3) Å, rows are lattice vectors.
            pbc: (3,) periodic axes of all structures.
            atoms_per_structure: how many of the atoms, in order, belong to each.

        Returns:
            edge_index (2, edges) and edge_shift (edges, 3) as in `forcefield.graph.Graph`.
        """
        counts = list(atoms_per_structure)
        lattice = completed_cells(cell, pbc)
        if not np.array_equal(pbc, self._pbc):
            self._lists, self._pbc = [], np.array(pbc, dtype=bool)
        self._hand_on(counts, positions, lattice)
        batch = torch.repeat_interleave(torch.tensor(counts, device=positions.device))
        image, stale = self._compare(positions, lattice, batch)
        which = torch.nonzero(stale)[:, 0].tolist()
        if which:
            self._search(which, positions, cell, lattice, counts)
            image[stale[batch]] = 0.0
        if self._joined is None:
            self._joined = self._join(counts, positions.device)
        edge_index, edge_shift = self._joined
        if not bool(image.any()):
            return edge_index, edge_shift
        return edge_index, edge_shift + image[edge_index[0]] - image[edge_index[1]]

    def _hand_on(self, counts: Sequence[int], positions: Tensor, lattice: Tensor) -> None:
        """Give each structure the next list for as many atoms, or an empty one that no positions fit."""
        if [len(known.positions) for known in self._lists] == counts:
            return
        old, place = self._lists, 0
        nowhere = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64))
        self._lists, self._joined = [], None
        for number, own in enumerate(torch.split(positions, list(counts))):
            found = next((k for k in range(place, len(old)) if len(old[k].positions) == len(own)), None)
            if found is None:
                self._lists.append(BuiltList(nowhere, torch.full_like(own, torch.inf), lattice[number]))
            else:
                self._lists.append(old[found])
                place = found + 1

    def _compare(self, positions: Tensor, lattice: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Lattice translations of the atoms since their list was built (atoms, 3), and which lists are stale."""
        built = torch.cat([known.positions for known in self._lists])
        since = torch.linalg.solve(torch.stack([known.lattice for known in self._lists]), lattice)
        motion = positions - (built[:, None, :] @ since[batch])[:, 0]
        periodic = torch.from_numpy(self._pbc).to(positions.device)
        fractional = (motion[:, None, :] @ torch.linalg.inv(lattice)[batch])[:, 0]
        image = torch.where(periodic & torch.isfinite(fractional), torch.round(fractional), 0.0)
        displacement = motion - (image[:, None, :] @ lattice[batch])[:, 0]
        length = torch.nan_to_num(torch.linalg.vector_norm(displacement, dim=1), nan=torch.inf)
        largest = length.new_zeros(len(lattice)).scatter_reduce(0, batch, length, "amax")
        stretch = torch.linalg.svdvals(since)[:, -1]
        valid = (self.cutoff + self.skin) * stretch - 2.0 * largest >= self.cutoff
        return image, ~valid | (self.skin <= 0.0)

    def _search(
        self, which: Sequence[int], positions: Tensor, cell: Tensor, lattice: Tensor, counts: Sequence[int]
    ) -> None:
        host = np.split(positions.cpu().numpy(), np.cumsum(counts)[:-1])
        cells, own = cell.cpu().numpy(), torch.split(positions, list(counts))
        for k in which:
            edges = find_edges(host[k], cells[k], self._pbc, self.cutoff + self.skin)
            self._lists[k] = BuiltList(edges, own[k].clone(), lattice[k].clone())
        self.builds += len(which)
        self._joined = None

    def _join(self, counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        lists = [known.edges for known in self._lists]
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        offset = np.repeat(first, [len(edges.centre) for edges in lists])
        ends = [np.concatenate([getattr(edges, end) for edges in lists]) + offset for end in ("centre", "neighbour")]
        shift = np.concatenate([edges.shift for edges in lists]).astype(np.float64)
        return torch.from_numpy(np.stack(ends)).to(device), torch.from_numpy(shift).to(device)


def completed_cells(cell: Tensor, pbc: np.ndarray) -> Tensor:
    """`forcefield.neighbours.completed_cell` of many cells, (structures, 3, 3)."""
    if np.all(pbc):
        return cell
    cells = [completed_cell(one, pbc) for one in cell.cpu().numpy()]
    return torch.from_numpy(np.stack(cells)).to(cell.device)
