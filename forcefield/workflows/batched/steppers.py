"""Optimizers over all rows of a batch at once: each structure goes its own way, as if it were alone.

The parameters are those of ASE's optimizers of the same names, so that a structure takes the same steps in a batch as
by itself. Structures join and leave between steps.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from forcefield.nn.scatter import scatter_sum
from forcefield.workflows.batched.rows import Rows

MAX_STEP = 0.2  # Å


class Stepper(Protocol):
    """What the batch asks of an optimizer."""

    def append(self, n_structures: int, n_rows: int, device: torch.device) -> None:
        """Take structures in at the end that have made no step."""

    def keep(self, structures: Tensor, rows: Tensor) -> None:
        """Forget all structures and rows but these (masks)."""

    def step(self, rows: Rows, coordinates: Tensor, forces: Tensor) -> Tensor:
        """Give the coordinates (rows, 3) after one step."""


class Fire:
    """Fast inertial relaxation engine, https://doi.org/10.1103/PhysRevLett.97.170201.

    A step is no longer than `MAX_STEP` as a vector of all rows of a structure.
    """

    start_time_step, longest_time_step = 0.1, 1.0
    start_mixing, mixing_decay = 0.1, 0.99
    grow, shrink, patience = 1.1, 0.5, 5

    def __init__(self) -> None:
        empty = torch.zeros(0, dtype=torch.float64)
        self.velocity = empty.reshape(0, 3)
        self.time_step, self.mixing, self.downhill = empty, empty, empty  # (structures,)

    def append(self, n_structures: int, n_rows: int, device: torch.device) -> None:
        """Take structures in at the end that have made no step."""

        def longer(values: Tensor, shape: tuple[int, ...], value: float) -> Tensor:
            new = torch.full(shape, value, dtype=torch.float64, device=device)
            return torch.cat([values.to(device), new])

        self.velocity = longer(self.velocity, (n_rows, 3), 0.0)
        self.time_step = longer(self.time_step, (n_structures,), self.start_time_step)
        self.mixing = longer(self.mixing, (n_structures,), self.start_mixing)
        self.downhill = longer(self.downhill, (n_structures,), -1.0)  # steps downhill in a row; -1 before the first

    def keep(self, structures: Tensor, rows: Tensor) -> None:
        """Forget all structures and rows but these (masks)."""
        self.velocity = self.velocity[rows]
        self.time_step, self.mixing = self.time_step[structures], self.mixing[structures]
        self.downhill = self.downhill[structures]

    def step(self, rows: Rows, coordinates: Tensor, forces: Tensor) -> Tensor:
        """Give the coordinates (rows, 3) after one step."""
        self._turn(rows, forces)
        self.velocity = self.velocity + self.time_step[rows.owner, None] * forces
        move = self.time_step[rows.owner, None] * self.velocity
        length = rows.dot(move, move).sqrt()
        shortened = torch.where(length > MAX_STEP, MAX_STEP / length, 1.0)
        return coordinates + shortened[rows.owner, None] * move

    def _turn(self, rows: Rows, forces: Tensor) -> None:
        """Turn velocities towards the forces where they lead downhill, and stop them where not."""
        first = self.downhill < 0
        falling = rows.dot(forces, self.velocity) > 0.0
        ratio = (rows.dot(self.velocity, self.velocity) / rows.dot(forces, forces).clamp_min(1e-300)).sqrt()
        own, towards = 1.0 - self.mixing, self.mixing * ratio
        own, towards = (torch.where(falling, part, 0.0) for part in (own, towards))
        self.velocity = own[rows.owner, None] * self.velocity + towards[rows.owner, None] * forces
        patient = falling & (self.downhill > self.patience)
        faster = (self.time_step * self.grow).clamp_max(self.longest_time_step)
        slower = torch.where(first, self.time_step, self.time_step * self.shrink)
        self.time_step = torch.where(falling, torch.where(patient, faster, self.time_step), slower)
        decayed = torch.where(patient, self.mixing * self.mixing_decay, self.mixing)
        self.mixing = torch.where(falling, decayed, self.start_mixing)
        self.downhill = torch.where(falling, self.downhill + 1.0, 0.0)


class LimitedMemory:
    """L-BFGS without line search, https://doi.org/10.1007/BF01589116.

    A step moves no row further than `MAX_STEP`. A structure without a past has pairs of weight zero.
    """

    curvature, memory = 70.0, 100  # eV/Å² of the first guess; pairs remembered

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # moves (rows, 3), gradient changes, weights (structures,)
        self.before: tuple[Tensor, Tensor] | None = None  # coordinates and forces of the last step
        self.fresh = torch.zeros(0, dtype=torch.bool)  # (structures,) no step made

    def append(self, n_structures: int, n_rows: int, device: torch.device) -> None:
        """Take structures in at the end that have made no step."""
        zeros = torch.zeros(n_rows, 3, dtype=torch.float64, device=device)
        weightless = torch.zeros(n_structures, dtype=torch.float64, device=device)
        self.pairs = [
            (torch.cat([s, zeros]), torch.cat([y, zeros]), torch.cat([w, weightless])) for s, y, w in self.pairs
        ]
        if self.before is None:
            self.before = (zeros, zeros)
        else:
            self.before = (torch.cat([self.before[0], zeros]), torch.cat([self.before[1], zeros]))
        new = torch.ones(n_structures, dtype=torch.bool, device=device)
        self.fresh = torch.cat([self.fresh.to(device), new])

    def keep(self, structures: Tensor, rows: Tensor) -> None:
        """Forget all structures and rows but these (masks)."""
        kept = [(s[rows], y[rows], w[structures]) for s, y, w in self.pairs]
        self.fresh = self.fresh[structures]
        while kept and not bool(kept[0][2].any()):
            kept.pop(0)  # nobody is left who remembers it
        self.pairs = kept
        if self.before is not None:
            self.before = (self.before[0][rows], self.before[1][rows])

    def step(self, rows: Rows, coordinates: Tensor, forces: Tensor) -> Tensor:
        """Give the coordinates (rows, 3) after one step."""
        self._remember(rows, coordinates, forces)
        move = self._direction(rows, forces)
        longest = forces.new_zeros(rows.n_structures)
        longest = longest.scatter_reduce(0, rows.owner, torch.linalg.vector_norm(move, dim=1), "amax")
        shortened = torch.where(longest >= MAX_STEP, MAX_STEP / longest, 1.0)
        return coordinates + shortened[rows.owner, None] * move

    def _remember(self, rows: Rows, coordinates: Tensor, forces: Tensor) -> None:
        assert self.before is not None
        if not bool(self.fresh.all()):
            moved, change = coordinates - self.before[0], self.before[1] - forces
            product = rows.dot(moved, change)
            known = ~self.fresh & (product != 0.0)
            weight = torch.where(known, 1.0 / torch.where(known, product, 1.0), 0.0)
            self.pairs.append((moved, change, weight))
        if len(self.pairs) > self.memory:
            self.pairs.pop(0)
        self.before = (coordinates, forces)
        self.fresh = torch.zeros_like(self.fresh)

    def _direction(self, rows: Rows, forces: Tensor) -> Tensor:
        """Two loops over the pairs: the inverse Hessian times the forces."""
        direction, shares = forces, []
        for moved, change, weight in reversed(self.pairs):
            share = weight * rows.dot(moved, direction)
            direction = direction - share[rows.owner, None] * change
            shares.append(share)
        direction = direction / self.curvature
        for (moved, change, weight), share in zip(self.pairs, reversed(shares), strict=True):
            rest = share - weight * rows.dot(change, direction)
            direction = direction + rest[rows.owner, None] * moved
        return direction


STEPPERS: dict[str, type[Fire] | type[LimitedMemory]] = {"fire": Fire, "lbfgs": LimitedMemory}
"""The optimizers named in `BATCH_OPTIMIZERS`, in lower case."""


def largest_row(values: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Length of the longest of the rows (atoms, 3) of each structure, (structures,); NaN where one is NaN."""
    lengths = torch.linalg.vector_norm(values, dim=1)
    largest = lengths.new_zeros(n_structures).scatter_reduce(0, batch, lengths, "amax")
    broken = scatter_sum((~torch.isfinite(lengths)).to(lengths.dtype), batch, n_structures) > 0
    return torch.where(broken, torch.nan, largest)
