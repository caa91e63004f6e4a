"""What processes tell each other of their atoms: features from an atom to its ghosts, gradients back.

LAMMPS gives every process its own atoms (local) and copies of atoms of other processes, or images of its own
(ghosts), each with the id of the atom it stands for. From these ids alone every process finds out where each ghost
belongs; between two reneighbourings of LAMMPS nothing of that changes.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forcefield.lammps.stopwatch import Stopwatch

Indices = NDArray[np.int64]


class GhostExchange:
    """Copies rows of atoms to their ghosts, and adds rows of ghosts to their atoms; collective over the processes.

    Args:
        comm: mpi4py communicator of the LAMMPS instance.
        stopwatch: gets the time spent, waiting for other processes included, under "exchange".
    """

    def __init__(self, comm: Any, stopwatch: Stopwatch | None = None) -> None:
        self.comm = comm
        self.stopwatch = stopwatch or Stopwatch()
        self.n_plans = 0
        self._tags: Indices = np.zeros(0, np.int64)
        self._n_local = -1

    def update(self, tags: Indices, n_local: int) -> None:
        """Plan anew if the atoms of any process have changed since the last plan.

        Args:
            tags: (atoms,) id of each local and ghost atom, local ones first.
            n_local: number of local atoms.

        Raises:
            ValueError: ids are missing or not unique, or a ghost stands for an atom that no process has.
        """
        with self.stopwatch("exchange"):
            changed = n_local != self._n_local or not np.array_equal(tags, self._tags)
            if self.comm.allreduce(int(changed)):
                self._plan(tags, n_local)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n_local, d) of local atoms to those of all atoms, (atoms, d)."""
        with self.stopwatch("exchange"):
            if rows.shape[1] == 0:
                return rows.new_zeros(len(self._source), 0)
            received = self._transfer(rows.index_select(0, self._sent.to(rows.device)), outwards=True)
            return torch.cat([rows, received]).index_select(0, self._source.to(rows.device))

    def backward(self, rows: Tensor) -> Tensor:
        """Transpose of `forward`: rows (atoms, d), those of ghosts added to their atoms, (n_local, d)."""
        with self.stopwatch("exchange"):
            if rows.shape[1] == 0:
                return rows.new_zeros(self._n_local, 0)
            n_received = int(self._receive_counts.sum())
            sums = rows.new_zeros(self._n_local + n_received, rows.shape[1])
            sums.index_add_(0, self._source.to(rows.device), rows)
            returned = self._transfer(sums[self._n_local :], outwards=False)
            return sums[: self._n_local].index_add(0, self._sent.to(rows.device), returned)

    def _transfer(self, rows: Tensor, *, outwards: bool) -> Tensor:
        """Rows ordered by the process they go to, for rows ordered by the process they come from."""
        counts = [self._send_counts, self._receive_counts]
        given, taken = counts if outwards else counts[::-1]
        if self.comm.size == 1:
            return rows
        buffer = np.ascontiguousarray(rows.detach().cpu().numpy())
        width = rows.shape[1]
        result = np.empty((int(taken.sum()), width), dtype=buffer.dtype)
        self.comm.Alltoallv([buffer, given * width], [result, taken * width])
        return torch.from_numpy(result).to(rows.device)

    def _plan(self, tags: Indices, n_local: int) -> None:
        """Where each ghost takes its rows from: a local atom, or one of the rows that come from other processes."""
        owned, ghosts = tags[:n_local], tags[n_local:]
        source = position_of(ghosts, owned)
        remote, place = np.unique(ghosts[source < 0], return_inverse=True)  # an atom with several images comes once
        owner, index = self._find_owners(owned, remote)
        order = np.argsort(owner, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        source[source < 0] = n_local + rank[place]
        wanted, self._send_counts = send_rows(self.comm, index[order, None], owner[order])
        self._receive_counts = np.bincount(owner, minlength=self.comm.size)
        self._sent = torch.from_numpy(wanted[:, 0].copy())
        self._source = torch.from_numpy(np.concatenate([np.arange(n_local), source]))
        self._tags, self._n_local = tags.copy(), n_local
        self.n_plans += 1

    def _find_owners(self, owned: Indices, remote: Indices) -> tuple[Indices, Indices]:
        """Process and index there of each remote atom, through a directory spread over the processes by id.

        Process ``id % size`` keeps the directory's entry of an atom, so memory does not grow with the largest id.
        """
        comm = self.comm
        entries = np.stack([owned, np.full(len(owned), comm.rank), np.arange(len(owned))], axis=1)
        directory, _ = send_rows(comm, entries, owned % comm.size)
        directory = directory[np.argsort(directory[:, 0], kind="stable")]
        _check_ids(directory[:, 0])
        asked, asking = send_rows(comm, remote[:, None], remote % comm.size)
        found = position_of(asked[:, 0], directory[:, 0])
        if np.any(found < 0):
            raise ValueError(
                f"ghost atom {int(asked[found < 0][0, 0])} stands for an atom that no process has; "
                "if your input changes atom ids between steps, run `reset_atoms id` and start a new run"
            )
        answers, _ = send_rows(comm, directory[found, 1:], np.repeat(np.arange(comm.size), asking))
        places = np.empty((len(remote), 2), np.int64)
        places[np.argsort(remote % comm.size, kind="stable")] = answers
        return places[:, 0], places[:, 1]


class RowExchange(Protocol):
    """What carries rows to ghosts and back: `GhostExchange`, or the pair style of LAMMPS itself."""

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n_local, d) of local atoms to those of all atoms, (atoms, d)."""

    def backward(self, rows: Tensor) -> Tensor:
        """Rows (atoms, d), those of ghosts added to their atoms, (n_local, d)."""


class OrderedExchange:
    """The exchange as networks call it between layers; differentiable, in the same order on every process.

    A token is handed from each call to the next. With its gradient asked for, the backward pass goes through every
    call, last to first, also on a process whose energies depend on none of them (no atoms, no neighbours); otherwise
    the others would wait for it for ever.
    """

    def __init__(self, ghosts: RowExchange, device: torch.device) -> None:
        self.ghosts = ghosts
        self.start = torch.zeros(1, dtype=torch.float64, device=device, requires_grad=True)
        self.token: Tensor = self.start

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n_local, d) to those of all atoms, (atoms, d)."""
        filled, self.token = _Fill.apply(features, self.token, self.ghosts)
        return filled


class _Fill(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, token: Tensor, ghosts: RowExchange) -> tuple[Tensor, Tensor]:
        ctx.ghosts = ghosts
        return ghosts.forward(features), token.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        return ctx.ghosts.backward(gradients[0]), gradients[1], None


def position_of(wanted: Indices, among: Indices) -> Indices:
    """First position of each value of ``wanted`` in ``among``, -1 where it is not there."""
    if len(among) == 0:
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(among, kind="stable")
    place = np.minimum(np.searchsorted(among, wanted, sorter=order), len(among) - 1)
    candidate = order[place]
    return np.where(among[candidate] == wanted, candidate, -1).astype(np.int64)


def send_rows(comm: Any, rows: Indices, target: Indices) -> tuple[Indices, Indices]:
    """Send each row to a process.

    Args:
        comm: mpi4py communicator.
        rows: (rows, d).
        target: (rows,) rank each row goes to.

    Returns:
        the rows that came, ordered by rank and within it as sent, and how many came from each rank (size,).
    """
    given = np.bincount(target, minlength=comm.size).astype(np.int64)
    if comm.size == 1:
        return rows, given
    taken = np.empty_like(given)
    comm.Alltoall(given, taken)
    ordered = np.ascontiguousarray(rows[np.argsort(target, kind="stable")])
    width = rows.shape[1]
    received = np.empty((int(taken.sum()), width), np.int64)
    comm.Alltoallv([ordered, given * width], [received, taken * width])
    return received, taken


def _check_ids(ids: Indices) -> None:
    """Refuse ids (sorted) that do not tell atoms apart."""
    if len(ids) and (ids[0] <= 0 or np.any(ids[1:] == ids[:-1])):
        raise ValueError("atoms need ids that are positive and unique; leave out `atom_modify id no`")
