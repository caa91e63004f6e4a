"""Results of all structures of a batch at one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from forcefield.units import GPA
from forcefield.workflows import relax_result as ended
from forcefield.workflows.batched.members import Member, Snapshot
from forcefield.workflows.relax import VOLUME_RANGE
from forcefield.workflows.relax_setup import RelaxOptions


@dataclass
class Computed:
    """Results of all structures at one step; eV, Å, eV/Å³."""

    steps: Tensor  # (structures,)
    positions: Tensor  # (atoms, 3)
    cells: Tensor  # (structures, 3, 3)
    energy: Tensor  # (structures,), after constraints
    raw_energy: Tensor  # (structures,), of the potential
    raw_forces: Tensor  # (atoms, 3), of the potential
    raw_stress: Tensor  # (structures, 3, 3), of the potential
    forces: Tensor  # (atoms, 3), after constraints
    stress: Tensor  # (structures, 3, 3), after constraints
    max_force: Tensor  # (structures,)
    max_stress: Tensor  # (structures,), largest deviation from the target; 0 in a fixed cell

    def finite(self) -> Tensor:
        """(structures,) whether energy, forces and stress are numbers."""
        return torch.isfinite(self.energy) & torch.isfinite(self.max_force) & torch.isfinite(self.max_stress)

    def select(self, structures: Tensor, atoms: Tensor) -> Computed:
        """The same for some of the structures (masks)."""
        own = ("positions", "raw_forces", "forces")
        return Computed(**{f.name: getattr(self, f.name)[atoms if f.name in own else structures] for f in fields(self)})

    def snapshot(self, k: int, first_atom: int, n_atoms: int) -> Snapshot:
        """The state of structure ``k``."""
        atoms = slice(first_atom, first_atom + n_atoms)
        return Snapshot(
            steps=int(self.steps[k]),
            positions=self.positions[atoms].cpu().numpy().copy(),
            cell=self.cells[k].cpu().numpy().copy(),
            energy=float(self.energy[k]),
            raw_energy=float(self.raw_energy[k]),
            forces=self.raw_forces[atoms].cpu().numpy().copy(),
            stress=self.raw_stress[k].cpu().numpy().copy(),
            constrained_stress=self.stress[k].cpu().numpy().copy(),
            max_force=float(self.max_force[k]),
        )


def snapshots_of(members: Sequence[Member], computed: Computed, which: Sequence[int]) -> list[Snapshot]:
    """The states of some structures of a batch, by their numbers in it."""
    first = np.cumsum([0] + [len(member) for member in members])
    return [computed.snapshot(k, int(first[k]), len(members[k])) for k in which]


Known = tuple[list[Member], Computed]
"""Results of one step and whose they are."""


def ended_structures(known: Known, volume_ratio: Tensor, variable: Tensor, options: RelaxOptions) -> dict[int, str]:
    """Which structures have ended, and why.

    Args:
        known: the results, which the structures' progress takes into account.
        volume_ratio: (structures,) volume by volume at the start.
        variable: (structures,) whether the cell changes.
        options: the limits.
    """
    computed = known[1]
    small = (computed.max_force <= options.fmax) & (computed.max_stress <= options.smax * GPA)
    exploding = variable & ~((volume_ratio >= VOLUME_RANGE[0]) & (volume_ratio <= VOLUME_RANGE[1]))
    verdicts = [
        (~computed.finite(), ended.NON_FINITE),
        (exploding, ended.CELL_EXPLODING),
        (small, ended.CONVERGED),
        (_stuck(known, options), ended.STUCK),
        (computed.steps >= options.steps, ended.STEP_LIMIT),
    ]
    code = torch.zeros_like(computed.steps)
    for number, (holds, _) in reversed(list(enumerate(verdicts, start=1))):
        code = torch.where(holds, number, code)
    return {k: verdicts[number - 1][1] for k, number in enumerate(code.tolist()) if number}


def _stuck(known: Known, options: RelaxOptions) -> Tensor:
    """(structures,) whether the last steps led nowhere, by `Progress`."""
    members, computed = known
    enthalpies = computed.energy + options.pressure * GPA * torch.linalg.det(computed.cells).abs()
    distances = torch.maximum(computed.max_force / options.fmax, computed.max_stress / (options.smax * GPA))
    merits = torch.stack([enthalpies, distances.to(enthalpies.dtype)], dim=1).tolist()
    stuck = [member.progress.is_stuck(*merit) for member, merit in zip(members, merits, strict=True)]
    return torch.tensor(stuck, dtype=torch.bool, device=enthalpies.device)


def last_states(known: Known, before: Known | None, reasons: Mapping[int, str]) -> dict[int, Snapshot | None]:
    """The states in which structures end: the present one, or that of a step ago where the present is not finite.

    Args:
        known: the present results.
        before: those of a step ago.
        reasons: why each of the structures ends.
    """
    members = known[0]
    states: dict[int, Snapshot | None] = dict(zip(reasons, snapshots_of(*known, list(reasons)), strict=True))
    broken = [k for k, reason in reasons.items() if reason == ended.NON_FINITE]
    if before is None or not broken:
        return states
    places = {id(member): place for place, member in enumerate(before[0])}
    earlier = [(k, places[id(members[k])]) for k in broken if id(members[k]) in places]
    snapshots = snapshots_of(*before, [place for _, place in earlier])
    return states | {k: snapshot for (k, _), snapshot in zip(earlier, snapshots, strict=True)}
