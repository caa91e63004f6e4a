"""Seeded draws that are repeated until no two atoms are too close."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import ase
import numpy as np
from numpy.typing import NDArray

from forcefield.data.fingerprint import fingerprint
from forcefield.structures import check_structure, close_contacts

SHORTEST = 0.6
"""Shortest distance accepted, in units of the sum of covalent radii."""

ATTEMPTS = 100
"""How often a frame is drawn anew before its structure is given up."""


def generator_for(atoms: ase.Atoms, kind: str, k: int, seed: int) -> np.random.Generator:
    """Random numbers of frame ``k`` of a kind, which depend on nothing but these and the structure."""
    name = fingerprint(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    digest = hashlib.sha256(f"{name} {kind}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big"), k])


def check_parent(atoms: ase.Atoms, *, shortest: float, crystal: bool = False) -> None:
    """Refuse a structure that nothing sensible can be drawn from.

    Raises:
        ValueError: the structure cannot be computed, its atoms overlap already, or it is not periodic along all axes
            though a crystal is needed.
    """
    check_structure(atoms)
    contacts = close_contacts(atoms, factor=shortest)
    if contacts:
        worst = contacts[0]
        raise ValueError(
            f"atoms {worst.i} and {worst.j} are {worst.distance:.3f} Å apart, closer than {shortest} times the sum of "
            "their covalent radii; relax the structure first or lower `shortest`"
        )
    if crystal and not atoms.pbc.all():
        raise ValueError("the structure is not periodic along all three axes, which this kind of frame needs")


def accepted(propose: Callable[[int], ase.Atoms], *, shortest: float) -> ase.Atoms:
    """The first proposal without close contacts.

    Args:
        propose: draws a frame; told how many were rejected before.
        shortest: shortest distance in units of the sum of covalent radii.

    Raises:
        ValueError: `ATTEMPTS` proposals all had close contacts.
    """
    for attempt in range(ATTEMPTS):
        atoms = propose(attempt)
        if not close_contacts(atoms, factor=shortest):
            return atoms
    raise ValueError(f"{ATTEMPTS} draws all had atoms closer than {shortest} times the sum of their covalent radii")


def child(
    parent: ase.Atoms,
    kind: str,
    *,
    numbers: NDArray[np.int64] | None = None,
    positions: NDArray[np.float64] | None = None,
    cell: NDArray[np.float64] | None = None,
    material: str | None = None,
) -> ase.Atoms:
    """A new structure that says what it is and where it comes from; what is not given is as in the parent.

    Its info holds ``kind``, ``material`` (that of the parent's info, else the reduced formula, so that polymorphs and
    frames of one trajectory stay together in a split) and ``parent`` (``source`` of the parent's info, else formula).
    """
    made = ase.Atoms(
        parent.numbers if numbers is None else numbers,
        positions=parent.positions if positions is None else positions,
        cell=parent.cell.array if cell is None else cell,
        pbc=parent.pbc,
    )
    made.info["kind"] = kind
    made.info["material"] = material or str(parent.info.get("material") or reduced_formula(parent))
    made.info["parent"] = str(parent.info.get("source") or parent.get_chemical_formula())
    return made


def reduced_formula(atoms: ase.Atoms) -> str:
    """Chemical formula divided by its greatest common factor, in Hill order."""
    return atoms.symbols.formula.reduce()[0].format("hill")
