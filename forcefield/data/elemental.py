"""Crystals of one element each in simple structures, which every user tries first and crystal data sets hold few of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

import ase
import numpy as np
from ase.build import bulk, make_supercell
from ase.calculators.calculator import BaseCalculator
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from forcefield.data.sampling.displacements import rattle, strained

STRUCTURES = {"fcc": 225, "bcc": 229, "hcp": 194, "sc": 221, "diamond": 227}
"""Structures by their name in `ase.build.bulk`, with their space groups."""

STRAINS = (0.02, 0.04, 0.06, 0.09)
"""Largest strain components, taken in turn."""

AMPLITUDES = (0.03, 0.06, 0.12, 0.2)
"""Standard deviations of displacements (Å) in supercells, taken in turn."""

SHORTEST = 0.55
"""Shortest distance accepted, in units of the sum of covalent radii."""


def elemental_crystals(
    elements: Sequence[int],
    count: int,
    calculator: BaseCalculator,
    *,
    seed: int,
    excluded: Collection[tuple[int, int]] = (),
) -> Iterator[ase.Atoms]:
    """Each element in each of `STRUCTURES`: strained at several volumes, and rattled in supercells of up to 8 atoms.

    All are within a tenth of the volume of lowest energy, every fourth within a third, and strained in all six
    components. Two thirds are primitive cells, one third supercells whose atoms are displaced, too.

    Args:
        elements: atomic numbers; not of noble gases, whose bonds have nothing to do with covalent radii.
        count: frames of each element in each structure.
        calculator: finds the volume of lowest energy.
        seed: same seed, same frames.
        excluded: pairs of atomic number and space group that are left out, such as those of a validation set.
    """
    for number in elements:
        for structure, space_group in STRUCTURES.items():
            if (number, space_group) not in excluded:
                yield from _variants(number, structure, count, calculator, seed)


def lowest_volume(number: int, structure: str, calculator: BaseCalculator) -> float:
    """Volume per atom (Å^3) of lowest energy among those with bonds of 0.75 to 1.3 times two covalent radii."""
    parent = primitive(number, structure, 1.0)
    bond = _nearest(parent)
    scales = np.linspace(0.75, 1.3, 23) * 2 * covalent_radii[number] / bond
    energies = []
    for scale in scales:
        atoms = parent.copy()
        atoms.set_cell(parent.cell * scale, scale_atoms=True)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    return float(scales[int(np.argmin(energies))] ** 3)


def primitive(number: int, structure: str, volume: float) -> ase.Atoms:
    """Primitive cell of an elemental crystal with a volume per atom (Å^3); hcp with the ideal ratio of axes."""
    symbol = chemical_symbols[number]
    ratio = {"covera": np.sqrt(8 / 3)} if structure == "hcp" else {}
    atoms = bulk(symbol, structure, a=3.0, **ratio)
    atoms.set_cell(atoms.cell * (volume * len(atoms) / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return ase.Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def _variants(number: int, structure: str, count: int, calculator: BaseCalculator, seed: int) -> Iterator[ase.Atoms]:
    volume = lowest_volume(number, structure, calculator)
    generator = np.random.default_rng([seed, number, list(STRUCTURES).index(structure)])
    for k in range(count):
        width, enlarged = 0.33 if k % 4 == 3 else 0.1, k % 3 == 2
        atoms = primitive(number, structure, volume * np.exp(generator.uniform(-width, width)))
        if enlarged:
            atoms = make_supercell(atoms, _repetition(len(atoms), generator))
        atoms.info["material"] = f"elemental {structure} {chemical_symbols[number]}"
        with suppress(ValueError):  # no strain without overlapping atoms
            (frame,) = strained(atoms, 1, seed=seed + k, strains=STRAINS[k % 4 : k % 4 + 1], shortest=SHORTEST)
            frame.info["material"] = atoms.info["material"]
            if enlarged:
                frame = rattle(frame, "strained", AMPLITUDES[k // 3 % 4], generator, shortest=SHORTEST)
            yield frame


def _repetition(n_atoms: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Supercell of up to 8 atoms with its axes in random order."""
    choices = [(2, 2, 2), (4, 2, 1), (2, 2, 1), (4, 1, 1)] if n_atoms == 1 else [(2, 2, 1), (4, 1, 1), (2, 1, 1)]
    return np.diag(generator.permutation(choices[int(generator.integers(len(choices)))]))


def _nearest(atoms: ase.Atoms) -> float:
    """Shortest bond (Å)."""
    block = atoms.repeat(3)
    distances = np.linalg.norm(block.positions - block.positions[len(block) // 2], axis=1)
    return float(distances[distances > 1e-8].min())
