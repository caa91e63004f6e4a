"""The batch of a run: lets structures in as far as there is room, and turns what leaves into outcomes."""

from __future__ import annotations

from ase import Atoms

from forcefield.calculator import GNNCalculator
from forcefield.evaluation import Evaluator
from forcefield.workflows.batched.batch import Batch, Leaving
from forcefield.workflows.batched.members import Member, make_member, result_of
from forcefield.workflows.batched.outcome import BatchOutcome, failure
from forcefield.workflows.relax_setup import RelaxOptions


class BatchEngine:
    """Relaxes structures with a model of this package.

    Args:
        calculator: holds the model.
        options: options of the relaxations.
        automatic_cell: relax the cell of structures periodic along three axes, and of no others.
        max_edges: neighbour pairs in flight; None chooses by the device.
        skin: extra radius of the neighbour lists (Å).
    """

    def __init__(
        self,
        calculator: GNNCalculator,
        options: RelaxOptions,
        *,
        automatic_cell: bool,
        max_edges: int | None,
        skin: float,
    ) -> None:
        potential = calculator.model.potential
        self.evaluator = Evaluator(potential, compiled=calculator._compiled, max_edges=max_edges)
        self.batch = Batch(self.evaluator, options, skin=skin)
        self.options, self.automatic_cell, self.skin = options, automatic_cell, skin
        self.evaluations = 0
        self._boarding: list[Member] = []  # join at the next step
        self._waiting: Member | None = None  # the next one, for which there is no room

    def __len__(self) -> int:
        """Count the structures in flight and about to join."""
        return len(self.batch) + len(self._boarding) + (self._waiting is not None)

    @property
    def n_edges(self) -> int:
        """Neighbour pairs in flight."""
        return self.batch.n_edges + sum(member.n_edges for member in self._boarding)

    def has_room(self) -> bool:
        """Whether another structure may come."""
        return self._waiting is None and (self._empty() or self.n_edges < self.evaluator.max_edges)

    def _empty(self) -> bool:
        return not self.batch.members and not self._boarding

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
        """Make one step of the batch, and give what left it."""
        self._board()
        self.batch.append(self._boarding)
        self._boarding = []
        self.evaluations += 1
        return [_outcome(left) for left in self.batch.step()]

    def interrupted(self) -> list[BatchOutcome]:
        """The last state of every structure in flight that was computed."""
        return [_outcome(left) for left in self.batch.interrupted()]


def _outcome(left: Leaving) -> BatchOutcome:
    if left.snapshot is None:
        assert left.error is not None
        return failure(left.member.index, left.error)
    return BatchOutcome(left.member.index, result_of(left.member, left.snapshot, left.reason))
