"""Before phonons: options, the supercell, and the way from a structure to phonopy with force constants in it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import spglib
from ase import Atoms

from forcefield.suggest import nearest
from forcefield.units import COULOMB
from forcefield.workflows.crystal import CrystalOptions
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import require_package

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.harmonic.dynamical_matrix import NacParams

METHODS = ("displacements", "hessian")
SYMPREC = 1.0e-4  # Å, within which phonopy looks for symmetry in a structure that was symmetrised or relaxed
MOST_CHARGE = 0.1  # e, by which symmetry may change Born charges without a word
SHORTER_LENGTH = 15.0  # Å, of the supercell where phonons are computed at several volumes


@dataclass(frozen=True)
class PhononOptions(CrystalOptions):
    """Options of `phonons`, checked; see there for their meaning."""

    supercell_length: float = 20.0
    supercell: tuple[int, int, int] | None = None
    method: str = "displacements"
    displacement: float = 0.01
    mesh_length: float = 60.0
    t_max: float = 1000.0
    t_step: float = 10.0
    tolerance: float = 0.05
    follow_imaginary: bool = False
    follow_rounds: int = 3

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        super().__post_init__()
        for name in ("supercell_length", "displacement", "mesh_length", "t_max", "t_step", "tolerance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, but must be one of {', '.join(METHODS)}.")
        if self.supercell is not None and (len(self.supercell) != 3 or min(self.supercell) < 1):
            raise ValueError(f"supercell is {self.supercell}, but must be three whole numbers of 1 or more.")
        if self.follow_rounds < 1:
            raise ValueError(f"follow_rounds is {self.follow_rounds}, but must be 1 or more.")


def options_at_volumes(workflow: str, given: Mapping[str, Any]) -> PhononOptions:
    """Options of phonons that a workflow repeats at several volumes.

    Args:
        workflow: name of the function that was given them.
        given: what differs from the presets.

    Raises:
        TypeError: for an option that does not exist, naming the nearest.
        ValueError: for an impossible value.
    """
    known = [field.name for field in fields(PhononOptions)]
    for name in given:
        if name not in known:
            raise TypeError(f"{workflow}() has no option {name!r}{nearest(name, known)}")
    return PhononOptions(**{"supercell_length": SHORTER_LENGTH, **given})


def choose_supercell(atoms: Atoms, length: float, *, symprec: float = SYMPREC) -> np.ndarray:
    """Choose a supercell about as long in every direction, of the crystal's conventional cell where that fits.

    The smallest multiple of each vector that is at least `length` long; equal vectors get equal multiples, so that the
    symmetry of the crystal stays that of its supercell. A primitive cell is first turned into the conventional one, as
    the multiples of skewed vectors of different length would lose symmetry.

    Args:
        atoms: the crystal.
        length: shortest length of a supercell vector (Å).
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Returns:
        (3, 3) whole numbers; its rows, times the cell, are the supercell vectors.
    """
    matrix = _conventional(atoms, symprec)
    lengths = np.linalg.norm(matrix @ atoms.cell.array, axis=1)
    multiples = np.maximum(1, np.ceil(length / lengths - 1.0e-4)).astype(int)
    return np.diag(multiples) @ matrix


def _conventional(atoms: Atoms, symprec: float) -> np.ndarray:
    """Give the conventional vectors as whole multiples of the cell's (rows), or the unit matrix where they are not."""
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():  # spglib announces a future exception, which is handled here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            dataset = spglib.get_symmetry_dataset(crystal, symprec=symprec)
        except getattr(spglib, "SpglibError", ()):
            dataset = None
    if dataset is None:
        return np.eye(3, dtype=int)
    exact = np.linalg.inv(dataset.transformation_matrix).T
    matrix = np.rint(exact).astype(int)
    whole = np.abs(exact - matrix).max() < 1.0e-3 and round(abs(np.linalg.det(matrix))) >= 1
    return matrix if whole else np.eye(3, dtype=int)


def to_phonopy_atoms(atoms: Atoms) -> Any:
    """Turn atoms into phonopy's, masses included."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        symbols=list(atoms.symbols),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )


def from_phonopy_atoms(cell: Any) -> Atoms:
    """Turn phonopy's atoms into ASE's, masses included."""
    return Atoms(
        numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, masses=cell.masses, pbc=True
    )


def make_phonopy(atoms: Atoms, options: PhononOptions) -> Phonopy:
    """Set phonopy up with the supercell that the options ask for.

    Raises:
        ImportError: if phonopy is not installed.
    """
    phonopy = require_package("phonopy")
    if options.supercell is not None:
        matrix = np.diag(options.supercell)
    else:
        matrix = choose_supercell(atoms, options.supercell_length)
    unit_cell = to_phonopy_atoms(atoms)
    # phonopy has the supercell vectors in columns
    return phonopy.Phonopy(unit_cell, matrix.T, primitive_matrix=primitive_matrix(unit_cell), symprec=SYMPREC)


def primitive_matrix(unit_cell: Any) -> np.ndarray:
    """Give the primitive vectors as columns, in units of those of phonopy's unit cell."""
    from phonopy.structure.cells import guess_primitive_matrix

    return np.asarray(guess_primitive_matrix(unit_cell, symprec=SYMPREC))


def compute_phonopy(
    atoms: Atoms,
    calculator: Any,
    options: PhononOptions,
    store: ForceStore,
    callback: Callable[[int, int, int], None] | None = None,
) -> Phonopy:
    """Give phonopy with the force constants of a crystal that is relaxed already; see `set_force_constants`."""
    phonon = make_phonopy(atoms, options)
    set_force_constants(phonon, calculator, options, store, callback)
    return phonon


def set_force_constants(
    phonon: Phonopy,
    calculator: Any,
    options: PhononOptions,
    store: ForceStore,
    callback: Callable[[int, int, int], None] | None = None,
) -> None:
    """Compute the force constants of phonopy's supercell and symmetrise them.

    Args:
        phonon: as `make_phonopy` gives it; it is changed.
        calculator: an ASE calculator.
        options: `method` and `displacement`.
        store: keeps the forces.
        callback: told how many supercells are done, of how many, with how many atoms.

    Raises:
        ValueError: if the method is "hessian" and the calculator has none, or a force is not finite.
    """
    if options.method == "hessian":
        rows = phonon.primitive.p2s_map  # the primitive cell's atoms; the other rows are theirs, moved
        phonon.force_constants = _hessian(from_phonopy_atoms(phonon.supercell), calculator)[rows]
    else:
        _displace(phonon, calculator, options.displacement, store, callback)
        phonon.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)


def _displace(
    phonon: Phonopy,
    calculator: Any,
    distance: float,
    store: ForceStore,
    callback: Callable[[int, int, int], None] | None,
) -> None:
    """Compute the forces of all symmetry-distinct displacements, less those of the supercell at rest."""
    phonon.generate_displacements(distance=distance)
    displaced = phonon.supercells_with_displacements
    assert displaced is not None
    rest = store.forces(from_phonopy_atoms(phonon.supercell), calculator)
    forces = []
    for number, cell in enumerate(displaced):
        if callback is not None:
            callback(number, len(displaced), len(rest))
        forces.append(store.forces(from_phonopy_atoms(cell), calculator) - rest)
    phonon.forces = np.array(forces)


def _hessian(supercell: Atoms, calculator: Any) -> np.ndarray:
    """Ask for the second derivatives of the supercell's energy, (atoms, atoms, 3, 3) in eV/Å²."""
    if not hasattr(calculator, "get_hessian"):
        raise ValueError(
            f'method="hessian" needs a calculator with get_hessian(atoms), which {type(calculator).__name__} has not. '
            'Use method="displacements".'
        )
    n = len(supercell)
    matrix = np.asarray(calculator.get_hessian(supercell), dtype=float).reshape(n, 3, n, 3)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{type(calculator).__name__} gave a Hessian that is not finite for {supercell.symbols}.")
    return matrix.transpose(0, 2, 1, 3).copy()


def set_born_charges(phonon: Phonopy, born: str | Path | Mapping[str, Any]) -> list[str]:
    """Add Born effective charges and the dielectric tensor, which split LO from TO modes at Γ.

    Gonze and Lee, https://doi.org/10.1103/PhysRevB.55.10355, as in phonopy.

    Args:
        phonon: is changed.
        born: path of a BORN file (phonopy's format: charges of the symmetry-distinct atoms of the primitive cell), or
            a mapping with "born" (atoms of the primitive cell, 3, 3; e) and "dielectric" (3, 3; vacuum is 1).

    Returns:
        What to know, one sentence each: charges that seem to belong to another crystal.

    Raises:
        ValueError: if the file is missing or does not fit the crystal, or the arrays have the wrong shape.
    """
    n = len(phonon.primitive)
    if isinstance(born, Mapping):
        charges, dielectric = np.asarray(born["born"], dtype=float), np.asarray(born["dielectric"], dtype=float)
        if charges.shape != (n, 3, 3) or dielectric.shape != (3, 3):
            raise ValueError(
                f"Born charges of shape {charges.shape} and a dielectric tensor of shape {dielectric.shape} came, but "
                f"({n}, 3, 3) for the {n} atoms of the primitive cell and (3, 3) are needed."
            )
        return _set_symmetrised(phonon, {"born": charges, "dielectric": dielectric, "factor": COULOMB})
    from phonopy.file_IO import parse_BORN

    path = Path(born)
    if not path.is_file():
        raise ValueError(f"The file of Born charges {path} does not exist.")
    try:
        parameters = parse_BORN(phonon.primitive, symprec=SYMPREC, filename=str(path))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f"{path} is no BORN file for this primitive cell of {n} atoms ({error}).") from error
    if parameters is None:
        raise ValueError(f"{path} is no BORN file for this primitive cell of {n} atoms.")
    return _set_symmetrised(phonon, {"factor": COULOMB, **parameters})  # a first line of words has no factor


def _set_symmetrised(phonon: Phonopy, parameters: Mapping[str, Any]) -> list[str]:
    """Set charges with the symmetry of the crystal and without a sum; say so if that changed them much."""
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    given = np.asarray(parameters["born"], dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # phonopy's own warning shows arrays; ours follows
        charges, dielectric = symmetrize_borns_and_epsilon(
            given, np.asarray(parameters["dielectric"], dtype=float), phonon.primitive, symprec=SYMPREC
        )
    phonon.nac_params = cast("NacParams", {**parameters, "born": charges, "dielectric": dielectric})
    change = float(np.abs(charges - given).max())
    if change <= MOST_CHARGE:
        return []
    return [
        f"the Born charges had to be changed by up to {change:.2g} e to have the symmetry of the crystal and add up to "
        "zero; see that they belong to it"
    ]
