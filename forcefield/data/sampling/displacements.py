"""Frames with the atoms of their parent: rattled, strained, compressed and expanded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ase
import numpy as np
from numpy.typing import NDArray

from forcefield.data.sampling.draw import SHORTEST, accepted, check_parent, child, generator_for

AMPLITUDES = (0.03, 0.08, 0.15, 0.25)
"""Standard deviations of a coordinate's displacement (Å): thermal motion at low temperature up to a hot crystal."""

STRAINS = (0.01, 0.03, 0.06, 0.1)
"""Largest strain components."""

CALMER = 0.95
"""Factor by which a rejected draw lowers the amplitude of the next."""


def rattled(
    atoms: ase.Atoms, count: int, *, seed: int, amplitudes: Sequence[float] = AMPLITUDES, shortest: float = SHORTEST
) -> Iterator[ase.Atoms]:
    """Frames with normally distributed displacements of all atoms.

    Args:
        atoms: the parent, of any periodicity.
        count: number of frames.
        seed: same seed and parent, same frames.
        amplitudes: standard deviations (Å), taken in turn; lowered by 5 % whenever a draw is rejected.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: an amplitude is not positive, or the parent's atoms overlap.
    """
    _check_sizes("amplitudes", amplitudes)
    check_parent(atoms, shortest=shortest)
    for k in range(count):
        generator = generator_for(atoms, "rattled", k, seed)
        yield rattle(atoms, "rattled", amplitudes[k % len(amplitudes)], generator, shortest=shortest)


def rattle(
    atoms: ase.Atoms, kind: str, amplitude: float, generator: np.random.Generator, *, shortest: float
) -> ase.Atoms:
    """One rattled child without close contacts."""

    def propose(attempt: int) -> ase.Atoms:
        step = generator.normal(scale=amplitude * CALMER**attempt, size=(len(atoms), 3))
        return child(atoms, kind, positions=atoms.positions + step, material=atoms.info.get("material"))

    return accepted(propose, shortest=shortest)


def strained(
    atoms: ase.Atoms, count: int, *, seed: int, strains: Sequence[float] = STRAINS, shortest: float = SHORTEST
) -> Iterator[ase.Atoms]:
    """Crystals under a homogeneous strain with six independent components, atoms moved along with the cell.

    ``cell' = cell (1 + strain)`` with a symmetric strain, each component uniform between minus and plus the limit.

    Args:
        atoms: the parent, periodic along all axes.
        count: number of frames.
        seed: same seed and parent, same frames.
        strains: limits of the components, taken in turn; lowered by 5 % whenever a draw is rejected.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: a limit is not between 0 and 0.3, or the parent is no crystal or its atoms overlap.
    """
    _check_sizes("strains", strains, largest=0.3)
    check_parent(atoms, shortest=shortest, crystal=True)
    for k in range(count):
        generator = generator_for(atoms, "strained", k, seed)
        limit = strains[k % len(strains)]

        def propose(attempt: int, generator: np.random.Generator = generator, limit: float = limit) -> ase.Atoms:
            xx, yy, zz, yz, xz, xy = generator.uniform(-1, 1, size=6) * limit * CALMER**attempt
            return _deformed(atoms, "strained", np.eye(3) + np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))

        yield accepted(propose, shortest=shortest)


def volumes(
    atoms: ase.Atoms,
    count: int,
    *,
    seed: int,
    smallest: float = 0.75,
    largest: float = 1.35,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Crystals compressed and expanded evenly, the logarithm of the volume uniformly distributed.

    Args:
        atoms: the parent, periodic along all axes.
        count: number of frames.
        seed: same seed and parent, same frames.
        smallest: smallest volume in units of the parent's.
        largest: largest volume in units of the parent's.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: the volumes are not ``0 < smallest < largest``, or the parent is no crystal or its atoms overlap.
    """
    if not 0 < smallest < largest:
        raise ValueError(
            f"volumes from {smallest} to {largest} times the parent's came; 0 < smallest < largest is needed"
        )
    check_parent(atoms, shortest=shortest, crystal=True)
    for k in range(count):
        generator = generator_for(atoms, "volume", k, seed)

        def propose(_: int, generator: np.random.Generator = generator) -> ase.Atoms:
            factor = np.exp(generator.uniform(np.log(smallest), np.log(largest)) / 3)
            return _deformed(atoms, "volume", factor * np.eye(3))

        yield accepted(propose, shortest=shortest)


def _deformed(atoms: ase.Atoms, kind: str, deformation: NDArray[np.float64]) -> ase.Atoms:
    cell, positions = atoms.cell.array @ deformation, atoms.positions @ deformation
    return child(atoms, kind, positions=positions, cell=cell)


def _check_sizes(name: str, values: Sequence[float], *, largest: float = np.inf) -> None:
    if not len(values) or not all(0 < value <= largest for value in values):
        limit = "" if np.isinf(largest) else f" up to {largest}"
        raise ValueError(f"{name} are {list(values)}, but positive numbers{limit} are needed")
