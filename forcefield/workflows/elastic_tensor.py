"""What a 6x6 elastic tensor says: symmetrised by the crystal, averaged over directions, stable or not.

Voigt order xx, yy, zz, yz, xz, xy throughout, shear strains doubled, so that stress = tensor @ strain.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

Array = NDArray[np.float64]
PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


def strain_matrix(voigt: Array) -> Array:
    """Turn a Voigt strain (6, shear doubled) into a symmetric (3, 3) one."""
    xx, yy, zz, yz, xz, xy = voigt
    return np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])


def to_full(tensor: Array) -> Array:
    """Unfold (6, 6) into (3, 3, 3, 3)."""
    return tensor[VOIGT[:, :, None, None], VOIGT[None, None, :, :]]


def to_voigt(full: Array) -> Array:
    """Fold (3, 3, 3, 3) into (6, 6)."""
    return np.array([[full[i, j, k, m] for k, m in PAIRS] for i, j in PAIRS])


def point_group_rotations(atoms: Atoms, *, symprec: float = 0.01) -> Array:
    """Give the rotations of a crystal's space group as Cartesian (operations, 3, 3); the unit matrix where none."""
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():  # spglib announces a future exception, which is handled here
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            symmetry = spglib.get_symmetry(crystal, symprec=symprec)
        except getattr(spglib, "SpglibError", ()):
            symmetry = None
    if symmetry is None:
        return np.eye(3)[None]
    cell = atoms.cell.array.T  # columns are lattice vectors
    turned = cell @ np.unique(symmetry["rotations"], axis=0) @ np.linalg.inv(cell)
    left, _, right = np.linalg.svd(turned)  # nearest rotation, where the cell is not quite symmetric
    return left @ right


def symmetrise(tensor: Array, rotations: Array) -> Array:
    """Average a tensor (6, 6) over rotations (operations, 3, 3), and over its transpose."""
    full = to_full(0.5 * (tensor + tensor.T))
    turned = np.einsum("nia,njb,nkc,nmd,abcd->ijkm", *[rotations] * 4, full, optimize=True) / len(rotations)
    return to_voigt(turned)


@dataclass(frozen=True)
class Moduli:
    """Averages of an elastic tensor for a polycrystal; GPa, Hill's mean of Voigt's and Reuss's unless said.

    Attributes:
        bulk_voigt, bulk_reuss, bulk: bulk modulus.
        shear_voigt, shear_reuss, shear: shear modulus.
        young: Young's modulus.
        poisson: Poisson's ratio.
        pugh: bulk / shear modulus; ductile above about 1.75.
        anisotropy: universal index, 0 for an isotropic crystal.
    """

    bulk_voigt: float
    bulk_reuss: float
    bulk: float
    shear_voigt: float
    shear_reuss: float
    shear: float
    young: float
    poisson: float
    pugh: float
    anisotropy: float


def moduli(tensor: Array) -> Moduli | None:
    """Average an elastic tensor over directions.

    Hill, https://doi.org/10.1088/0370-1298/65/5/307; anisotropy: Ranganathan and Ostoja-Starzewski,
    https://doi.org/10.1103/PhysRevLett.101.055504.

    Args:
        tensor: (6, 6) in GPa.

    Returns:
        The moduli, or None for a crystal that is not stable, where Reuss's average means nothing.
    """
    if eigenvalues(tensor).min() <= 0.0:
        return None
    s = np.linalg.inv(tensor)
    c = tensor
    diagonal, mixed = np.trace(c[:3, :3]), c[0, 1] + c[0, 2] + c[1, 2]
    bulk_voigt = (diagonal + 2.0 * mixed) / 9.0
    shear_voigt = (diagonal - mixed + 3.0 * np.trace(c[3:, 3:])) / 15.0
    diagonal, mixed = np.trace(s[:3, :3]), s[0, 1] + s[0, 2] + s[1, 2]
    bulk_reuss = 1.0 / (diagonal + 2.0 * mixed)
    shear_reuss = 15.0 / (4.0 * diagonal - 4.0 * mixed + 3.0 * np.trace(s[3:, 3:]))
    bulk, shear = 0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)
    values = {
        **{"bulk_voigt": bulk_voigt, "bulk_reuss": bulk_reuss, "bulk": bulk},
        **{"shear_voigt": shear_voigt, "shear_reuss": shear_reuss, "shear": shear},
        **{"young": 9.0 * bulk * shear / (3.0 * bulk + shear), "pugh": bulk / shear},
        "poisson": (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear)),
        "anisotropy": 5.0 * shear_voigt / shear_reuss + bulk_voigt / bulk_reuss - 6.0,
    }
    return Moduli(**{name: float(value) for name, value in values.items()})


def eigenvalues(tensor: Array) -> Array:
    """Give the six eigenvalues of a tensor in Kelvin's (orthonormal) notation, in its unit, lowest first.

    All positive means stable: every strain costs energy (Mouhat and Coudert,
    https://doi.org/10.1103/PhysRevB.90.224104).
    """
    scale = np.array([1.0, 1.0, 1.0, 2.0**0.5, 2.0**0.5, 2.0**0.5])
    return np.linalg.eigvalsh(0.5 * (tensor + tensor.T) * np.outer(scale, scale)).astype(np.float64)


def stress_strain_from_energy(second: Array, stress: Array) -> Array:
    """Turn second derivatives of the energy by Lagrangian strain into stress-strain coefficients of a stressed crystal.

    Barron and Klein, https://doi.org/10.1088/0370-1328/85/3/313; both agree where there is no stress.

    Args:
        second: (6, 6), per volume.
        stress: (6,), of the same unit.
    """
    sigma = stress[VOIGT]
    unit = np.eye(3)
    terms = (
        np.einsum("il,jk->ijkl", sigma, unit)
        + np.einsum("jl,ik->ijkl", sigma, unit)
        + np.einsum("ik,jl->ijkl", sigma, unit)
        + np.einsum("jk,il->ijkl", sigma, unit)
    )
    return to_voigt(to_full(second) + 0.5 * terms - np.einsum("ij,kl->ijkl", sigma, unit))
