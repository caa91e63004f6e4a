"""What surfaces, defects and adsorption share: a relaxation at fixed cell whose failure is an answer, and movements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic

from forcefield.structures import as_atoms
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import prepare_crystal, require_converged, symmetry_change
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import CONVERGED, INTERRUPTED

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Relaxed:
    """A structure relaxed at a fixed cell.

    Attributes:
        atoms: where it ended, with energy and forces attached.
        energy: in eV.
        converged: whether the forces are below the limit.
        reason: why it stopped, "converged" or another.
    """

    atoms: Atoms
    energy: float
    converged: bool
    reason: str


class _NotConverged(Exception):
    """Keeps a structure that did not converge out of the store."""

    def __init__(self, relaxed: Relaxed) -> None:
        super().__init__(relaxed.reason)
        self.relaxed = relaxed


def check_relaxation(fmax: float, steps: int) -> None:
    """Refuse impossible limits of a relaxation.

    Args:
        fmax: largest force accepted (eV/Å).
        steps: most steps.

    Raises:
        ValueError: unless both are positive.
    """
    if not (math.isfinite(fmax) and fmax > 0.0):
        raise ValueError(f"fmax is {fmax}, but must be a positive number.")
    if steps < 1:
        raise ValueError(f"steps is {steps}, but must be 1 or more.")


def relax_fixed_cell(
    name: str, start: Atoms, calculator: Any, store: ForceStore, *, fmax: float, steps: int, key: Atoms | None = None
) -> Relaxed:
    """Relax the atoms of a structure in its cell, or take the result from the store.

    Args:
        name: what it is, for the store.
        start: the structure; its constraints hold.
        calculator: an ASE calculator.
        store: keeps structures that converged.
        fmax: largest force accepted (eV/Å).
        steps: most steps.
        key: the structure that names it in the store; the start if not given.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
    """

    def make() -> Atoms:
        result = relax(start, calculator, fmax=fmax, steps=steps, optimizer="LBFGS")
        if result.reason not in (CONVERGED, INTERRUPTED):  # a second way, slower and safer
            result = relax(start, calculator, fmax=fmax, steps=steps, optimizer="FIRE")
        if result.reason == INTERRUPTED:
            raise KeyboardInterrupt
        if not result.converged:
            raise _NotConverged(Relaxed(result.atoms, result.energy, False, result.reason))
        return result.atoms

    try:
        found = store.structure(name, key if key is not None else start, make)
    except _NotConverged as failure:
        return failure.relaxed
    atoms = start.copy()
    atoms.positions = found.positions
    energy = single_point(atoms, calculator)
    return Relaxed(atoms, energy, True, CONVERGED)


def single_point(atoms: Atoms, calculator: Any) -> float:
    """Compute the energy (eV) of a structure, and attach energy and forces to it in place.

    Raises:
        ValueError: if the energy is not finite.
    """
    work = atoms.copy()
    work.calc = calculator
    energy = float(work.get_potential_energy())
    if not math.isfinite(energy):
        raise ValueError(f"{type(calculator).__name__} gave the energy {energy} for {atoms.get_chemical_formula()}.")
    forces = np.array(work.get_forces(apply_constraint=False))
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return energy


def relax_host(
    structure: Atoms, calculator: Any, store: ForceStore, *, relaxation: str, fmax: float, steps: int
) -> tuple[Atoms, str | None]:
    """Relax the crystal that a workflow starts from, or take it from the store.

    Returns:
        The crystal, without calculator, and what the relaxation did to its symmetry if anything.

    Raises:
        ValueError: as `prepare_crystal`.
    """
    notes: list[str | None] = [None]

    def make() -> Atoms:
        atoms, outcome = prepare_crystal(
            structure, calculator, relaxation=relaxation, fmax=min(fmax, 1.0e-3), steps=max(steps, 500)
        )
        notes[0] = symmetry_change(outcome)
        return atoms

    host = as_atoms(store.structure("relaxed", structure, make))
    return host, notes[0]


def relax_gas(name: str, start: Atoms, calculator: Any, store: ForceStore, *, fmax: float, steps: int) -> Relaxed:
    """Relax a molecule, or a structure without a cell to relax, that others are measured from.

    Raises:
        ValueError: if it did not converge.
        KeyboardInterrupt: after Ctrl-C.
    """
    relaxed = relax_fixed_cell(name, start, calculator, store, fmax=fmax, steps=steps)
    if not relaxed.converged:
        result = relax(start, calculator, fmax=fmax, steps=steps)
        require_converged(result, f"the relaxation of {name}")
        return Relaxed(result.atoms, result.energy, True, CONVERGED)
    return relaxed


def movement(before: Atoms, after: Atoms) -> np.ndarray:
    """Measure how far each atom moved, by the nearest image and relative to the atom that moved like most.

    Args:
        before: a structure.
        after: the same atoms in the same cell.

    Returns:
        (atoms,) in Å.
    """
    difference = after.positions - before.positions
    if before.pbc.any():
        difference, _ = find_mic(difference, before.cell, before.pbc)
    return np.linalg.norm(difference - np.median(difference, axis=0), axis=1)


def check_choice(name: str, value: str, choices: tuple[str, ...] | Mapping[str, Any]) -> None:
    """Refuse a word that is not among the choices.

    Raises:
        ValueError: naming the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(choices)}.")
