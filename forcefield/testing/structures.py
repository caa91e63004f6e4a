"""Small structures on which the checks are made, of elements that a calculator knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

PAIRS: tuple[tuple[str, str], ...] = (
    ("Na", "Cl"),
    ("Mg", "O"),
    ("Si", "O"),
    ("Ti", "O"),
    ("Cu", "Al"),
    ("Ni", "Al"),
    ("Cu", "Pt"),
    ("C", "H"),
    ("Si", "C"),
    ("Si", "Si"),
    ("Cu", "Cu"),
    ("Fe", "Fe"),
    ("Ar", "Ar"),
)
"""Pairs of elements tried in this order where nothing is known about a calculator."""


@dataclass(frozen=True)
class TestStructures:
    """Structures of two elements, named by what makes them difficult.

    Attributes:
        triclinic: 16 rattled atoms in a sheared cell.
        left_handed: the same kind of crystal with a left-handed cell.
        slab: 16 rattled atoms, periodic along two tilted axes.
        molecule: five atoms, no periodic axis, no cell.
        one_atom_cell: one atom in a sheared cell, its neighbours are its own images.
        atom: one atom alone.
    """

    __test__ = False  # no class of tests, whatever its name says to pytest

    triclinic: Atoms
    left_handed: Atoms
    slab: Atoms
    molecule: Atoms
    one_atom_cell: Atoms
    atom: Atoms

    def named(self) -> Iterator[tuple[str, Atoms]]:
        """Pairs of name and structure."""
        for name in self.__dataclass_fields__:
            yield name, getattr(self, name)

    @property
    def bond(self) -> float:
        """Sum of the covalent radii of the two elements (Å)."""
        return bond_length(*self.pair)

    @property
    def pair(self) -> tuple[str, str]:
        """Symbols of the two elements."""
        symbols = self.triclinic.get_chemical_symbols()
        return symbols[0], symbols[1]

    def dimer(self, distance: float) -> Atoms:
        """Two atoms ``distance`` Å apart along no special direction, without a cell."""
        direction = np.array([0.48, -0.6, 0.64])
        return Atoms(list(self.pair), positions=[[0.0, 0.0, 0.0], direction * distance])


def bond_length(first: str, second: str) -> float:
    """Sum of the covalent radii (Å)."""
    return float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])


def candidate_pairs(elements: Sequence[str | int] | None) -> list[tuple[str, str]]:
    """Pairs of elements to try: the usual ones that are known, and always one of the first two known.

    Args:
        elements: symbols or atomic numbers that a calculator knows, None if unknown.
    """
    if elements is None:
        return list(PAIRS)
    known = [item if isinstance(item, str) else chemical_symbols[int(item)] for item in elements]
    usual = [pair for pair in PAIRS if set(pair) <= set(known)]
    return usual + [(known[0], known[min(1, len(known) - 1)])]


def build_structures(first: str, second: str, *, seed: int = 0) -> TestStructures:
    """Make the test structures; the same for the same arguments.

    Args:
        first: chemical symbol.
        second: chemical symbol, may be the same.
        seed: of the shear and of the displacements.
    """
    rng = np.random.default_rng(seed)
    bond = bond_length(first, second)
    if second in ("O", "Cl", "F", "S", "H", "N"):
        unit = bulk("NaCl", "rocksalt", a=2 * bond)
    else:
        unit = bulk("CsCl", "cesiumchloride", a=2 * bond / np.sqrt(3))
    unit.symbols[:] = [first, second]
    crystal = _distorted(unit.repeat(2), rng)
    mirrored = _distorted(unit.repeat((2, 2, 1)), rng)
    mirrored.set_cell(mirrored.cell[[1, 0, 2]] if mirrored.cell.handedness > 0 else mirrored.cell)
    slab = _distorted(unit.repeat(2), rng)
    normal = slab.cell.normal(2)
    slab.set_cell([slab.cell[0], slab.cell[1], slab.cell[2] + 8.0 * normal / np.linalg.norm(normal)])
    slab.pbc = (True, True, False)
    lone = _distorted(bulk(first, "fcc", a=np.sqrt(2) * bond_length(first, first)), rng)
    return TestStructures(crystal, mirrored, slab, _molecule(first, second, bond, rng), lone, Atoms(first))


def _distorted(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Shear the cell by some per cent and rattle the atoms, in place."""
    strain = np.eye(3) + rng.normal(scale=0.04, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += rng.normal(scale=0.08, size=(len(atoms), 3))
    return atoms


def _molecule(first: str, second: str, bond: float, rng: np.random.Generator) -> Atoms:
    """A bent chain of five atoms."""
    steps = np.array([[1.0, 0.2, 0.0], [0.1, 1.0, 0.3], [0.3, -0.2, 1.0], [-0.9, 0.5, 0.4]])
    steps *= bond / np.linalg.norm(steps, axis=1)[:, None]
    positions = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    return Atoms([first, second] * 2 + [first], positions=positions + rng.normal(scale=0.05, size=(5, 3)))
