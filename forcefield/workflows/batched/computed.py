"""Results of all structures of a batch at one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from forcefield.workflows.batched.members import Member, Snapshot


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
