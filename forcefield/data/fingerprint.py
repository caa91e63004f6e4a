"""What a structure is known by: a hash of its atoms, positions and cell."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike


def fingerprint(numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> str:
    """Sixteen hexadecimal digits that differ as soon as one number of the structure differs.

    Args:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        cell: (3, 3) lattice vectors as rows (Å).
        pbc: (3,) periodic axes.
    """
    digest = hashlib.sha256()
    for values, dtype in ((numbers, "<i8"), (positions, "<f8"), (cell, "<f8"), (pbc, "|b1")):
        array = np.ascontiguousarray(values, dtype=dtype)
        digest.update((array + 0 if dtype == "<f8" else array).tobytes())  # -0 becomes 0
    return digest.hexdigest()[:16]
