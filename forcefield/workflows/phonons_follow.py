"""Following an imaginary mode downhill to a structure of lower energy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib
from ase import Atoms

from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import prepare_crystal
from forcefield.workflows.phonons_result import FollowStep, ImaginaryMode
from forcefield.workflows.phonons_setup import PhononOptions, from_phonopy_atoms
from forcefield.workflows.symmetry import find_space_group

if TYPE_CHECKING:
    from phonopy import Phonopy

AMPLITUDES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)  # Å, largest displacement of an atom tried along the mode
PHASES = (0.0, 90.0, 45.0)  # degrees; a wave may be cut at a node or between


def follow_mode(
    phonon: Phonopy,
    mode: ImaginaryMode,
    calculator: Any,
    options: PhononOptions,
    store: ForceStore,
    name: str,
) -> tuple[Callable[[float], FollowStep], Atoms]:
    """Displace along a mode in the smallest supercell that holds it, to the lowest energy, and relax.

    Args:
        phonon: of the structure the mode belongs to.
        mode: at a q-point that fits the supercell.
        calculator: an ASE calculator.
        options: of the relaxation; symmetry is kept from the displaced structure on.
        store: keeps the structure reached under `name`.
        name: of this round.

    Returns:
        A function that makes the `FollowStep` once the lowest frequency of the new structure is known, and the
        primitive cell of the new structure.

    Raises:
        ValueError: if the relaxation fails.
    """
    start, displaced, amplitude = _displaced(phonon, mode, calculator)

    def make() -> Atoms:
        settings = options.relaxation_options() | {"relaxation": "positions"}
        if options.relaxation == "cell":
            settings["relaxation"] = "cell"
        relaxed, _ = prepare_crystal(displaced, calculator, **settings)
        return primitive_cell(relaxed, symprec=options.symprec)

    reached = store.structure(name, displaced, make)
    gain = _energy(start, calculator) / len(start) - _energy(reached, calculator) / len(reached)
    group = find_space_group(reached, symprec=options.symprec)

    def step(lowest: float) -> FollowStep:
        return FollowStep(mode.qpoint, mode.frequency, amplitude, gain, group, len(reached), lowest)

    return step, reached


def _displaced(phonon: Phonopy, mode: ImaginaryMode, calculator: Any) -> tuple[Atoms, Atoms, float]:
    """Find the lowest energy along the mode: the supercell at rest, the displaced one, the largest displacement (Å)."""
    multiples = [Fraction(part).limit_denominator(64).denominator for part in mode.qpoint]
    best: tuple[float, Atoms, float] | None = None
    for phase in PHASES:
        found = phonon.run_modulations(multiples, [[list(mode.qpoint), mode.band, 1.0, phase]])
        rest = from_phonopy_atoms(found.supercell)
        wave = np.real(found.modulations[0])  # (atoms, 3)
        size = np.linalg.norm(wave, axis=1).max()
        if size < 1.0e-8:
            continue
        for amplitude in AMPLITUDES:
            trial = rest.copy()
            trial.positions += wave * (amplitude / size)
            energy = _energy(trial, calculator)
            if best is None or energy < best[0]:
                best = energy, trial, amplitude
    assert best is not None
    return rest, best[1], best[2]


def _energy(atoms: Atoms, calculator: Any) -> float:
    work = atoms.copy()
    work.calc = calculator
    return float(work.get_potential_energy())


def primitive_cell(atoms: Atoms, *, symprec: float) -> Atoms:
    """Give the primitive cell of a crystal in its present orientation; the crystal itself where spglib finds none."""
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():  # spglib announces a future exception, which is handled here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.standardize_cell(crystal, to_primitive=True, no_idealize=True, symprec=symprec)
        except getattr(spglib, "SpglibError", ()):
            found = None
    if found is None:
        return atoms
    cell, positions, numbers = found
    return Atoms(numbers=numbers, cell=cell, scaled_positions=positions, pbc=True)
