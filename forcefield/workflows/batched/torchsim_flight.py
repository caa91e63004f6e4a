"""Structures that torch-sim moves together, and what it does not keep apart: who stays, since when, and why not.

The steps are those of torch-sim's FIRE in the flavour of ASE, with cells through the logarithm of the deformation
(`frechet`), which are the variables of `relax` too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from forcefield.calculator import GNNCalculator
from forcefield.evaluation import Evaluator
from forcefield.graph import collate, graph_from_atoms
from forcefield.torchsim import ForceFieldModel
from forcefield.units import GPA
from forcefield.workflows.batched.batch import Leaving
from forcefield.workflows.batched.computed import Computed, Known, ended_structures, last_states, snapshots_of
from forcefield.workflows.batched.members import Member, Snapshot
from forcefield.workflows.batched.steppers import largest_row
from forcefield.workflows.relax_result import NON_FINITE
from forcefield.workflows.relax_setup import RelaxOptions

State = Any
Step = Callable[[State], State]


def fire(model: ForceFieldModel, *, variable: bool, pressure: float) -> tuple[Step, Step]:
    """torch-sim's FIRE, as a function that makes its state of a plain one, and one that makes a step.

    Args:
        model: evaluates states.
        variable: relax the cell too.
        pressure: external pressure (eV/Å³).
    """
    import torch_sim
    from torch_sim import optimizers

    if hasattr(torch_sim, "fire_init"):  # torch-sim 0.4 and newer
        own = {"cell_filter": torch_sim.CellFilter.frechet, "scalar_pressure": pressure} if variable else {}
        return lambda state: torch_sim.fire_init(state, model, **own), lambda state: torch_sim.fire_step(state, model)
    if variable:
        return optimizers.frechet_cell_fire(model, scalar_pressure=pressure, md_flavor="ase_fire")
    return optimizers.fire(model, md_flavor="ase_fire")


class Flight:
    """Structures moved together: all crystals or all molecules, and all with a fixed or all with a variable cell.

    Args:
        calculator: holds the model.
        evaluator: evaluates graphs, in parts where memory does not suffice.
        options: options of the relaxations.
        variable: relax the cells.
        skin: extra radius of the neighbour lists (Å).
    """

    def __init__(
        self, calculator: GNNCalculator, evaluator: Evaluator, options: RelaxOptions, *, variable: bool, skin: float
    ) -> None:
        self.options, self.variable, self.evaluator = options, variable, evaluator
        self.model = ForceFieldModel(calculator, skin=skin, evaluator=evaluator)
        self.initialise, self.advance = fire(self.model, variable=variable, pressure=options.pressure * GPA)
        self.members: list[Member] = []
        self.state: State = None
        self.known: Known | None = None

    def start(self, members: Sequence[Member]) -> list[Leaving]:
        """Compute the first results of some structures; those for which that fails leave at once."""
        from torch_sim import initialize_state

        structures = [member.initial for member in members]
        self.members = list(members)
        self.state = initialize_state(structures, self.model.device, self.model.dtype)
        return self._apply(self.initialise)

    def join(self, other: Flight) -> None:
        """Take over the structures of another flight, which have made their first step.

        torch-sim treats a first step differently, and for the whole batch, so it is made before structures join.
        """
        from torch_sim import concatenate_states

        if not other.members:
            return
        self.state = other.state if not self.members else concatenate_states([self.state, other.state])
        self.members = [*self.members, *other.members]

    def step(self) -> list[Leaving]:
        """Let those that have ended leave, and move the others one step on."""
        if not self.members:
            return []
        computed = self._computed()
        before, self.known = self.known, (list(self.members), computed)
        volumes = [abs(np.linalg.det(member.initial.cell.array)) for member in self.members]
        ratio = torch.linalg.det(computed.cells).abs() / torch.tensor(volumes, device=computed.cells.device)
        variable = torch.full_like(ratio, self.variable, dtype=torch.bool)
        reasons = ended_structures(self.known, ratio, variable, self.options)
        self._add_stress(self.known, list(reasons))
        if NON_FINITE in reasons.values() and before is not None:
            self._add_stress(before, range(len(before[0])))
        states = last_states(self.known, before, reasons)
        leaving = [Leaving(self.members[k], states[k], reason) for k, reason in reasons.items()]
        self._keep([k for k in range(len(self.members)) if k not in reasons])
        if self.members:
            leaving += self._apply(self.advance)
        for member in self.members:
            member.steps += 1
        return leaving

    def last(self) -> list[tuple[Member, Snapshot]]:
        """The last state of every structure that was computed."""
        if self.known is None:
            return []
        members, computed = self.known
        self._add_stress(self.known, range(len(members)))
        return list(zip(members, snapshots_of(members, computed, range(len(members))), strict=True))

    def _apply(self, function: Step) -> list[Leaving]:
        """Let torch-sim work on all; where that fails, on one after the other, and those it fails for leave."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self.state = function(self.state.clone())
            return []
        except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
            if len(self.members) == 1:
                return self._fail({0: error})
        done: list[State] = []
        failed: dict[int, Exception] = {}
        for k in range(len(self.members)):
            try:
                done.append(function(self.state[[k]].clone()))
            except (ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
                failed[k] = error
        leaving = self._fail(failed)
        if done:
            from torch_sim import concatenate_states

            self.state = concatenate_states(done)
        return leaving

    def _fail(self, failed: dict[int, Exception]) -> list[Leaving]:
        leaving = [Leaving(self.members[k], None, "failed", error) for k, error in failed.items()]
        self.members = [member for k, member in enumerate(self.members) if k not in failed]
        return leaving

    def _keep(self, staying: list[int]) -> None:
        if len(staying) < len(self.members):
            self.members = [self.members[k] for k in staying]
            self.state = self.state[staying] if staying else None

    def _computed(self) -> Computed:
        state, members = self.state, self.members
        energy, forces = state.energy.clone(), state.forces.clone()
        stress = state.stress.clone() if self.variable else energy.new_zeros(len(members), 3, 3)
        target = -self.options.pressure * GPA * torch.eye(3, dtype=stress.dtype, device=stress.device)
        deviation = (stress - target).abs().amax(dim=(1, 2))
        return Computed(
            steps=torch.tensor([member.steps for member in members], device=energy.device),
            positions=state.positions.clone(),
            cells=state.row_vector_cell.clone(),
            energy=energy,
            raw_energy=energy,
            raw_forces=forces,
            raw_stress=stress,
            forces=forces,
            stress=stress,
            max_force=largest_row(forces, state.system_idx, len(members)),
            max_stress=deviation if self.variable else torch.zeros_like(deviation),
        )

    def _add_stress(self, known: Known | None, which: Sequence[int]) -> None:
        """Put the stresses of some crystals with a fixed cell into results; torch-sim does not keep those."""
        if known is None or self.variable or not len(which) or not known[0][0].start.pbc.all():
            return
        members, computed = known
        first = np.cumsum([0] + [len(member) for member in members])
        graphs = []
        for k in which:
            atoms = members[k].initial.copy()
            atoms.positions = computed.positions[first[k] : first[k + 1]].cpu().numpy()
            graphs.append(graph_from_atoms(atoms, self.evaluator.potential.cutoff))
        found = self.evaluator(collate(graphs).to(computed.positions.device))
        computed.raw_stress[list(which)] = found.stress
