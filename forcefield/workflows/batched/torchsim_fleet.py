"""Structures of all kinds moved by torch-sim, on the interface of `forcefield.workflows.batched.batch.Batch`."""

from __future__ import annotations

from collections.abc import Sequence

from forcefield.calculator import GNNCalculator
from forcefield.evaluation import Evaluator
from forcefield.workflows import relax_result as ended
from forcefield.workflows.batched.batch import Leaving
from forcefield.workflows.batched.members import Member
from forcefield.workflows.batched.torchsim_flight import Flight
from forcefield.workflows.relax_setup import RelaxOptions


class Fleet:
    """One flight for each kind of structure, as torch-sim wants them: crystals or molecules, cell fixed or variable.

    Args:
        calculator: holds the model.
        evaluator: evaluates graphs, in parts where memory does not suffice.
        options: options of the relaxations; `cell` comes from each structure.
        skin: extra radius of the neighbour lists (Å).

    Raises:
        ImportError: torch-sim is not installed.
    """

    def __init__(self, calculator: GNNCalculator, evaluator: Evaluator, options: RelaxOptions, *, skin: float) -> None:
        self.calculator, self.evaluator, self.options, self.skin = calculator, evaluator, options, skin
        self._flights: dict[tuple[bool, bool], Flight] = {}  # by variable cell, and by periodicity
        self._new: list[Member] = []  # make their first step at the next one
        self._new_flight(variable=False)  # says at once if torch-sim is not there

    @property
    def members(self) -> list[Member]:
        """The structures of all flights."""
        return [*self._new, *(member for flight in self._flights.values() for member in flight.members)]

    def append(self, new: Sequence[Member]) -> None:
        """Take structures in."""
        self._new.extend(new)

    def step(self) -> list[Leaving]:
        """Make one step of every flight, and give what left it."""
        leaving = [left for flight in self._flights.values() for left in flight.step()]
        new, self._new = self._new, []
        return leaving + self._let_in(new)

    def interrupted(self) -> list[Leaving]:
        """The last state of every structure in flight that was computed."""
        return [Leaving(*pair, ended.INTERRUPTED) for flight in self._flights.values() for pair in flight.last()]

    def _let_in(self, new: Sequence[Member]) -> list[Leaving]:
        leaving = []
        for variable, periodic in sorted({_kind(member) for member in new}):
            flight = self._new_flight(variable=variable)
            leaving += flight.start([member for member in new if _kind(member) == (variable, periodic)])
            leaving += flight.step()
            if (variable, periodic) not in self._flights:
                self._flights[variable, periodic] = self._new_flight(variable=variable)
            self._flights[variable, periodic].join(flight)
        return leaving

    def _new_flight(self, *, variable: bool) -> Flight:
        return Flight(self.calculator, self.evaluator, self.options, variable=variable, skin=self.skin)


def _kind(member: Member) -> tuple[bool, bool]:
    return member.options.cell, bool(member.start.pbc.all())
