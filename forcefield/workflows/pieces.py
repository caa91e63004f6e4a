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


def count_pieces(atoms: Atoms) -> int:
    """Count groups of atoms with a gap of more than 3 Å between them, beyond their covalent radii.

    Args:
        atoms: the structure, positions and cell in Å; periodic images count.

    Returns:
        The number of pieces; 0 where a position is not finite.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return 0
    radii = covalent_radii[atoms.numbers]  # (atoms,)
    i, j, distance = pairs_within(atoms, 2.0 * float(radii.max()) + GAP)
    linked = distance < radii[i] + radii[j] + GAP
    links = coo_array((np.ones(linked.sum()), (i[linked], j[linked])), shape=(len(atoms), len(atoms)))
    return int(connected_components(links, directed=False)[0])
