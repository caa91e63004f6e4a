"""Where point defects can sit: symmetry-distinct atoms, and voids between them from the Voronoi diagram."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import spglib
from ase import Atoms
from ase.data import covalent_radii
from scipy.spatial import Voronoi

from forcefield.workflows.surfaces_build import quiet_spglib

SAME_PLACE = 0.05  # Å; corners of Voronoi cells closer than this are one
SMALLEST_VOID = 0.55  # distance to the nearest atom relative to its covalent radius plus that of the interstitial atom


class AtomSite(NamedTuple):
    """A symmetry-distinct atom: its number in the cell, symbol and how many there are of it in the cell."""

    atom: int
    symbol: str
    multiplicity: int


class Void(NamedTuple):
    """A place between atoms: Cartesian position (3,) in Å, distance to the nearest atoms (Å), how many are there."""

    position: np.ndarray
    radius: float
    neighbours: int


def distinct_atoms(crystal: Atoms, *, symprec: float = 0.01) -> list[AtomSite]:
    """List the atoms of a crystal that no symmetry maps on each other.

    Args:
        crystal: the structure.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
    """
    dataset = _dataset(crystal, symprec)
    classes = np.arange(len(crystal)) if dataset is None else np.asarray(dataset.equivalent_atoms)
    kinds, counts = np.unique(classes, return_counts=True)
    return [AtomSite(int(k), crystal.symbols[int(k)], int(n)) for k, n in zip(kinds, counts, strict=True)]


def voids(crystal: Atoms, *, symprec: float = 0.01) -> list[Void]:
    """List the symmetry-distinct corners of the Voronoi cells of a crystal's atoms, the most spacious first.

    Each corner is as far as possible from the atoms around it, such as the octahedral and tetrahedral places of close
    packing.

    Args:
        crystal: the structure.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
    """
    corners = _voronoi_corners(crystal)
    operations = _operations(crystal, symprec)
    found: list[Void] = []
    covered = np.empty((0, 3))  # fractional, every symmetry image of the places found
    for corner in sorted(corners, key=lambda place: (-round(place.radius, 3), -place.neighbours)):
        fractional = crystal.cell.scaled_positions(corner.position)
        if len(covered) and _distances(crystal, covered, fractional).min() < SAME_PLACE:
            continue
        found.append(corner)
        images = np.array([rotation @ fractional + shift for rotation, shift in operations])
        covered = np.vstack([covered, images])
    return found


def spacious_voids(crystal: Atoms, symbol: str, *, symprec: float = 0.01) -> list[Void]:
    """List the voids in which an atom of an element is not far too close to its neighbours.

    Raises:
        ValueError: if there is none.
    """
    radius = covalent_radii[Atoms(symbol).numbers[0]]
    room = SMALLEST_VOID * (radius + float(covalent_radii[crystal.numbers].min()))
    fitting = [void for void in voids(crystal, symprec=symprec) if void.radius >= room]
    if not fitting:
        raise ValueError(
            f"No void of {crystal.get_chemical_formula()} has room for {symbol} (a distance of {room:.2f} Å to the "
            "nearest atom)."
        )
    return fitting


def _voronoi_corners(crystal: Atoms) -> list[Void]:
    """List the corners of the Voronoi diagram within the cell, each once."""
    repeats = np.ceil(2.0 * _reach(crystal) / _heights(crystal)).astype(int)
    shifts = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in repeats], indexing="ij"), axis=-1).reshape(-1, 3)
    points = (crystal.positions[None] + (shifts @ crystal.cell.array)[:, None]).reshape(-1, 3)
    diagram = Voronoi(points)
    fractional = crystal.cell.scaled_positions(diagram.vertices)
    inside = diagram.vertices[((fractional > -1.0e-6) & (fractional < 1.0 - 1.0e-6)).all(axis=1)]
    corners: list[Void] = []
    kept = np.empty((0, 3))
    for corner in inside:
        place = crystal.cell.scaled_positions(corner)
        if len(kept) and _distances(crystal, kept, place).min() < SAME_PLACE:
            continue
        kept = np.vstack([kept, place])
        distances = np.linalg.norm(points - corner, axis=1)
        radius = float(distances.min())
        corners.append(Void(corner, radius, int((distances < radius + SAME_PLACE).sum())))
    return corners


def _heights(crystal: Atoms) -> np.ndarray:
    """Give the distances between opposite faces of the cell, (3,) in Å."""
    return 1.0 / np.linalg.norm(crystal.cell.reciprocal().array, axis=1)


def _reach(crystal: Atoms) -> float:
    """Give a distance (Å) within which every point of the crystal has an atom."""
    return 0.5 * float(np.linalg.norm(crystal.cell.array, axis=1).sum())


def _distances(crystal: Atoms, places: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Measure from one place to others (fractional), by the nearest image, in Å."""
    difference = places - place
    difference -= np.rint(difference)
    return np.linalg.norm(difference @ crystal.cell.array, axis=1)


def _operations(crystal: Atoms, symprec: float) -> list[tuple[np.ndarray, np.ndarray]]:
    dataset = _dataset(crystal, symprec)
    if dataset is None:
        return [(np.eye(3), np.zeros(3))]
    return list(zip(dataset.rotations, dataset.translations, strict=True))


def _dataset(crystal: Atoms, symprec: float) -> Any:
    with quiet_spglib(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return spglib.get_symmetry_dataset(
            (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers), symprec=symprec
        )
