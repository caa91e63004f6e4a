"""Molecules and atoms on slabs of elements, which crystal data sets lack and adsorption energies need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import ase
import numpy as np
from ase.build import bcc110, fcc111, hcp0001, molecule
from ase.calculators.calculator import BaseCalculator
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from forcefield.data.elemental import lowest_volume, primitive

MOLECULES = ("H", "C", "N", "O", "CO", "OH", "H2O", "O2", "H2", "N2", "NO", "NH3", "CH", "CH3", "CH4", "CO2")
"""By their names in ASE's G2 collection."""

SLABS: dict[str, Callable[..., ase.Atoms]] = {"fcc": fcc111, "bcc": bcc110, "hcp": hcp0001}
VACUUM = 6.0
"""Å on each side of a slab with its adsorbate."""

SHORTEST = 0.75
"""Shortest distance between adsorbate and slab, in units of the sum of covalent radii; the longest is twice that."""


def adsorbates(elements: Sequence[int], count: int, calculator: BaseCalculator, *, seed: int) -> Iterator[ase.Atoms]:
    """Slabs of three layers of 2 x 2 atoms in periodic cells, each with one molecule turned and placed at random.

    Each element comes in the one of the structures of `SLABS` that has the lowest energy.

    Args:
        elements: atomic numbers of the slabs.
        count: number of structures.
        calculator: finds structure and volume of lowest energy.
        seed: same seed, same structures.
    """
    crystals = {number: _ground_state(number, calculator) for number in elements}
    generator = np.random.default_rng(seed)
    for _ in range(count):
        number = int(generator.choice(np.asarray(elements)))
        slab = _slab(number, *crystals[number], stretch=generator.uniform(-0.04, 0.04))
        guest = molecule(str(generator.choice(MOLECULES)))
        guest.positions = Rotation.random(random_state=generator).apply(guest.positions)
        guest.positions += generator.normal(scale=0.05, size=(len(guest), 3))
        yield _placed(slab, guest, generator)


def _ground_state(number: int, calculator: BaseCalculator) -> tuple[str, float]:
    """Structure and volume per atom (Å^3) of lowest energy."""
    found = {}
    for structure in SLABS:
        volume = lowest_volume(number, structure, calculator)
        atoms = primitive(number, structure, volume)
        atoms.calc = calculator
        found[structure] = (atoms.get_potential_energy() / len(atoms), volume)
    best = min(found, key=lambda structure: found[structure][0])
    return best, found[best][1]


def _slab(number: int, structure: str, volume: float, *, stretch: float) -> ase.Atoms:
    """The closest-packed surface, stretched in its plane."""
    symbol = chemical_symbols[number]
    a = {"fcc": 4 * volume, "bcc": 2 * volume, "hcp": np.sqrt(2) * volume}[structure] ** (1 / 3)
    axes = {"c": np.sqrt(8 / 3) * a} if structure == "hcp" else {}
    slab = SLABS[structure](symbol, (2, 2, 3), a=a, **axes, vacuum=VACUUM, periodic=True)
    cell = slab.cell.array * np.array([[1 + stretch], [1 + stretch], [1]])
    slab.set_cell(cell, scale_atoms=True)
    return ase.Atoms(slab.numbers, positions=slab.positions, cell=slab.cell, pbc=True)


def _placed(slab: ase.Atoms, guest: ase.Atoms, generator: np.random.Generator) -> ase.Atoms:
    """The guest above a random point of the surface, its nearest contact at a random distance."""
    slab.positions += generator.normal(scale=generator.uniform(0, 0.15), size=(len(slab), 3))
    place = generator.uniform(size=2) @ slab.cell.array[:2]
    contact = generator.uniform(SHORTEST, 2 * SHORTEST)
    guest.positions += place - guest.positions.mean(axis=0) * [1, 1, 0]
    guest.positions[:, 2] += slab.positions[:, 2].max() - guest.positions[:, 2].min() - 1.5
    while contact_distance(slab, guest) < contact:
        guest.positions[:, 2] += 0.02
    both = slab + guest
    height = np.ptp(both.positions[:, 2])
    both.cell[2] = [0, 0, height + 2 * VACUUM]
    both.positions[:, 2] += VACUUM - both.positions[:, 2].min()
    both.wrap()
    both.info = {"kind": "adsorbate", "material": f"{guest.get_chemical_formula()} on {slab.symbols[0]}"}
    return both


def contact_distance(slab: ase.Atoms, guest: ase.Atoms) -> float:
    """Shortest distance between the two, in units of the sum of covalent radii, repeated in the plane."""
    shifts = np.array([[i, j, 0] for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ slab.cell.array
    places: NDArray[np.float64] = (slab.positions[None] + shifts[:, None]).reshape(-1, 3)
    radii = np.tile(covalent_radii[slab.numbers], len(shifts))
    distances = np.linalg.norm(guest.positions[:, None] - places[None], axis=2)
    return float((distances / (covalent_radii[guest.numbers][:, None] + radii[None])).min())
