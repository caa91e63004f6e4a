"""Slabs of a crystal by Miller index, through pymatgen's generator."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms

from forcefield.structures import as_atoms
from forcefield.workflows.outcome import require_package

Miller = tuple[int, int, int]
SAME_SHIFT = 1.0e-3  # of the oriented cell's height


@dataclass(frozen=True)
class Slab:
    """A slab cut from a crystal, not relaxed.

    Attributes:
        miller: index of its surface, in the conventional cell.
        termination: number of the cut among those of this index, from 0.
        shift: where it is cut, as a fraction of the oriented unit cell's height.
        atoms: the slab, periodic along a and b; c is perpendicular to both.
        bulk: the oriented unit cell that it repeats, a crystal.
        symmetric: whether both its surfaces are the same.
        polar: whether it has a dipole by formal charges (Tasker III); None where these are unknown.
        stoichiometric: whether its composition is the crystal's.
    """

    miller: Miller
    termination: int
    shift: float
    atoms: Atoms
    bulk: Atoms
    symmetric: bool
    polar: bool | None
    stoichiometric: bool

    @property
    def area(self) -> float:
        """Area of one surface (Å²)."""
        return float(np.linalg.norm(np.cross(self.atoms.cell[0], self.atoms.cell[1])))

    @property
    def thickness(self) -> float:
        """Height from the lowest to the highest atom (Å)."""
        return float(np.ptp(self.atoms.positions @ normal(self.atoms)))

    @property
    def label(self) -> str:
        """Name it as in "(1 1 0) cut 0"."""
        return f"{format_miller(self.miller)} cut {self.termination}"


def format_miller(miller: Sequence[int]) -> str:
    """Write an index as in "(1 1 -2)"."""
    return f"({' '.join(str(index) for index in miller)})"


def normal(atoms: Atoms) -> np.ndarray:
    """Give the unit vector perpendicular to a and b, on the side of c where there is a c."""
    across = np.cross(atoms.cell[0], atoms.cell[1])
    across /= np.linalg.norm(across)
    return -across if atoms.cell[2] @ across < 0.0 else across


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Keep spglib from announcing its next error handling at every call of pymatgen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"spglib.*")
        warnings.filterwarnings("ignore", message=".*(OLD_ERROR_HANDLING|spglib).*", category=DeprecationWarning)
        yield


def conventional_cell(atoms: Atoms, *, symprec: float = 0.01) -> Atoms:
    """Give the cell that Miller indices refer to.

    Args:
        atoms: a crystal.
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Returns:
        The given cell where it is a conventional one, else the conventional cell in spglib's standard setting
        (International Tables, https://doi.org/10.1080/27660400.2024.2384822) in standard orientation.
    """
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with quiet_spglib():
        found = spglib.standardize_cell(crystal, to_primitive=False, no_idealize=False, symprec=symprec)
    if found is None or len(found[2]) == len(atoms):
        return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    return Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True)


def distinct_indices(conventional: Atoms, max_index: int) -> list[Miller]:
    """List Miller indices that no symmetry of the crystal maps on each other.

    Args:
        conventional: the cell that they refer to.
        max_index: largest absolute index.

    Raises:
        ImportError: without pymatgen.
        ValueError: if the largest index is below 1.
    """
    if max_index < 1:
        raise ValueError(f"max_index is {max_index}, but must be 1 or more.")
    require_package("pymatgen")
    from pymatgen.core.surface import get_symmetrically_distinct_miller_indices
    from pymatgen.io.ase import AseAtomsAdaptor

    with quiet_spglib():
        found = get_symmetrically_distinct_miller_indices(AseAtomsAdaptor.get_structure(conventional), max_index)
    ordered = sorted(found, key=lambda miller: (sum(abs(k) for k in miller), max(miller), miller))
    return [(int(h), int(k), int(l)) for h, k, l in ordered]


def check_miller(miller: Sequence[int]) -> Miller:
    """Understand an index and divide out common factors.

    Raises:
        ValueError: unless it is three whole numbers, not all 0.
    """
    if len(miller) != 3 or any(int(k) != k for k in miller) or not any(miller):
        raise ValueError(f"miller is {tuple(miller)}, but must be three whole numbers, not all 0.")
    h, k, l = (int(index) for index in np.array(miller, dtype=int) // np.gcd.reduce(np.array(miller, dtype=int)))
    return h, k, l


def make_slabs(
    conventional: Atoms, miller: Miller, *, min_slab: float, min_vacuum: float, symprec: float = 0.01
) -> list[Slab]:
    """Cut a crystal along a plane at every symmetry-distinct height.

    Slabs are whole repeats of the oriented unit cell of the primitive crystal, as small along the surface as that
    allows, and centred in their vacuum.

    Args:
        conventional: the cell that the index refers to.
        miller: the index.
        min_slab: shortest height of the repeated layers (Å).
        min_vacuum: shortest height of vacuum (Å).
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Raises:
        ImportError: without pymatgen.
    """
    require_package("pymatgen")
    from pymatgen.core.surface import SlabGenerator
    from pymatgen.io.ase import AseAtomsAdaptor

    primitive, index = _primitive(conventional, miller, symprec)
    structure = AseAtomsAdaptor.get_structure(primitive)
    charged = _oxidation_states(structure)
    with quiet_spglib():
        generator = SlabGenerator(
            structure, index, min_slab, min_vacuum, lll_reduce=True, center_slab=True, primitive=False
        )
        made = generator.get_slabs()
        return [_describe(slab, number, miller, charged, primitive) for number, slab in enumerate(made)]


def _primitive(conventional: Atoms, miller: Miller, symprec: float) -> tuple[Atoms, Miller]:
    """Give the primitive cell in the orientation of the conventional one, and the index in its vectors."""
    crystal = (conventional.cell.array, conventional.get_scaled_positions(), conventional.numbers)
    with quiet_spglib():
        found = spglib.standardize_cell(crystal, to_primitive=True, no_idealize=True, symprec=symprec)
    if found is None:
        return conventional, miller
    primitive = Atoms(found[2], scaled_positions=found[1], cell=found[0], pbc=True)
    # an index transforms as the lattice vectors do; the smallest whole numbers along it name the same plane
    exact = primitive.cell.array @ np.linalg.inv(conventional.cell.array) @ np.array(miller)
    for factor in range(1, 13):
        whole = np.rint(exact * factor)
        if np.abs(exact * factor - whole).max() < 1.0e-3:
            return primitive, check_miller([int(k) for k in whole])
    return conventional, miller


def _oxidation_states(structure: Any) -> bool:
    """Decorate with formal charges, in place, where pymatgen can guess them; say whether there are any."""
    guesses = structure.composition.oxi_state_guesses(max_sites=-1)
    if not guesses or len(structure.composition) == 1:
        return False
    charges = guesses[0]
    if any(abs(charge - round(charge)) > 1.0e-6 for charge in charges.values()):
        return False
    structure.add_oxidation_state_by_element(charges)
    return True


def _describe(slab: Any, number: int, miller: Miller, charged: bool, primitive: Atoms) -> Slab:
    atoms, bulk = _upright(slab), as_atoms(slab.oriented_unit_cell.copy().remove_oxidation_states())
    return Slab(
        miller=miller,
        termination=number,
        shift=float(slab.shift),
        atoms=atoms,
        bulk=Atoms(bulk.numbers, positions=bulk.positions, cell=bulk.cell, pbc=True),
        symmetric=has_equal_sides(atoms),
        polar=bool(slab.is_polar()) if charged else None,
        stoichiometric=is_stoichiometric(atoms, primitive),
    )


def _upright(slab: Any) -> Atoms:
    """Turn a slab into atoms with a along x, b across z and c along z, periodic along a and b."""
    atoms = as_atoms(slab.copy().remove_oxidation_states())
    direction = normal(atoms)
    cell = atoms.cell.array.copy()
    cell[2] = direction * (cell[2] @ direction)
    flat = Atoms(atoms.numbers, positions=atoms.positions, cell=cell, pbc=[True, True, False])
    flat.set_cell(flat.cell.cellpar(), scale_atoms=True)  # a along x, b in the plane of x and y, c along z
    flat.wrap()
    return flat


def has_equal_sides(slab: Atoms, *, symprec: float = 0.05) -> bool:
    """Say whether a symmetry operation maps one side of an upright slab onto the other."""
    with quiet_spglib():
        found = spglib.get_symmetry((slab.cell.array, slab.get_scaled_positions(), slab.numbers), symprec=symprec)
    return found is not None and any(rotation[2, 2] == -1 for rotation in found["rotations"])


def is_stoichiometric(slab: Atoms, bulk: Atoms) -> bool:
    """Say whether two structures have the same composition, up to their size."""
    numbers = np.union1d(slab.numbers, bulk.numbers)
    shares = [np.array([(atoms.numbers == z).mean() for z in numbers]) for atoms in (slab, bulk)]
    return bool(np.allclose(shares[0], shares[1], atol=1.0e-9))
