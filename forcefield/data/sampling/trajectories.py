"""Frames on the way of atoms that a calculator moves: hot ones from molecular dynamics, and steps of relaxations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from forcefield.data.sampling.cells import MAX_ATOMS, supercells
from forcefield.data.sampling.displacements import rattle, strained
from forcefield.data.sampling.draw import SHORTEST, check_parent, child, generator_for
from forcefield.structures import close_contacts

TEMPERATURES = (500.0, 1000.0, 2000.0, 4000.0)
"""K: a warm crystal up to a melt of most materials."""

SNAPSHOTS = 4
"""Frames taken from one trajectory or one relaxation."""

INTERVAL = 25
"""Steps of dynamics before each snapshot."""

TIME_STEP = 0.5
"""fs for an atom of one atomic mass unit; it grows as the root of the lightest atom's mass."""

FRICTION = 0.02
"""1/fs: strong, since statistics matter here and dynamics do not."""

ATTEMPTS, COOLER = 10, 0.8
"""How often a trajectory is begun anew, and the factor by which each is cooler than the one before."""

STOPS = (0, 3, 10, 30)
"""Steps of a relaxation at which a frame is taken."""

DISTORTION = 0.1
"""Standard deviation of the displacements (Å) from which a relaxation starts."""


def hot(
    atoms: ase.Atoms,
    count: int,
    calculator: BaseCalculator,
    *,
    seed: int,
    temperatures: Sequence[float] = TEMPERATURES,
    max_atoms: int = MAX_ATOMS,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Snapshots of Langevin dynamics at fixed cell, `SNAPSHOTS` of each trajectory, `INTERVAL` steps apart.

    A crystal is enlarged to a supercell of random shape where one has at most ``max_atoms`` atoms. A trajectory in
    which atoms come too close begins anew, a fifth cooler each time.

    Args:
        atoms: the parent, of any periodicity.
        count: number of frames.
        calculator: moves the atoms; labels are not kept.
        seed: same seed, parent and calculator, same frames.
        temperatures: of the trajectories in turn (K).
        max_atoms: most atoms of a supercell.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: a temperature is not positive, the parent's atoms overlap, or they always come too close.
    """
    if not len(temperatures) or not all(kelvin > 0 for kelvin in temperatures):
        raise ValueError(f"temperatures are {list(temperatures)}, but positive numbers (K) are needed")
    check_parent(atoms, shortest=shortest)
    for run, wanted in enumerate(_runs(count)):
        generator = generator_for(atoms, "hot", run, seed)
        start = atoms
        if atoms.pbc.all():
            with suppress(ValueError):  # no supercell has so few atoms
                (start,) = supercells(atoms, 1, seed=int(generator.integers(2**31)), max_atoms=max_atoms)
        kelvin = temperatures[run % len(temperatures)]
        yield from _trajectory(_named_after(atoms, start), kelvin, calculator, generator, shortest)[:wanted]


def relaxations(
    atoms: ase.Atoms, count: int, calculator: BaseCalculator, *, seed: int, shortest: float = SHORTEST
) -> Iterator[ase.Atoms]:
    """Steps of relaxations of distorted structures, with the cell where it is a crystal: frames after `STOPS` steps.

    Args:
        atoms: the parent, of any periodicity.
        count: number of frames.
        calculator: moves the atoms; labels are not kept.
        seed: same seed, parent and calculator, same frames.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: the parent's atoms overlap, or those of every distorted structure come too close.
    """
    check_parent(atoms, shortest=shortest)
    for run, wanted in enumerate(_runs(count)):
        generator = generator_for(atoms, "relaxation", run, seed)
        start = atoms
        if atoms.pbc.all():
            (start,) = strained(atoms, 1, seed=int(generator.integers(2**31)), strains=(0.05,), shortest=shortest)
        start = rattle(start, "relaxation", DISTORTION, generator, shortest=shortest)
        yield from _way_down(_named_after(atoms, start), calculator, shortest)[:wanted]


def _named_after(parent: ase.Atoms, start: ase.Atoms) -> ase.Atoms:
    """The start with the parent's material and source, which go into the frames made of it."""
    origin = child(parent, "start").info
    named: ase.Atoms = start.copy()
    named.info = {"material": origin["material"], "source": origin["parent"]}
    return named


def _runs(count: int) -> list[int]:
    """Frames wanted of each trajectory."""
    full, rest = divmod(count, SNAPSHOTS)
    return [SNAPSHOTS] * full + ([rest] if rest else [])


def _trajectory(
    start: ase.Atoms, kelvin: float, calculator: BaseCalculator, generator: np.random.Generator, shortest: float
) -> list[ase.Atoms]:
    """`SNAPSHOTS` frames at a temperature, or the nearest below at which no atoms come too close."""
    time_step = TIME_STEP * np.sqrt(start.get_masses().min()) * units.fs
    for attempt in range(ATTEMPTS):
        atoms = start.copy()
        atoms.calc = calculator
        temperature = kelvin * COOLER**attempt
        # all energy of a start at rest sites is kinetic: twice the temperature, of which half becomes potential
        spread = np.sqrt(2 * units.kB * temperature * atoms.get_masses())[:, None]
        atoms.set_momenta(generator.normal(size=(len(atoms), 3)) * spread)
        dynamics = Langevin(
            atoms, time_step, temperature_K=temperature, friction=FRICTION / units.fs, rng=generator, fixcm=False
        )
        frames: list[ase.Atoms] = []
        while len(frames) < SNAPSHOTS:
            dynamics.run(INTERVAL)
            if not np.isfinite(atoms.positions).all() or close_contacts(atoms, factor=shortest):
                break
            frames.append(child(start, "hot", positions=atoms.positions))
        else:
            return frames
    raise ValueError(
        f"{ATTEMPTS} trajectories, the last at {kelvin * COOLER ** (ATTEMPTS - 1):.0f} K, all had atoms closer than "
        f"{shortest} times the sum of their covalent radii"
    )


def _way_down(start: ase.Atoms, calculator: BaseCalculator, shortest: float) -> list[ase.Atoms]:
    """Frames of a relaxation; fewer where it is at the end sooner or brings atoms too close."""
    atoms = start.copy()
    atoms.calc = calculator
    movable: Any = FrechetCellFilter(atoms) if atoms.pbc.all() else atoms  # typed as Atoms only
    optimizer = BFGS(movable, logfile=None, maxstep=0.1)
    frames: list[ase.Atoms] = []
    for stop in STOPS:
        finished = stop > 0 and optimizer.run(fmax=0.01, steps=stop - optimizer.nsteps)
        if not np.isfinite(atoms.positions).all() or close_contacts(atoms, factor=shortest):
            break
        frames.append(child(start, "relaxation", positions=atoms.positions, cell=atoms.cell.array))
        if finished:
            break
    return frames
