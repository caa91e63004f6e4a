"""Whether a structure came apart: how many pieces its atoms make."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from forcefield.structures import pairs_within

GAP = 3.0
"""Distance beyond the sum of covalent radii (Å) at which atoms hold together no more; van der Waals contacts are
about 1.6 Å beyond."""
BOND = 0.4
"""The same within which they are bonded; what bonds hold together needs no search of the wider surroundings."""


def count_pieces(atoms: Atoms) -> int:
    """Count groups of atoms with a gap of more than 3 Å between them, beyond their covalent radii.

    Args:
        atoms: the structure, positions and cell in Å; periodic images count.

    Returns:
        The number of pieces; 0 where a position is not finite.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return 0
    pieces = _pieces_within(atoms, BOND)
    return pieces if pieces <= 1 else _pieces_within(atoms, GAP)


def _pieces_within(atoms: Atoms, gap: float) -> int:
    """Count groups of atoms that are linked up to a distance (Å) beyond their covalent radii."""
    radii = covalent_radii[atoms.numbers]  # (atoms,)
    i, j, distance = pairs_within(atoms, 2.0 * float(radii.max(initial=0.0)) + gap)
    linked = distance < radii[i] + radii[j] + gap
    links = coo_array((np.ones(linked.sum()), (i[linked], j[linked])), shape=(len(atoms), len(atoms)))
    return int(connected_components(links, directed=False)[0])
