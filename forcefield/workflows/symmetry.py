"""Space groups by spglib, and keeping one during a relaxation."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import spglib
from ase import Atoms
from ase.constraints import FixSymmetry


class SpaceGroup(NamedTuple):
    """International symbol and number (1-230) of a space group."""

    symbol: str
    number: int

    def __str__(self) -> str:
        """Write as in ``Fm-3m (225)``."""
        return f"{self.symbol} ({self.number})"


def find_space_group(atoms: Atoms, *, symprec: float = 0.01) -> SpaceGroup | None:
    """Determine the space group of a crystal (spglib, https://doi.org/10.1080/27660400.2024.2384822).

    Args:
        atoms: the structure.
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Returns:
        The space group; None where the structure is not periodic along all three axes or spglib finds none
        (for example because atoms coincide).
    """
    if not atoms.pbc.all() or len(atoms) == 0:
        return None
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    # spglib 2.7 and 2.8 announce on every call that a failure will become an exception, which is handled here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            dataset = spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except getattr(spglib, "SpglibError", ()):
            return None
    return None if dataset is None else SpaceGroup(dataset.international, int(dataset.number))


def keep_symmetry(atoms: Atoms, *, symprec: float = 0.01) -> None:
    """Add a constraint, in place, under which atoms and cell keep their present space group.

    Positions and cell are first symmetrised, which moves an atom by no more than about `symprec`. Constraints that were
    there are applied after the new one.

    Args:
        atoms: the structure; it is changed.
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Raises:
        ValueError: if the structure is not periodic along all three axes, or has no space group within `symprec`.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"symmetry=True came for a structure periodic along {describe_axes(atoms)}, but a space group needs three "
            "periodic axes. Use symmetry=False."
        )
    if find_space_group(atoms, symprec=symprec) is None:
        raise ValueError(
            f"spglib finds no space group within symprec={symprec} Å, perhaps because atoms (nearly) coincide. "
            "Correct the structure, choose another symprec, or use symmetry=False."
        )
    others = list(atoms.constraints)
    atoms.set_constraint()
    with _environment_restored("SPGLIB_OLD_ERROR_HANDLING"):
        symmetry = FixSymmetry(atoms, symprec=symprec)
    atoms.set_constraint([symmetry, *others])


@contextmanager
def cell_steps_accepted() -> Iterator[None]:
    """Keep ASE from warning of a large step of a symmetric cell, and SciPy of rounding in the logarithm of a strain.

    What comes of a step is checked after it; errors of the logarithm above 1e-10 still are warnings.
    """
    with warnings.catch_warnings():
        rounding = r"logm result may be inaccurate, approximate err = \S*e-1\d"
        warnings.filterwarnings("ignore", message=rounding, category=RuntimeWarning)
        warnings.filterwarnings("ignore", message="FixSymmetry adjust_cell may be ill behaved", category=UserWarning)
        yield


@contextmanager
def _environment_restored(name: str) -> Iterator[None]:
    """Undo what the block does to one environment variable (ASE leaves spglib's switch set)."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def describe_axes(atoms: Atoms) -> str:
    """Name the periodic axes, such as "a, b" or "no axis"."""
    return ", ".join(name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic) or "no axis"
