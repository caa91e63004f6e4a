"""Where and how a molecule is put on a slab before relaxation, and what became of it afterwards."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from forcefield.workflows.outcome import require_package
from forcefield.workflows.surfaces_build import normal, quiet_spglib

SITES = ("ontop", "bridge", "hollow")
ORIENTATIONS = ("upright", "flipped", "flat")
BOND = 1.25  # of the sum of covalent radii
CONTACT = 1.4  # of the sum of covalent radii; the molecule counts as bound to the surface within it
VACUUM = 20.0  # Å
EMPTY = 5.0  # Å of vacuum that a slab needs between its periodic images

ADSORBED, DESORBED, DISSOCIATED = "adsorbed", "desorbed", "dissociated"
SURFACE_CHANGED = "surface changed"


class Place(NamedTuple):
    """A place on the surface: kind, number among these, Cartesian position (3,) in Å of the surface there."""

    kind: str
    number: int
    position: np.ndarray

    def __str__(self) -> str:
        """Name it as in "hollow 1"."""
        return f"{self.kind} {self.number}"


def prepare_slab(slab: Atoms, min_width: float) -> Atoms:
    """Turn a slab upright in its vacuum and repeat it along the surface.

    Args:
        slab: a slab, its surface spanned by a and b; constraints are kept.
        min_width: shortest distance between opposite edges after repeating (Å).

    Returns:
        The slab, periodic along a and b, c along z and long enough for a molecule.

    Raises:
        ValueError: for a structure that is no slab.
    """
    if not (slab.pbc[0] and slab.pbc[1]) or np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])) < 1.0e-3:
        raise ValueError(
            f"adsorption needs a slab, periodic along a and b, but {slab.get_chemical_formula()} is periodic along "
            f"{[bool(periodic) for periodic in slab.pbc]}. Cut one, for example with `forcefield surfaces`."
        )
    direction = normal(slab)
    height = float(np.ptp(slab.positions @ direction))
    empty = abs(slab.cell[2] @ direction) - height
    if slab.pbc[2] and empty < EMPTY:
        raise ValueError(
            f"adsorption needs a slab with vacuum, but the atoms of {slab.get_chemical_formula()} leave only "
            f"{empty:.1f} Å of their cell along c empty. Cut a slab, for example with `forcefield surfaces`, and move "
            "it off the cell's border."
        )
    work = slab.copy()
    work.cell[2] = direction * (height + VACUUM)
    work.set_cell(work.cell.cellpar(), scale_atoms=True, apply_constraint=False)
    work.pbc = [True, True, False]
    work.positions[:, 2] += 2.0 - work.positions[:, 2].min()
    area = np.linalg.norm(np.cross(work.cell[0], work.cell[1]))
    widths = [area / np.linalg.norm(work.cell[other]) for other in (1, 0)]
    return work.repeat([max(1, int(np.ceil(min_width / width - 1.0e-6))) for width in widths] + [1])


def find_places(slab: Atoms, kinds: tuple[str, ...]) -> list[Place]:
    """List symmetry-distinct places on the upper surface (pymatgen's AdsorbateSiteFinder).

    Args:
        slab: as `prepare_slab` gives it.
        kinds: of `SITES`.

    Raises:
        ImportError: without pymatgen.
    """
    require_package("pymatgen")
    from pymatgen.analysis.adsorption import AdsorbateSiteFinder
    from pymatgen.io.ase import AseAtomsAdaptor

    bare = Atoms(slab.numbers, positions=slab.positions, cell=slab.cell, pbc=True)
    with quiet_spglib():
        finder = AdsorbateSiteFinder(AseAtomsAdaptor.get_structure(bare))
        found = finder.find_adsorption_sites(distance=0.0, positions=list(kinds))
    return [
        Place(kind, number, np.asarray(position, dtype=float))
        for kind in kinds
        for number, position in enumerate(found[kind])
    ]


def orient(molecule: Atoms, orientation: str) -> Atoms:
    """Turn a molecule: its longest axis along z, the other way round, or along the surface.

    Args:
        molecule: the molecule.
        orientation: of `ORIENTATIONS`.

    Returns:
        Atoms whose lowest is at height 0 and whose centre is above the origin.
    """
    away = molecule.positions - molecule.positions.mean(axis=0)
    axis = np.linalg.svd(away)[2][0] if len(molecule) > 1 else np.array([0.0, 0.0, 1.0])
    ends = away @ axis
    if len(molecule) > 1 and molecule.numbers[ends.argmax()] < molecule.numbers[ends.argmin()]:
        axis = -axis  # upright: the lighter end below, such as the carbon of CO
    turned = molecule.copy()
    turned.positions = away
    target = {"upright": (0.0, 0.0, 1.0), "flipped": (0.0, 0.0, -1.0), "flat": (1.0, 0.0, 0.0)}[orientation]
    turned.rotate(axis, target)
    turned.positions[:, 2] -= turned.positions[:, 2].min()
    lowest = turned.positions[:, 2] < 0.1
    turned.positions[:, :2] -= turned.positions[lowest, :2].mean(axis=0)
    return turned


def distinct_orientations(molecule: Atoms, wanted: tuple[str, ...]) -> list[str]:
    """Drop orientations that are the same for an atom or for two equal atoms."""
    if len(molecule) == 1:
        return ["upright"]
    if len(molecule) == 2 and molecule.numbers[0] == molecule.numbers[1]:
        kept = [orientation for orientation in wanted if orientation != "flipped"]
        return kept or ["upright"]
    return list(wanted)


def place_molecule(slab: Atoms, molecule: Atoms, place: Place, height: float) -> Atoms:
    """Put an oriented molecule on a slab.

    Args:
        slab: as `prepare_slab` gives it.
        molecule: as `orient` gives it.
        place: where.
        height: of its lowest atom above the place (Å).
    """
    above = molecule.copy()
    above.positions += place.position + np.array([0.0, 0.0, height])
    above.set_cell(slab.cell)
    above.pbc = slab.pbc
    together = slab.copy()
    together.extend(above)
    return together


def judge(before: Atoms, after: Atoms, n_slab: int, moved: np.ndarray, far: float) -> str:
    """Say what became of a molecule on a slab.

    Args:
        before: slab and molecule as placed; the molecule's atoms come last.
        after: the same, relaxed.
        n_slab: atoms of the slab.
        moved: (n_slab,) how far the slab's atoms are from those of the clean slab (Å).
        far: how far one may go in an unchanged surface (Å).

    Returns:
        "adsorbed", "desorbed", "dissociated" or "surface changed".
    """
    if _bonds(before[n_slab:]) != _bonds(after[n_slab:]):
        return DISSOCIATED
    if moved.max() > far:
        return SURFACE_CHANGED
    i, j, distance = neighbor_list("ijd", after, CONTACT * 2.0 * float(covalent_radii[after.numbers].max()))
    touching = (i < n_slab) & (j >= n_slab)
    limit = CONTACT * (covalent_radii[after.numbers[i]] + covalent_radii[after.numbers[j]])
    return ADSORBED if bool((distance[touching] < limit[touching]).any()) else DESORBED


def _bonds(molecule: Atoms) -> set[tuple[int, int]]:
    """List the bonds within a molecule by the covalent radii."""
    reach = BOND * 2.0 * float(covalent_radii[molecule.numbers].max())
    i, j, distance = neighbor_list("ijd", molecule, reach)
    bonded: Any = distance < BOND * (covalent_radii[molecule.numbers[i]] + covalent_radii[molecule.numbers[j]])
    return {(int(a), int(b)) for a, b in zip(i[bonded], j[bonded], strict=True) if a < b}
