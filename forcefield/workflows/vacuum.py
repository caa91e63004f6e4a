"""Vacuum in a periodic cell: what looks like a crystal to a file format, but is a slab, wire or molecule in a box."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from forcefield.workflows.pieces import GAP

KINDS = {1: "a slab", 2: "a wire", 3: "a molecule in a box"}


class Vacuum(NamedTuple):
    """An empty layer of a cell: the number of the periodic axis across it, and its thickness from atom to atom (Å)."""

    axis: int
    thickness: float


def find_vacuum(atoms: Atoms) -> list[Vacuum]:
    """Find the periodic axes along which a structure does not hold together, because an empty layer lies across them.

    A layer counts where more than 3 Å lie between the covalent radii of the atoms on both sides, which is more than in
    any layered crystal (graphite 1.8, molybdenum disulphide 0.9) and less than the vacuum of a slab.

    Args:
        atoms: the structure, positions and cell in Å; its periodic vectors span a cell.
    """
    if len(atoms) == 0 or atoms.cell.rank < 3:
        return []
    across = np.linalg.inv(atoms.cell.array)  # columns are normal to the planes of the other two vectors
    heights = 1.0 / np.linalg.norm(across, axis=0)  # (3,) Å
    fractions = atoms.cell.scaled_positions(atoms.positions)
    found = []
    for axis in np.flatnonzero(atoms.pbc):
        thickness = _widest_layer(fractions[:, axis] * heights[axis], atoms.numbers, float(heights[axis]))
        if thickness is not None:
            found.append(Vacuum(int(axis), thickness))
    return found


def _widest_layer(positions: np.ndarray, numbers: np.ndarray, period: float) -> float | None:
    """Give the thickness of the widest empty layer along one axis (Å), or None where none counts.

    Args:
        positions: (atoms,) along the normal (Å).
        numbers: (atoms,) atomic numbers.
        period: height of the cell (Å).
    """
    shifts = np.repeat([-period, 0.0, period], len(positions))
    places, radii = np.tile(positions % period, 3) + shifts, np.tile(covalent_radii[numbers], 3)
    order = np.argsort(places)
    places, radii = places[order], radii[order]
    tops = np.maximum.accumulate(places + radii)[:-1]
    bottoms = np.minimum.accumulate((places - radii)[::-1])[::-1][1:]
    once = slice(len(positions) - 1, 2 * len(positions) - 1)  # each layer of a period
    free, thickness = (bottoms - tops)[once], np.diff(places)[once]
    widest = int(np.argmax(free))
    return float(thickness[widest]) if free[widest] > GAP else None


def describe_vacuum(atoms: Atoms) -> str | None:
    """Say how thick the vacuum is, and what that makes of the structure; None without any.

    For example "a vacuum of 16.0 Å along c, as of a slab".
    """
    layers = find_vacuum(atoms)
    if not layers:
        return None
    parts = [f"{layer.thickness:.1f} Å along {'abc'[layer.axis]}" for layer in layers]
    return f"a vacuum of {', '.join(parts)}, as of {KINDS[len(layers)]}"


def kept_cell_notice(atoms: Atoms) -> str | None:
    """Say that a cell with vacuum is kept where nobody asked for more, and what to ask for; None without vacuum."""
    empty = {layer.axis for layer in find_vacuum(atoms)}
    if not empty:
        return None
    filled = "".join("abc"[axis] for axis in range(3) if axis not in empty)
    instead = f"; cell_axes={filled!r} (--cell-axes {filled}) relaxes it along {' and '.join(filled)}" if filled else ""
    return f"{describe_vacuum(atoms)}: atoms relaxed, cell kept{instead}"
