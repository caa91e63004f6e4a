"""The structures in flight: one graph, one evaluation and one optimizer step for all of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from forcefield.evaluation import Evaluator
from forcefield.graph import Graph
from forcefield.structures import TooLargeError
from forcefield.units import GPA
from forcefield.workflows import relax_result as ended
from forcefield.workflows.batched.computed import Computed, ended_structures, last_states, snapshots_of
from forcefield.workflows.batched.constrained import constrain_moves, constrain_results
from forcefield.workflows.batched.members import Member, Snapshot
from forcefield.workflows.batched.neighbours import EdgeLists, rebuild, stale_lists
from forcefield.workflows.batched.rows import Rows, make_rows, row_forces
from forcefield.workflows.batched.steppers import STEPPERS, Stepper, largest_row
from forcefield.workflows.relax_setup import RelaxOptions


class Leaving(NamedTuple):
    """A structure that leaves a batch: its last state and why, or the error that ended it."""

    member: Member
    snapshot: Snapshot | None
    reason: str
    error: Exception | None = None


class Batch:
    """Structures that are relaxed at the same time.

    Args:
        evaluator: the potential.
        options: options of the relaxations; `cell` comes from each structure.
        skin: extra radius of the neighbour lists (Å).
    """

    def __init__(self, evaluator: Evaluator, options: RelaxOptions, *, skin: float) -> None:
        self.evaluator, self.options, self.skin = evaluator, options, skin
        self.device = evaluator.potential.device
        self.members: list[Member] = []
        self.stepper: Stepper = STEPPERS[options.optimizer.lower()]()
        self.rows: Rows = make_rows([], self.device)
        self.coordinates = torch.zeros(0, 3, dtype=torch.float64, device=self.device)  # (rows, 3)
        self._edges: EdgeLists | None = None
        self._computed: tuple[list[Member], Computed] | None = None  # the last results and whose they are
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        self._start_cells, self._built_deformation = none.reshape(0, 3, 3), none.reshape(0, 3, 3)
        self._built_positions, self._free = none.reshape(0, 3), none.reshape(0, 1)
        self._variable = torch.zeros(0, dtype=torch.bool, device=self.device)

    def append(self, new: Sequence[Member]) -> None:
        """Take structures in."""
        if not new:
            return

        def extended(before: Tensor, arrays: list[np.ndarray]) -> Tensor:
            return torch.cat([before, torch.from_numpy(np.concatenate(arrays)).to(self.device, before.dtype)])

        rows = make_rows([len(member) for member in new], self.device)
        positions = extended(self._built_positions[:0], [member.initial.positions for member in new])
        coordinates = rows.join(positions, positions.new_zeros(len(new), 3, 3))
        self.coordinates = torch.cat([self.coordinates, coordinates])
        self._built_positions = torch.cat([self._built_positions, positions])
        self._built_deformation = extended(self._built_deformation, [np.eye(3)[None] for _ in new])
        self._start_cells = extended(self._start_cells, [member.initial.cell.array[None] for member in new])
        self._free = extended(self._free, [~member.fixed[:, None] for member in new])
        self._variable = extended(self._variable, [np.array([member.options.cell]) for member in new])
        self.stepper.append(len(new), len(coordinates), self.device)
        self._set_members([*self.members, *new])

    def step(self) -> list[Leaving]:
        """Evaluate all structures, let those that have ended leave, and move the others one step on."""
        leaving, computed = self._evaluate()
        if computed is None:
            return leaving
        leaving += self._judge(computed)
        remaining = computed.select(*self._leave([left.member for left in leaving]))
        return leaving + self._advance(remaining)

    def interrupted(self) -> list[Leaving]:
        """The last state of every structure that was in flight when results were last there, after Ctrl-C."""
        if self._computed is None:
            return []
        members, computed = self._computed
        snapshots = snapshots_of(members, computed, range(len(members)))
        return [Leaving(member, found, ended.INTERRUPTED) for member, found in zip(members, snapshots, strict=True)]

    def _evaluate(self) -> tuple[list[Leaving], Computed | None]:
        """Compute the present positions; structures for which that is impossible leave."""
        leaving: list[Leaving] = []
        while self.members:
            logarithm, deformation = self._deformation()
            cells = self._start_cells @ deformation.transpose(1, 2)
            positions = self._positions(deformation)
            failed = self._renew_edges(positions, deformation, cells)
            if not failed:
                assert self._edges is not None
                graph = self._edges.graph(self.rows, positions, cells, self.evaluator.potential.cutoff)
                try:
                    return leaving, self._compute(graph)
                except TooLargeError as error:
                    failed = {error.structure: error}
            gone = [Leaving(self.members[k], None, "failed", error) for k, error in failed.items()]
            self._leave([left.member for left in gone])
            leaving += gone
        return leaving, None

    def _deformation(self) -> tuple[Tensor, Tensor]:
        """Logarithm and deformation gradient of every structure, (structures, 3, 3)."""
        _, cells = self.rows.split(self.coordinates)
        logarithm = cells / self.rows.sizes[:, None, None]
        identity = torch.eye(3, dtype=torch.float64, device=self.device)
        return logarithm, torch.where(self._variable[:, None, None], torch.linalg.matrix_exp(logarithm), identity)

    def _positions(self, deformation: Tensor) -> Tensor:
        undeformed, _ = self.rows.split(self.coordinates)
        return (undeformed[:, None, :] @ deformation.transpose(1, 2)[self.rows.batch])[:, 0]

    def _renew_edges(
        self, positions: Tensor, deformation: Tensor, cells: Tensor
    ) -> dict[int, ValueError | MemoryError]:
        """Search neighbours where the lists no longer suffice; the structures for which that fails, and why."""
        cutoff = self.evaluator.potential.cutoff
        built = (self._built_positions, self._built_deformation)
        stale = stale_lists(self.rows, positions, deformation, *built, cutoff=cutoff, skin=self.skin)
        which = torch.nonzero(stale)[:, 0].tolist()
        failed = rebuild(self.members, which, positions, cells, cutoff + self.skin) if which else {}
        if which:
            self._built_positions = torch.where(stale[self.rows.batch, None], positions, self._built_positions)
            self._built_deformation = torch.where(stale[:, None, None], deformation, self._built_deformation)
        if (which or self._edges is None) and not failed:
            self._edges = EdgeLists(self.members, self.device)
        return failed

    def _compute(self, graph: Graph) -> Computed:
        """Evaluate the potential and apply constraints."""
        prediction = self.evaluator(graph)
        free = prediction.forces * self._free
        energy, forces, stress = constrain_results(self.members, self.rows, prediction.energy, free, prediction.stress)
        target = -self.options.pressure * GPA * torch.eye(3, dtype=torch.float64, device=self.device)
        deviation = (stress - target).abs().amax(dim=(1, 2))
        steps = torch.tensor([member.steps for member in self.members], device=self.device)
        return Computed(
            steps=steps,
            positions=graph.positions,
            cells=graph.cell,
            energy=energy,
            raw_energy=prediction.energy,
            raw_forces=prediction.forces,
            raw_stress=prediction.stress,
            forces=forces,
            stress=stress,
            max_force=largest_row(forces, self.rows.batch, len(self.members)),
            max_stress=torch.where(self._variable, deviation, 0.0),
        )

    def _judge(self, computed: Computed) -> list[Leaving]:
        """Say which structures have ended, and why."""
        ratio = torch.linalg.det(computed.cells).abs() / torch.linalg.det(self._start_cells).abs()
        before, self._computed = self._computed, (self.members, computed)
        reasons = ended_structures(self._computed, ratio, self._variable, self.options)
        states = last_states(self._computed, before, reasons)
        return [Leaving(self.members[k], states[k], reason) for k, reason in reasons.items()]

    def _advance(self, computed: Computed) -> list[Leaving]:
        """Move every structure one step; those whose symmetry does not bear it leave."""
        if not self.members:
            return []
        logarithm, deformation = self._deformation()
        pressure = self.options.pressure * GPA * torch.eye(3, dtype=torch.float64, device=self.device)
        volume = torch.linalg.det(computed.cells).abs()[:, None, None]
        virial = -volume * (computed.stress + pressure)
        forces = row_forces(self.rows, computed.forces, virial, deformation, logarithm, self._variable)
        self.coordinates = self.stepper.step(self.rows, self.coordinates, forces)
        _, wanted = self._deformation()
        self.coordinates, exploded = constrain_moves(self.members, self.rows, self.coordinates, wanted)
        states = snapshots_of(self.members, computed, exploded)
        leaving = [
            Leaving(self.members[k], state, ended.CELL_EXPLODING) for k, state in zip(exploded, states, strict=True)
        ]
        for member in self.members:
            member.steps += 1
        self._leave([left.member for left in leaving])
        return leaving

    def _leave(self, leaving: list[Member]) -> tuple[Tensor, Tensor]:
        """Remove structures; masks (structures,) and (atoms,) of those that stay."""
        gone = {id(member) for member in leaving}
        staying = [id(member) not in gone for member in self.members]
        structures = torch.tensor(staying, dtype=torch.bool, device=self.device)
        atoms, rows = structures[self.rows.batch], structures[self.rows.owner]
        if leaving:
            self.coordinates = self.coordinates[rows]
            self._built_positions, self._free = self._built_positions[atoms], self._free[atoms]
            self._built_deformation = self._built_deformation[structures]
            self._start_cells, self._variable = self._start_cells[structures], self._variable[structures]
            self.stepper.keep(structures, rows)
            self._set_members([member for member, stays in zip(self.members, staying, strict=True) if stays])
        return structures, atoms

    def _set_members(self, members: list[Member]) -> None:
        self.members = members
        self.rows = make_rows([len(member) for member in members], self.device)
        self._edges = None
