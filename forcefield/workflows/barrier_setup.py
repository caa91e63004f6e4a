"""Before a barrier is sought: options, and which atom of the one end is which of the other."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.geometry import find_mic
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from forcefield.structures import check_structure

Array = NDArray[np.float64]

OPTIMIZERS = ("FIRE", "ode")
INTERPOLATIONS = ("idpp", "linear")
SAME_STRUCTURE = 0.05  # Å; ends whose atoms lie this close are the same
SAME_CELL = 1.0e-3  # Å
SMALL_SHARE, SMALL_FORCE = 1.0e-3, 1.0e-4  # of the forces, and eV/Å: a motion that meets less costs nothing


@dataclass(frozen=True)
class NEBOptions:
    """Options of `neb`, checked; see there for their meaning."""

    n_images: int = 5
    climb: bool = True
    relax_ends: bool = True
    mapping: bool = True
    interpolation: str = "idpp"
    optimizer: str = "FIRE"
    fmax: float = 0.03
    steps: int = 500
    spring: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        if self.n_images < 1:
            raise ValueError(f"n_images is {self.n_images}, but at least one image must lie between the ends.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation is {self.interpolation!r}, but must be one of {', '.join(INTERPOLATIONS)}."
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}, but must be one of {', '.join(OPTIMIZERS)}.")
        for name in ("fmax", "spring"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, but must be 1 or more.")

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


def match_ends(initial: Atoms, final: Atoms, *, mapping: bool) -> tuple[Atoms, NDArray[np.int64]]:
    """Order the atoms of the final structure as in the initial one, each in the periodic image nearest to its start.

    A common shift is taken out where nothing is fixed, a rotation too where nothing is periodic. Atoms are paired so
    that the sum of squared displacements is smallest (the Hungarian method, H. W. Kuhn, Nav. Res. Logist. Q. 2, 83
    (1955), https://doi.org/10.1002/nav.3800020109).

    Args:
        initial: the one end.
        final: the other end, with the same elements and cell.
        mapping: pair atoms anew; else their order is kept.

    Returns:
        The final structure, with the constraints of the initial one, and which atom of the input each atom was.

    Raises:
        ValueError: if elements, cell or periodicity differ, or both are the same structure once atoms are paired.
    """
    _check_ends(initial, final)
    moved = final.copy()
    moved.set_constraint()
    order = np.arange(len(initial))
    free = not initial.constraints and len(initial) > 1  # an atom alone moves in a field, or not at all
    for _ in range(3 if mapping or free else 1):  # a shift may change the pairing, and the pairing the shift
        if mapping:
            best = _pairing(initial, moved)
            moved, order = moved[best], order[best]
        displacements = _displacements(initial, moved)
        if free:
            displacements = displacements - displacements.mean(axis=0)
        moved.positions = initial.positions + displacements
        if free and not initial.pbc.any():
            minimize_rotation_and_translation(initial, moved)
    furthest = float(np.linalg.norm(moved.positions - initial.positions, axis=1).max())
    if furthest < SAME_STRUCTURE:
        hint = " Use mapping=False to keep their order, where like atoms change places." if mapping else ""
        raise ValueError(f"Both ends are the same structure: no atom moves by more than {furthest:.3f} Å.{hint}")
    moved.set_constraint(initial.constraints)
    return moved, order


def _check_ends(initial: Atoms, final: Atoms) -> None:
    for atoms in (initial, final):
        check_structure(atoms)
    if sorted(initial.numbers) != sorted(final.numbers):
        raise ValueError(
            f"The ends hold different atoms, {initial.symbols} and {final.symbols}; a path needs the same at both."
        )
    if not np.array_equal(initial.pbc, final.pbc):
        raise ValueError(f"The ends are periodic along different axes: {initial.pbc.tolist()}, {final.pbc.tolist()}.")
    apart = np.abs(initial.cell.array - final.cell.array)[initial.pbc].max(initial=0.0)
    if apart > SAME_CELL:
        raise ValueError(f"The cells of the ends differ by {apart:.3f} Å; a path needs the same cell at both.")


def _pairing(initial: Atoms, final: Atoms) -> NDArray[np.int64]:
    """Say which atom of the final structure belongs to each atom of the initial one."""
    order = np.arange(len(initial))
    for number in np.unique(initial.numbers):
        ours, theirs = np.flatnonzero(initial.numbers == number), np.flatnonzero(final.numbers == number)
        vectors = (final.positions[theirs][None] - initial.positions[ours][:, None]).reshape(-1, 3)
        distances = find_mic(vectors, initial.cell, initial.pbc)[1].reshape(len(ours), len(theirs))
        rows, columns = linear_sum_assignment(distances**2)
        order[ours[rows]] = theirs[columns]
    if not np.array_equal(initial.numbers, final.numbers[order]):
        raise AssertionError("pairing mixed elements")
    return order


def _displacements(initial: Atoms, final: Atoms) -> Array:
    if not np.array_equal(initial.numbers, final.numbers):
        raise ValueError("The ends hold their elements in a different order; use mapping=True to pair them.")
    return np.asarray(find_mic(final.positions - initial.positions, initial.cell, initial.pbc)[0])


def rigid_motions(atoms: Atoms, forces: Array) -> list[Array]:
    """Shifts and, without periodic axes or around a single one, rotations of the whole structure, which cost nothing.

    Args:
        atoms: the structure; with any constraint there is no such motion.
        forces: (atoms, 3) eV/Å, by which shifts and rotations in an outer field are told, which do cost something.

    Returns:
        Orthonormal motions, (atoms, 3) each.
    """
    if atoms.constraints or len(atoms) == 1:
        return []
    arms = atoms.positions - atoms.positions.mean(axis=0)
    axes = [atoms.cell.array[atoms.pbc][0]] if atoms.pbc.sum() == 1 else [] if atoms.pbc.any() else list(np.eye(3))
    shifts = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)]
    found: list[Array] = []
    for motion in (*shifts, *(np.cross(axis, arms) for axis in axes)):
        for other in found:
            motion = motion - np.vdot(motion, other) * other
        length = np.linalg.norm(motion)
        if length < 1e-6:  # a linear molecule about its axis
            continue
        motion = motion / length
        if abs(np.vdot(motion, forces)) < SMALL_SHARE * np.linalg.norm(forces) + SMALL_FORCE:
            found.append(motion)
    return found
