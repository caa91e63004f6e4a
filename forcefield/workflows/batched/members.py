"""One structure in a batch: what it is before the first step, and its `RelaxResult` at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from forcefield.neighbours import Edges, find_edges
from forcefield.potential import Potential
from forcefield.structures import as_atoms, check_structure
from forcefield.units import GPA
from forcefield.workflows.pieces import count_pieces
from forcefield.workflows.relax_progress import Progress
from forcefield.workflows.relax_result import CONVERGED, RelaxResult
from forcefield.workflows.relax_setup import RelaxOptions, cell_volume, settle_cell, strain_mask
from forcefield.workflows.symmetry import describe_axes, find_space_group, keep_symmetry


@dataclass(eq=False)
class Member:
    """A structure that waits for, or is in, a batch.

    Attributes:
        index: its number among the structures given.
        start: the input, with the user's constraints.
        initial: what moves, at the first step (symmetrised if the symmetry is kept).
        options: its own options; `cell` is settled.
        constrained: follows the batch as `ase.Atoms` where constraints other than `FixAtoms` must be asked at each
            step; else None.
        fixed: (atoms,) atoms that `FixAtoms` holds.
        edges: neighbours within cutoff and skin.
        n_edges: neighbours within the cutoff, at the first step.
        notice: what was chosen for it that the user may not expect.
        steps: optimizer steps made.
        progress: what it has reached.
    """

    index: int
    start: Atoms
    initial: Atoms
    options: RelaxOptions
    constrained: Atoms | None
    fixed: NDArray[np.bool_]
    edges: Edges
    n_edges: int
    notice: str | None = None
    steps: int = 0
    progress: Progress = field(default_factory=Progress)

    def __len__(self) -> int:
        """Count the atoms."""
        return len(self.start)


class Snapshot(NamedTuple):
    """A computed state of one structure; eV, Å, GPa."""

    steps: int
    positions: NDArray[np.float64]  # (atoms, 3)
    cell: NDArray[np.float64]  # (3, 3)
    energy: float  # with what constraints such as springs add
    raw_energy: float  # of the potential alone
    forces: NDArray[np.float64]  # (atoms, 3), of the potential alone
    stress: NDArray[np.float64]  # (3, 3), of the potential alone
    constrained_stress: NDArray[np.float64]  # (3, 3), after constraints
    max_force: float  # after constraints


def make_member(
    index: int, structure: Any, potential: Potential, options: RelaxOptions, *, automatic_cell: bool, skin: float
) -> Member:
    """Check a structure and find its neighbours.

    Args:
        index: its number among the structures given.
        structure: `ase.Atoms`, or a pymatgen `Structure` or `Molecule`.
        potential: the potential.
        options: options of all structures.
        automatic_cell: relax the cell of crystals, and of no others; see `settle_cell`.
        skin: extra radius of the neighbour list (Å).

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: for a structure that cannot be relaxed so.
    """
    start = as_atoms(structure)
    check_structure(start, potential.elements)
    own, notice = settle_cell(start, options, automatic_cell=automatic_cell)
    strain_mask(start, own)
    if own.cell and not start.pbc.all():
        raise ValueError(
            "cell=True needs a stress, but the model gives none for a structure periodic along "
            f"{describe_axes(start)}. Use cell=False."
        )
    work = start.copy()
    if own.symmetry:
        keep_symmetry(work, symprec=own.symprec)
    simple = all(type(constraint) is FixAtoms for constraint in work.constraints)
    fixed = np.zeros(len(work), dtype=bool)
    for constraint in work.constraints if simple else ():
        fixed[constraint.index] = True
    initial = work.copy()
    initial.set_constraint()
    edges = find_edges(initial.positions, initial.cell.array, initial.pbc, potential.cutoff + skin)
    n_edges = _count_within(initial, edges, potential.cutoff)
    return Member(index, start, initial, own, None if simple else work, fixed, edges, n_edges, notice)


def _count_within(atoms: Atoms, edges: Edges, cutoff: float) -> int:
    vectors = atoms.positions[edges.neighbour] - atoms.positions[edges.centre] + edges.shift @ atoms.cell.array
    return int((np.einsum("ij,ij->i", vectors, vectors) < cutoff**2).sum())


def result_of(member: Member, snapshot: Snapshot, reason: str) -> RelaxResult:
    """Sum up how the relaxation of a structure ended, as `relax` does.

    Args:
        member: the structure.
        snapshot: its last state.
        reason: why it ended.
    """
    start, options = member.start, member.options
    atoms = start.copy()
    atoms.cell = snapshot.cell
    atoms.positions = snapshot.positions
    results: dict[str, Any] = {"energy": snapshot.raw_energy, "forces": snapshot.forces}
    if start.pbc.all():
        results["stress"] = full_3x3_to_voigt_6_stress(snapshot.stress)
    atoms.calc = SinglePointCalculator(atoms, **results)
    stress = None
    if options.cell:
        stress = full_3x3_to_voigt_6_stress(snapshot.constrained_stress)
    elif start.pbc.all():
        stress = atoms.get_stress()
    before, after = cell_volume(start), cell_volume(atoms)
    return RelaxResult(
        atoms=atoms,
        converged=reason == CONVERGED,
        reason=reason,
        steps=snapshot.steps,
        energy=snapshot.energy,
        energy_per_atom=snapshot.energy / len(atoms),
        max_force=snapshot.max_force,
        stress=None if stress is None else tuple((stress / GPA).tolist()),
        pressure=None if stress is None else -float(stress[:3].mean()) / GPA,
        target_pressure=options.pressure,
        volume_change=after / before - 1.0 if start.pbc.all() and before and after else None,
        spacegroup_before=find_space_group(start, symprec=options.symprec),
        spacegroup_after=find_space_group(atoms, symprec=options.symprec),
        pieces_before=count_pieces(start),
        pieces_after=count_pieces(atoms),
        notice=member.notice,
    )
