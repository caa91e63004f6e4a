"""Relaxation with torch-sim, on the interface of `forcefield.workflows.batched.engine.BatchEngine`."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms

from forcefield.calculator import GNNCalculator
from forcefield.evaluation import Evaluator
from forcefield.workflows import relax_result as ended
from forcefield.workflows.batched.batch import Leaving
from forcefield.workflows.batched.members import Member, make_member, result_of
from forcefield.workflows.batched.outcome import BatchOutcome, failure
from forcefield.workflows.batched.torchsim_flight import Flight
from forcefield.workflows.relax_setup import RelaxOptions

ROUTE = "torch-sim"


class TorchSimEngine:
    """Relaxes structures with a model of this package and torch-sim's FIRE.

    Args:
        calculator: holds the model.
        options: options of the relaxations.
        automatic_cell: relax the cell of structures periodic along three axes, and of no others.
        max_edges: neighbour pairs in flight; None chooses by the device.
        skin: extra radius of the neighbour lists (Å).

    Raises:
        ImportError: torch-sim is not installed.
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
        self.calculator, self.options = calculator, options
        self.automatic_cell, self.skin = automatic_cell, skin
        self.evaluator = Evaluator(calculator.model.potential, compiled=calculator._compiled, max_edges=max_edges)
        self.evaluations = 0
        self._flights: dict[tuple[bool, bool], Flight] = {}  # by variable cell, and by periodicity
        self._boarding: list[Member] = []  # join at the next step
        self._waiting: Member | None = None  # the next one, for which there is no room
        self._new_flight(variable=False)  # says at once if torch-sim is not there

    def __len__(self) -> int:
        """Count the structures in flight and about to join."""
        return len(self._members()) + (self._waiting is not None)

    @property
    def n_edges(self) -> int:
        """Neighbour pairs in flight."""
        return sum(member.n_edges for member in self._members())

    def _members(self) -> list[Member]:
        return [*self._boarding, *(member for flight in self._flights.values() for member in flight.members)]

    def has_room(self) -> bool:
        """Whether another structure may come."""
        return self._waiting is None and (not self._members() or self.n_edges < self.evaluator.max_edges)

    def add(self, index: int, atoms: Atoms) -> None:
        """Take a structure in, at once or as soon as there is room.

        Raises:
            ValueError: for a structure that cannot be relaxed so.
        """
        self._waiting = make_member(
            index,
            atoms,
            self.evaluator.potential,
            self.options,
            automatic_cell=self.automatic_cell,
            skin=self.skin,
        )
        self._board()

    def _board(self) -> None:
        """Let the waiting structure in if it fits; one that is larger than the limit travels alone."""
        if self._waiting is None:
            return
        if not self._members() or self.n_edges + self._waiting.n_edges <= self.evaluator.max_edges:
            self._boarding.append(self._waiting)
            self._waiting = None

    def step(self) -> list[BatchOutcome]:
        """Make one step of every flight, and give what left it."""
        self._board()
        boarding, self._boarding = self._boarding, []
        leaving = [left for flight in self._flights.values() for left in flight.step()]
        leaving += self._let_in(boarding)
        self.evaluations += 1
        return [_outcome(left) for left in leaving]

    def interrupted(self) -> list[BatchOutcome]:
        """The last state of every structure in flight that was computed."""
        last = [Leaving(*pair, ended.INTERRUPTED) for flight in self._flights.values() for pair in flight.last()]
        return [_outcome(left) for left in last]

    def _let_in(self, boarding: Sequence[Member]) -> list[Leaving]:
        leaving = []
        for variable, periodic in sorted({_kind(member) for member in boarding}):
            new = self._new_flight(variable=variable)
            leaving += new.start([member for member in boarding if _kind(member) == (variable, periodic)])
            leaving += new.step()
            if (variable, periodic) not in self._flights:
                self._flights[variable, periodic] = self._new_flight(variable=variable)
            self._flights[variable, periodic].join(new)
        return leaving

    def _new_flight(self, *, variable: bool) -> Flight:
        return Flight(self.calculator, self.evaluator, self.options, variable=variable, skin=self.skin)


def _kind(member: Member) -> tuple[bool, bool]:
    return member.options.cell, bool(member.start.pbc.all())


def _outcome(left: Leaving) -> BatchOutcome:
    if left.snapshot is None:
        assert left.error is not None
        return failure(left.member.index, left.error, route=ROUTE)
    return BatchOutcome(left.member.index, result_of(left.member, left.snapshot, left.reason), route=ROUTE)
