"""What makes a labelled frame unfit for training, found before it reaches a store."""

from __future__ import annotations

import ase
import numpy as np
from ase.data import covalent_radii

from forcefield.data.frames import Frame
from forcefield.data.store import check_frame
from forcefield.neighbours import completed_cell
from forcefield.structures import close_contacts, overlap_message

LARGEST_FORCE = 5000.0
"""eV/Å; beyond, a calculation has failed (squeezed dimers, the hardest wall in use, reach 2500)."""
LARGEST_STRESS = 20.0
"""eV/Å^3 (3200 GPa)."""
OVERLAP = 0.1
"""Distance in units of the sum of covalent radii below which two atoms are one written twice."""
DENSE_ATOMS = 300
"""Up to here all pairs are looked at directly."""
LABELS = ("energy", "forces", "stress", "atomic_energies", "magmoms")


def refuse_broken(frame: Frame) -> None:
    """Refuse a frame that would spoil a training.

    Raises:
        ValueError: arrays of wrong shapes, an unknown element, an impossible cell, a label that is NaN or infinite, a
            force or stress beyond `LARGEST_FORCE` or `LARGEST_STRESS`, or atoms on top of each other.
    """
    check_frame(frame)
    for name in LABELS:
        value = getattr(frame, name)
        if value is not None and np.isnan(value).any():
            count = np.count_nonzero(np.isnan(value))
            raise ValueError(f"{name} holds {count} NaN; leave an unknown label out")
    if frame.forces is not None:
        largest = float(np.abs(frame.forces).max())
        if largest > LARGEST_FORCE:
            raise ValueError(
                f"a force component is {largest:.4g} eV/Å; beyond {LARGEST_FORCE:g} no calculation is sound"
            )
    if frame.stress is not None:
        largest = float(np.abs(frame.stress).max())
        if largest > LARGEST_STRESS:
            raise ValueError(
                f"a stress component is {largest:.4g} eV/Å^3; beyond {LARGEST_STRESS:g} is the unit another (--units)?"
            )
    if may_overlap(frame):
        atoms = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        contacts = close_contacts(atoms, factor=OVERLAP)
        if contacts:
            raise ValueError(overlap_message(atoms, contacts, shown=2))


def may_overlap(frame: Frame) -> bool:
    """Whether a full search for overlaps is worth its time: False is certain, True is not.

    Two atoms that overlap are within half an angstrom of each other, so in a cell whose periodic planes are more than
    1 Å apart the nearest image by rounding the fractional coordinates is the right one.
    """
    n = len(frame.numbers)
    if n > DENSE_ATOMS:
        return True
    difference = frame.positions[:, None] - frame.positions[None]  # (atoms, atoms, 3)
    if frame.pbc.any():
        cell = completed_cell(frame.cell, frame.pbc)
        inverse = np.linalg.inv(cell)
        if (np.linalg.norm(inverse, axis=0)[frame.pbc] > 1.0).any():
            return True
        difference -= np.round(difference @ inverse) * frame.pbc @ cell
    squared = np.einsum("ijk,ijk->ij", difference, difference)
    squared[np.arange(n), np.arange(n)] = np.inf
    return bool(squared.min() < (2 * OVERLAP * covalent_radii[frame.numbers].max()) ** 2)
