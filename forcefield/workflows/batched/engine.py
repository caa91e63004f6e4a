"""What stands between a run and the structures in flight: lets them in as far as there is room, sums up what leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ase import Atoms

from forcefield.evaluation import Evaluator
from forcefield.workflows.batched.batch import Leaving
from forcefield.workflows.batched.members import Member, make_member, result_of
from forcefield.workflows.batched.outcome import BatchOutcome, failure
from forcefield.workflows.relax_setup import RelaxOptions


class Crew(Protocol):
    """The structures in flight, and what moves them: `Batch`, or `Fleet` by torch-sim."""

    @property
    def members(self) -> Sequence[Member]:
        """The structures."""

    def append(self, new: Sequence[Member]) -> None:
        """Take structures in."""

    def step(self) -> list[Leaving]:
        """Make one step, and give what left."""

    def interrupted(self) -> list[Leaving]:
        """The last state of every structure that was computed."""


class BatchEngine:
    """Relaxes structures with a model of this package.

    Args:
        evaluator: the potential, and how many neighbour pairs may be in flight.
        crew: moves the structures.
        options: options of the relaxations.
        automatic_cell: relax the cell of crystals, and of no others; see `settle_cell`.
        skin: extra radius of the neighbour lists (Å).
        route: what the outcomes say of the way they came.
    """

    def __init__(
        self, evaluator: Evaluator, crew: Crew, options: RelaxOptions, *, automatic_cell: bool, skin: float, route: str
    ) -> None:
        self.evaluator, self.crew, self.route = evaluator, crew, route
        self.options, self.automatic_cell, self.skin = options, automatic_cell, skin
        self.evaluations = 0
        self._boarding: list[Member] = []  # join at the next step
        self._waiting: Member | None = None  # the next one, for which there is no room

    def __len__(self) -> int:
        """Count the structures in flight and about to join."""
        return len(self.crew.members) + len(self._boarding) + (self._waiting is not None)

    @property
    def n_edges(self) -> int:
        """Neighbour pairs in flight, as counted when each structure came in."""
        return sum(member.n_edges for member in (*self.crew.members, *self._boarding))

    def has_room(self) -> bool:
        """Whether another structure may come."""
        return self._waiting is None and (self._empty() or self.n_edges < self.evaluator.max_edges)

    def _empty(self) -> bool:
        return not self.crew.members and not self._boarding

    def add(self, index: int, atoms: Atoms) -> None:
        """Take a structure in, at once or as soon as there is room.

        Raises:
            ValueError: for a structure that cannot be relaxed so.
        """
        potential = self.evaluator.potential
        self._waiting = make_member(
            index, atoms, potential, self.options, automatic_cell=self.automatic_cell, skin=self.skin
        )
        self._board()

    def _board(self) -> None:
        """Let the waiting structure in if it fits; one that is larger than the limit travels alone."""
        if self._waiting is None:
            return
        if self._empty() or self.n_edges + self._waiting.n_edges <= self.evaluator.max_edges:
            self._boarding.append(self._waiting)
            self._waiting = None

    def step(self) -> list[BatchOutcome]:
        """Make one step of all structures, and give what left."""
        self._board()
        boarding, self._boarding = self._boarding, []
        self.crew.append(boarding)
        self.evaluations += 1
        return [self._outcome(left) for left in self.crew.step()]

    def interrupted(self) -> list[BatchOutcome]:
        """The last state of every structure in flight that was computed."""
        return [self._outcome(left) for left in self.crew.interrupted()]

    def _outcome(self, left: Leaving) -> BatchOutcome:
        if left.snapshot is None:
            assert left.error is not None
            return failure(left.member.index, left.error, route=self.route)
        return BatchOutcome(left.member.index, result_of(left.member, left.snapshot, left.reason), route=self.route)
