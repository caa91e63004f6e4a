"""Checks that compare equivalent structures: what a potential energy must not notice."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from forcefield.testing.results import (
    CheckResult,
    Deviation,
    Observation,
    Subject,
    compare,
    deviations,
    judge,
    largest,
)

BASIS_CHANGE = np.array([[1, 0, 0], [3, 1, 0], [-2, 1, -1]])
"""An integer matrix of determinant -1: the same lattice, strongly skewed, with the other handedness."""


def _orthogonal(determinant: int) -> np.ndarray:
    """A fixed rotation (1) or rotation times reflection (-1) along no special direction."""
    matrix, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return matrix * determinant * np.linalg.det(matrix)


def _turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    turned = atoms.copy()
    turned.positions = atoms.positions @ matrix
    turned.cell = atoms.cell.array @ matrix
    return turned


def _turned_observation(seen: Observation, matrix: np.ndarray) -> Observation:
    stress = None if seen.stress is None else matrix.T @ seen.stress @ matrix
    return Observation(seen.energy, seen.forces @ matrix, stress)


def translation(subject: Subject) -> CheckResult:
    """Every atom moved by the same vector, in a crystal and in a molecule."""
    differences = []
    for atoms in (subject.structures.triclinic, subject.structures.molecule):
        moved = atoms.copy()
        moved.positions += [7.3, -11.9, 4.1]
        differences += deviations(subject.limits, subject.observe(atoms), subject.observe(moved), len(atoms))
    return judge("translation", differences)


def rotation(subject: Subject) -> CheckResult:
    """Everything turned: energy stays, forces and stress turn along."""
    return _orthogonal_check(subject, "rotation", 1)


def reflection(subject: Subject) -> CheckResult:
    """Everything mirrored: energy stays, forces and stress are mirrored."""
    return _orthogonal_check(subject, "reflection", -1)


def _orthogonal_check(subject: Subject, name: str, determinant: int) -> CheckResult:
    matrix = _orthogonal(determinant)
    differences = []
    for atoms in (subject.structures.triclinic, subject.structures.slab, subject.structures.molecule):
        expected = _turned_observation(subject.observe(atoms), matrix)
        differences += deviations(subject.limits, expected, subject.observe(_turned(atoms, matrix)), len(atoms))
    return judge(name, differences)


def permutation(subject: Subject) -> CheckResult:
    """Atoms in another order: forces come in that order, everything else stays."""
    atoms = subject.structures.triclinic
    order = np.random.default_rng(1).permutation(len(atoms))
    seen = subject.observe(atoms)
    expected = Observation(seen.energy, seen.forces[order], seen.stress)
    return compare("permutation", subject.limits, expected, subject.observe(atoms[order]))


def lattice_shift(subject: Subject) -> CheckResult:
    """Single atoms moved by lattice vectors along the periodic axes."""
    differences = []
    for atoms in (subject.structures.triclinic, subject.structures.slab):
        shift = np.random.default_rng(2).integers(-3, 4, size=(len(atoms), 3)) * atoms.pbc
        moved = atoms.copy()
        moved.positions += shift @ atoms.cell.array
        differences += deviations(subject.limits, subject.observe(atoms), subject.observe(moved), len(atoms))
    return judge("lattice-vector shift", differences)


def cell_basis(subject: Subject) -> CheckResult:
    """Other vectors of the same lattice, skewed and left-handed."""
    differences = []
    for atoms in (subject.structures.triclinic, subject.structures.one_atom_cell):
        changed = atoms.copy()
        changed.set_cell(BASIS_CHANGE @ atoms.cell.array)
        differences += deviations(subject.limits, subject.observe(atoms), subject.observe(changed), len(atoms))
    return judge("cell basis", differences)


def supercell(subject: Subject) -> CheckResult:
    """A repeated cell: energy per atom, forces and stress stay; also of the one-atom cell."""
    differences = []
    for atoms, repeat in ((subject.structures.left_handed, (2, 1, 2)), (subject.structures.one_atom_cell, (3, 2, 3))):
        times = int(np.prod(repeat))
        seen = subject.observe(atoms)
        expected = Observation(seen.energy * times, np.tile(seen.forces, (times, 1)), seen.stress)
        found = subject.observe(atoms.repeat(repeat))
        differences += deviations(subject.limits, expected, found, times * len(atoms))
    return judge("supercell", differences)


def one_atom(subject: Subject) -> CheckResult:
    """One atom in a periodic cell: a finite energy, and by symmetry no force."""
    seen = subject.observe(subject.structures.one_atom_cell)
    energy = 0.0 if np.isfinite(seen.energy) else np.nan
    return judge(
        "one-atom cell",
        [
            Deviation("forces", largest(seen.forces), subject.limits.force, "eV/Å"),
            Deviation("non-finite energy", energy, subject.limits.energy, "eV/atom"),
        ],
        f"energy {seen.energy:.6g} eV",
    )


def no_neighbours(subject: Subject) -> CheckResult:
    """An atom alone, without a cell and in a box of 40 Å: same finite energy, no force, no stress."""
    free = subject.structures.atom
    boxed = free.copy()
    boxed.set_cell([40.0, 40.0, 40.0])
    boxed.pbc = True
    expected = Observation(subject.observe(free).energy, np.zeros((1, 3)), np.zeros((3, 3)))
    found = [subject.observe(free), subject.observe(boxed)]
    differences = [d for seen in found for d in deviations(subject.limits, expected, seen, 1)]
    return judge("no neighbours", differences, f"energy {expected.energy:.6g} eV")


def far_fragments(subject: Subject) -> CheckResult:
    """Two molecules 100 Å apart have the sum of their energies and their own forces; so has an atom far away."""
    molecule, atom = subject.structures.molecule, subject.structures.atom
    other = _turned(molecule, _orthogonal(1))[:4]
    other.positions += [0.0, 100.0, 0.0]
    lone = atom.copy()
    lone.positions += [80.0, 0.0, -80.0]
    parts = [subject.observe(part) for part in (molecule, other, lone)]
    expected = Observation(sum(part.energy for part in parts), np.concatenate([part.forces for part in parts]), None)
    return compare("far fragments", subject.limits, expected, subject.observe(molecule + other + lone))


def net_force(subject: Subject) -> CheckResult:
    """Forces sum to zero in a crystal, a slab and a molecule."""
    observed = [
        subject.observe(atoms)
        for atoms in (subject.structures.triclinic, subject.structures.slab, subject.structures.molecule)
    ]
    total = largest([seen.forces.sum(axis=0) for seen in observed])
    return judge("net force", [Deviation("sum of forces", total, 3 * subject.limits.force, "eV/Å")])
