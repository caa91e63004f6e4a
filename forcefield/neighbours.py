"""Periodic neighbour search: matscipy's cell list made safe for every combination of periodic axes.

Convention of the whole package: an edge points from a centre ``i`` (which receives) to a neighbour ``j``;
``vector = positions[j] + shift @ cell - positions[i]``. Edges are sorted by centre.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

MAX_SKEW = 4.0
"""A search cell longer than this many times its height is replaced by a more compact one of the same lattice."""
SHORTEST_TRANSLATION = 0.1
"""Å; a lattice that brings an atom this close to its own image has almost endlessly many neighbours."""


class Edges(NamedTuple):
    """Directed edges of one structure, sorted by centre."""

    centre: NDArray[np.int64]  # (edges,)
    neighbour: NDArray[np.int64]  # (edges,)
    shift: NDArray[np.int64]  # (edges, 3) lattice translations of the neighbour, zero along non-periodic axes


def find_edges(
    positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_], cutoff: float
) -> Edges:
    """All pairs closer than ``cutoff``, periodic images and self-images included.

    Atoms may lie anywhere (also far outside the cell), the cell may be left-handed or strongly skewed, and cell
    vectors of non-periodic axes are ignored. The arguments are not modified.

    Args:
        positions: (atoms, 3) Cartesian positions (Å).
        cell: (3, 3) lattice vectors as rows (Å).
        pbc: (3,) periodic axes.
        cutoff: neighbour radius (Å).

    Raises:
        ValueError: the periodic cell vectors are zero or nearly linearly dependent.
    """
    if len(positions) == 0:
        return Edges(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64))
    pbc = np.asarray(pbc, dtype=bool)
    lattice = completed_cell(cell, pbc)
    compact, transform = _compact_lattice(lattice, pbc)  # compact = transform @ lattice
    fractional = positions @ np.linalg.inv(compact)
    image = np.where(pbc, np.floor(fractional), 0.0)  # lattice translation that the wrapped atom has lost
    box, origin, scaled = _search_box(compact, pbc, fractional - image, cutoff)
    i, j, shift = neighbour_list(
        "ijS", positions=scaled @ box + origin, cell=box, pbc=pbc, cutoff=float(cutoff), cell_origin=origin
    )
    order = np.argsort(i, kind="stable") if np.any(i[1:] < i[:-1]) else slice(None)
    i, j = i[order].astype(np.int64), j[order].astype(np.int64)
    shift = shift[order] + (image[i] - image[j]).astype(np.int64)
    shift[:, ~pbc] = 0
    return Edges(i, j, shift @ transform)


def completed_cell(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The cell with each non-periodic row replaced by a unit vector orthogonal to the periodic ones.

    Only the periodic lattice vectors carry meaning; the result is non-singular whatever the others are.

    Returns:
        (3, 3) right-handed or left-handed as the periodic vectors have it.
    """
    lattice = np.array(cell, dtype=float)
    periodic = np.flatnonzero(pbc)
    free = np.flatnonzero(~np.asarray(pbc, dtype=bool))
    if len(free) == 3:
        return np.eye(3)
    if len(free) == 2:
        axis = lattice[periodic[0]]
        helper = np.eye(3)[np.argmin(np.abs(axis))]
        first = np.cross(axis, helper)
        lattice[free[0]] = first / np.linalg.norm(first)
        second = np.cross(axis, first)
        lattice[free[1]] = second / np.linalg.norm(second)
    elif len(free) == 1:
        normal = np.cross(lattice[periodic[0]], lattice[periodic[1]])
        lattice[free[0]] = normal / np.linalg.norm(normal)
    return lattice


def _compact_lattice(
    lattice: NDArray[np.float64], pbc: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A less skewed, right-handed basis of the same lattice, and the integer matrix that makes it.

    Raises:
        ValueError: the lattice holds a translation that is almost zero.
    """
    transform = np.eye(3, dtype=np.int64)
    lengths = np.linalg.norm(lattice, axis=1)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    if np.any(lengths > MAX_SKEW * heights):
        transform = _pair_reduction(lattice, pbc)
    compact = transform @ lattice
    shortest = np.linalg.norm(compact[pbc], axis=1).min(initial=np.inf)
    if shortest < SHORTEST_TRANSLATION:
        raise ValueError(
            f"the periodic cell vectors {lattice[pbc].tolist()} are nearly linearly dependent or zero: their lattice "
            f"has a translation of {shortest:.2g} Å (at least {SHORTEST_TRANSLATION} Å is needed); correct the cell"
        )
    if np.linalg.det(compact) < 0:
        axis = int(np.flatnonzero(pbc)[0]) if np.any(pbc) else 0
        transform[axis] *= -1
        compact[axis] *= -1
    return compact, transform


def _pair_reduction(lattice: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Subtract multiples of one periodic vector from another until no vector gets shorter (Gauss reduction).

    Raises:
        ValueError: the periodic vectors are so close to linearly dependent that the reduction does not end.
    """
    transform = np.eye(3, dtype=np.int64)
    vectors = lattice.copy()
    periodic = np.flatnonzero(pbc)
    for _ in range(200):
        changed = False
        for a in periodic:
            for b in periodic:
                if a == b:
                    continue
                times = int(np.rint(vectors[a] @ vectors[b] / (vectors[b] @ vectors[b])))
                shorter = vectors[a] - times * vectors[b]
                if times and shorter @ shorter < (1 - 1e-10) * (vectors[a] @ vectors[a]):
                    vectors[a] = shorter
                    transform[a] -= times * transform[b]
                    changed = True
        if not changed:
            return transform
    raise ValueError(f"the periodic cell vectors are nearly linearly dependent: {lattice.tolist()}; check the cell")


def _search_box(
    lattice: NDArray[np.float64], pbc: NDArray[np.bool_], fractional: NDArray[np.float64], cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Stretch the unit vectors of non-periodic axes to the atoms' extent plus twice the cutoff.

    Returns:
        box (3, 3), its origin (3,), and the atoms' coordinates (atoms, 3) in units of the box from that origin.
    """
    lowest = np.where(pbc, 0.0, fractional.min(axis=0) - cutoff)
    extent = np.where(pbc, 1.0, np.ptp(fractional, axis=0) + 2 * cutoff)
    return lattice * extent[:, None], lowest @ lattice, (fractional - lowest) / extent


class SkinList:
    """Verlet list: edges within ``cutoff + skin``, kept until an atom may have crossed the skin.

    Between two builds the motion is split into the homogeneous deformation of the cell and each atom's own
    displacement ``u`` (lattice translations removed, so wrapping does not count as motion). A pair that was
    further apart than ``cutoff + skin`` is now further apart than ``(cutoff + skin) s - 2 max|u|``, where ``s``
    is the smallest stretch of the deformation; the list is valid as long as that exceeds the cutoff.

    Args:
        cutoff: interaction radius (Å).
        skin: extra radius (Å); 0 builds a new list at every call.
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.builds = 0
        self.calls = 0
        self._edges: Edges | None = None

    def edges(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> Edges:
        """Edges of the present structure; some may be longer than the cutoff by up to the skin.

        Args:
            positions: (atoms, 3) Cartesian positions (Å).
            cell: (3, 3) lattice vectors as rows (Å).
            pbc: (3,) periodic axes.
        """
        self.calls += 1
        image = self._images_if_valid(positions, cell, pbc)
        if image is None:
            self._build(positions, cell, pbc)
            assert self._edges is not None
            return self._edges
        assert self._edges is not None
        if not image.any():
            return self._edges
        i, j, shift = self._edges
        return Edges(i, j, shift + image[i] - image[j])

    def _build(self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> None:
        self._edges = find_edges(positions, cell, pbc, self.cutoff + self.skin)
        self._positions, self._pbc = positions.copy(), np.array(pbc, dtype=bool)
        self._lattice = completed_cell(cell, self._pbc)
        self.builds += 1

    def _images_if_valid(
        self, positions: NDArray[np.float64], cell: NDArray[np.float64], pbc: NDArray[np.bool_]
    ) -> NDArray[np.int64] | None:
        """Lattice translations of the atoms since the build (atoms, 3), or None where a new list is needed."""
        if self._edges is None or self.skin <= 0 or positions.shape != self._positions.shape:
            return None
        if not np.array_equal(pbc, self._pbc):
            return None
        lattice = completed_cell(cell, self._pbc)
        deformation = np.linalg.solve(self._lattice, lattice)
        motion = positions - self._positions @ deformation
        image = np.where(self._pbc, np.rint(motion @ np.linalg.inv(lattice)), 0.0)
        displacement = motion - image @ lattice
        largest = np.sqrt(np.einsum("ij,ij->i", displacement, displacement).max(initial=0.0))
        stretch = np.linalg.svd(deformation, compute_uv=False)[-1]
        if (self.cutoff + self.skin) * stretch - 2 * largest < self.cutoff:
            return None
        return image.astype(np.int64)
