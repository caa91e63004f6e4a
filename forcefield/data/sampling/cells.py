"""Frames with another number of atoms than their parent: supercells, vacancies, slabs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import ase
import numpy as np
from ase.build import surface

from forcefield.data.sampling.displacements import rattle
from forcefield.data.sampling.draw import SHORTEST, check_parent, child, generator_for

MAX_ATOMS = 64
"""Most atoms of a frame."""

AMPLITUDE = 0.05
"""Standard deviation of the displacements (Å) that these frames get, so that they say more than their parent does."""

THINNEST = 5.0
"""Thickness of a slab (Å) that is reached where the number of atoms allows it."""

MAX_REPEATS = 4
"""Most repetitions along one axis."""

Triple = tuple[int, int, int]

MILLER: list[Triple] = [
    (h, k, l)
    for h, k, l in itertools.product(range(-2, 3), repeat=3)
    if math.gcd(h, k, l) == 1 and (h, k, l) > (0, 0, 0)  # a plane and its opposite are drawn once
]
"""Low Miller indices: entries up to 2 without common factor."""


def supercells(
    atoms: ase.Atoms,
    count: int,
    *,
    seed: int,
    max_atoms: int = MAX_ATOMS,
    amplitude: float = AMPLITUDE,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Rattled supercells of random shape.

    Args:
        atoms: the parent, periodic along all axes.
        count: number of frames.
        seed: same seed and parent, same frames.
        max_atoms: most atoms of a supercell.
        amplitude: standard deviation of the displacements (Å).
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: no supercell has so few atoms, or the parent is no crystal or its atoms overlap.
    """
    check_parent(atoms, shortest=shortest, crystal=True)
    shapes = _shapes(len(atoms), max_atoms)
    for k in range(count):
        generator = generator_for(atoms, "supercell", k, seed)
        large = _repeated(atoms, shapes[generator.integers(len(shapes))])
        yield rattle(large, "supercell", amplitude, generator, shortest=shortest)


def vacancies(
    atoms: ase.Atoms,
    count: int,
    *,
    seed: int,
    max_atoms: int = MAX_ATOMS,
    amplitude: float = AMPLITUDE,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Rattled supercells, or the parent where it is large, with one atom missing, or two in every third frame.

    Args:
        atoms: the parent, periodic along all axes.
        count: number of frames.
        seed: same seed and parent, same frames.
        max_atoms: most atoms before the removal, unless the parent itself has more.
        amplitude: standard deviation of the displacements (Å).
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: no cell has between 4 and ``max_atoms`` atoms, or the parent is no crystal or its atoms overlap.
    """
    check_parent(atoms, shortest=shortest, crystal=True)
    shapes = [(1, 1, 1)] if len(atoms) * 2 > max_atoms else _shapes(len(atoms), max_atoms)
    shapes = [shape for shape in shapes if len(atoms) * math.prod(shape) >= 4]
    if not shapes:
        raise ValueError(f"no supercell of the {len(atoms)} atoms has 4 to {max_atoms} atoms for a vacancy")
    for k in range(count):
        generator = generator_for(atoms, "vacancy", k, seed)
        large = _repeated(atoms, shapes[generator.integers(len(shapes))])
        missing = generator.choice(len(large), size=2 if k % 3 == 2 else 1, replace=False)
        del large[np.sort(missing).tolist()]
        yield rattle(large, "vacancy", amplitude, generator, shortest=shortest)


def slabs(
    atoms: ase.Atoms,
    count: int,
    *,
    seed: int,
    max_atoms: int = MAX_ATOMS,
    vacuum: float = 12.0,
    amplitude: float = AMPLITUDE,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Rattled stoichiometric slabs, cut along a random low Miller index at a random height.

    They are periodic along all axes, with vacuum between the images, as plane-wave codes have them; Miller indices
    refer to the parent's cell.

    Args:
        atoms: the parent, periodic along all axes.
        count: number of frames.
        seed: same seed and parent, same frames.
        max_atoms: most atoms of a slab, unless a single layer of cells has more.
        vacuum: empty space between a slab and its image (Å).
        amplitude: standard deviation of the displacements (Å).
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: the vacuum is not positive, or the parent is no crystal or its atoms overlap.
    """
    if not vacuum > 0:
        raise ValueError(f"vacuum is {vacuum} Å but must be positive")
    check_parent(atoms, shortest=shortest, crystal=True)
    for k in range(count):
        generator = generator_for(atoms, "slab", k, seed)
        indices = MILLER[generator.integers(len(MILLER))]
        layers = _layers(atoms, indices, max_atoms, generator)
        lifted = child(atoms, "slab", positions=atoms.positions + generator.uniform(size=3) @ atoms.cell.array)
        cut = surface(lifted, indices, layers, vacuum=vacuum / 2, periodic=True)
        slab = child(atoms, "slab", numbers=cut.numbers, positions=cut.positions, cell=cut.cell.array)
        slab.info["source"] = slab.info["parent"]
        yield rattle(slab, "slab", amplitude, generator, shortest=shortest)


def _shapes(n_atoms: int, max_atoms: int) -> list[Triple]:
    """Repetitions along the three axes with at most so many atoms, more than one cell."""
    shapes = [
        (a, b, c)
        for a, b, c in itertools.product(range(1, MAX_REPEATS + 1), repeat=3)
        if 1 < a * b * c <= max_atoms // n_atoms
    ]
    if not shapes:
        raise ValueError(f"no supercell of {n_atoms} atoms has at most {max_atoms} atoms; raise `max_atoms`")
    return shapes


def _repeated(atoms: ase.Atoms, shape: Triple) -> ase.Atoms:
    """The parent's copies, with its info."""
    large = child(atoms, "supercell")
    large.info["source"] = large.info["parent"]
    repeated: ase.Atoms = large.repeat(shape)
    return repeated


def _layers(atoms: ase.Atoms, indices: Triple, max_atoms: int, generator: np.random.Generator) -> int:
    """Layers of cells for a slab: at least `THINNEST` thick where so many atoms are allowed."""
    height = 1.0 / float(np.linalg.norm(np.linalg.inv(atoms.cell.array) @ indices))  # distance of the lattice planes
    most = max(max_atoms // len(atoms), 1)
    fewest = min(math.ceil(THINNEST / height), most)
    return int(generator.integers(fewest, most + 1))
