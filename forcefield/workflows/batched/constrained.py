"""Structures whose constraints need ASE at each step (fixed symmetry, bonds, planes ...), inside a batch.

They are evaluated with the others; their forces, stresses and moves pass through ASE's constraint objects, in the order
in which `ase.Atoms` and ASE's `FrechetCellFilter` call them.
"""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import NDArray
from scipy.linalg import logm
from torch import Tensor

from forcefield.workflows.batched.members import Member
from forcefield.workflows.batched.rows import Rows
from forcefield.workflows.symmetry import cell_steps_accepted

CELL_STEP_TEXT = "large deformation gradient step"  # what ASE says when a symmetric cell step is too large


def apply_constraints(
    work: Atoms, forces: NDArray[np.float64], stress: NDArray[np.float64] | None
) -> tuple[float, NDArray[np.float64], NDArray[np.float64] | None]:
    """Pass forces and stress through the constraints of a structure.

    Args:
        work: the structure at the positions in question.
        forces: (atoms, 3) of the potential (eV/Å).
        stress: (3, 3) of the potential (eV/Å³); None where it has no meaning.

    Returns:
        What the constraints add to the energy (eV), forces and stress.
    """
    extra, adjusted = 0.0, forces.copy()
    voigt = None if stress is None else full_3x3_to_voigt_6_stress(stress)
    for constraint in work.constraints:
        if hasattr(constraint, "adjust_potential_energy"):
            extra += float(constraint.adjust_potential_energy(work))
        constraint.adjust_forces(work, adjusted)
        if voigt is not None and hasattr(constraint, "adjust_stress"):
            constraint.adjust_stress(work, voigt)
    return extra, adjusted, None if voigt is None else voigt_6_to_full_3x3_stress(voigt)


def constrain_results(
    members: list[Member], rows: Rows, energy: Tensor, forces: Tensor, stress: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass a batch through the constraints of the structures that have such; (energy, forces, stress) after them.

    Args:
        members: the structures.
        rows: where their atoms are.
        energy: (structures,) of the potential (eV).
        forces: (atoms, 3), `FixAtoms` applied (eV/Å).
        stress: (structures, 3, 3) of the potential (eV/Å³).
    """
    concerned = [k for k, member in enumerate(members) if member.constrained is not None]
    if not concerned:
        return energy, forces, stress
    energy, forces, stress = energy.clone(), forces.clone(), stress.clone()
    for k, atoms in _slices(members, concerned):
        work = members[k].constrained
        assert work is not None
        own_stress = stress[k].cpu().numpy() if work.pbc.all() else None
        if not bool(torch.isfinite(forces[atoms]).all()):
            continue
        extra, adjusted, adjusted_stress = apply_constraints(work, forces[atoms].cpu().numpy(), own_stress)
        energy[k] += extra
        forces[atoms] = torch.from_numpy(adjusted).to(forces)
        if adjusted_stress is not None:
            stress[k] = torch.from_numpy(adjusted_stress).to(stress)
    return energy, forces, stress


def constrain_moves(
    members: list[Member], rows: Rows, coordinates: Tensor, deformation: Tensor
) -> tuple[Tensor, list[int]]:
    """Let the constraints have their say on a step.

    Args:
        members: the structures; those with constraints move.
        rows: where their rows are.
        coordinates: (rows, 3) that the optimizer wants.
        deformation: (structures, 3, 3) deformation gradients that follow from them.

    Returns:
        The coordinates (rows, 3) reached, and the structures whose cell step is too large for their symmetry.
    """
    concerned = [k for k, member in enumerate(members) if member.constrained is not None]
    if not concerned:
        return coordinates, []
    atoms, cells = rows.split(coordinates)
    exploded = []
    for k, own in _slices(members, concerned):
        gradient = deformation[k].cpu().numpy()
        try:
            with cell_steps_accepted():
                reached, logarithm = _move(members[k], atoms[own].cpu().numpy(), gradient)
        except RuntimeError as error:
            if CELL_STEP_TEXT not in str(error):
                raise
            exploded.append(k)
            continue
        atoms[own] = torch.from_numpy(reached).to(atoms)
        cells[k] = torch.from_numpy(logarithm * len(members[k])).to(cells)
    return rows.join(atoms, cells), exploded


def _move(
    member: Member, undeformed: NDArray[np.float64], gradient: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Move one structure under its constraints; give its undeformed positions and the logarithm of its deformation."""
    work, start_cell = member.constrained, member.initial.cell.array
    assert work is not None
    if not member.options.cell:
        work.set_positions(undeformed)
        return work.positions.copy(), np.zeros((3, 3))
    work.set_cell(start_cell @ gradient.T, scale_atoms=True)
    work.set_positions(undeformed @ gradient.T)
    reached = np.linalg.solve(start_cell, work.cell.array).T
    return np.linalg.solve(reached, work.positions.T).T, np.real(logm(reached))


def _slices(members: list[Member], concerned: list[int]) -> list[tuple[int, slice]]:
    first = np.cumsum([0] + [len(member) for member in members])
    return [(k, slice(int(first[k]), int(first[k + 1]))) for k in concerned]
