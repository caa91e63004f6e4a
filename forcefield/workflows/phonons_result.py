"""What `phonons` reports: bands, density of states, thermal properties, imaginary modes and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from forcefield.workflows.phonons_setup import PhononOptions
from forcefield.workflows.relax_result import RelaxResult
from forcefield.workflows.symmetry import SpaceGroup

if TYPE_CHECKING:
    from phonopy import Phonopy

STABLE = "stable"
UNSTABLE = "imaginary modes"
UNSURE = "imaginary modes between the supercell's q-points"
FOLLOWED = "imaginary modes, followed to a stable structure"
FOLLOWED_IN_VAIN = "imaginary modes, followed without reaching a stable structure"


@dataclass(frozen=True)
class Bands:
    """Frequencies along a path through the Brillouin zone.

    Attributes:
        labels: (label at the start, label at the end) of each segment.
        qpoints: of each segment, (points, 3) in units of the primitive reciprocal vectors.
        distances: of each segment, (points,) along the path in 1/Å (without 2π).
        frequencies: of each segment, (points, bands) in THz; negative ones are imaginary.
    """

    labels: tuple[tuple[str, str], ...]
    qpoints: tuple[np.ndarray, ...]
    distances: tuple[np.ndarray, ...]
    frequencies: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class DensityOfStates:
    """Frequencies (THz; negative ones imaginary) and the number of modes per THz and primitive cell."""

    frequencies: np.ndarray
    total: np.ndarray


@dataclass(frozen=True)
class ThermalProperties:
    """Harmonic thermodynamics per atom, imaginary modes left out.

    Attributes:
        temperatures: (points,) K.
        free_energy: Helmholtz energy of the vibrations, zero point included (eV/atom).
        entropy: (eV/K/atom).
        heat_capacity: at constant volume (eV/K/atom).
    """

    temperatures: np.ndarray
    free_energy: np.ndarray
    entropy: np.ndarray
    heat_capacity: np.ndarray


@dataclass(frozen=True)
class ImaginaryMode:
    """A mode along which the energy falls.

    Attributes:
        qpoint: (3,) in units of the primitive reciprocal vectors.
        band: number of the band, from 0.
        frequency: minus the size of the imaginary frequency (THz).
        eigenvector: (atoms of the primitive cell, 3) complex, of the dynamical matrix.
        commensurate: whether the supercell holds this q-point, so that the frequency is computed and not interpolated.
    """

    qpoint: tuple[float, float, float]
    band: int
    frequency: float
    eigenvector: np.ndarray
    commensurate: bool


@dataclass(frozen=True)
class FollowStep:
    """One round of following an imaginary mode.

    Attributes:
        qpoint: of the mode followed.
        frequency: of it (THz).
        amplitude: largest displacement of an atom at the lowest energy along the mode (Å).
        energy_gain: energy won by the relaxation that followed (eV/atom, positive when the energy fell).
        spacegroup: of the structure reached; None where spglib finds none.
        n_atoms: of its primitive cell.
        lowest_frequency: of the structure reached, over the q-points of its supercell (THz).
    """

    qpoint: tuple[float, float, float]
    frequency: float
    amplitude: float
    energy_gain: float
    spacegroup: SpaceGroup | None
    n_atoms: int
    lowest_frequency: float


@dataclass(frozen=True)
class PhononResult:
    """Phonons of a crystal.

    Attributes:
        atoms: the structure the phonons belong to: the relaxed cell that was given.
        verdict: "stable", "imaginary modes", "imaginary modes between the supercell's q-points" (interpolated: take a
            longer supercell to know), or what following them led to.
        warnings: what else to know, one sentence each.
        relaxation: how the relaxation before went; None without one.
        supercell_matrix: (3, 3) whole numbers; its rows, times the cell, are the supercell vectors.
        supercell_atoms: atoms of the supercell.
        n_displacements: supercells with a displaced atom; 0 for the Hessian.
        primitive: the primitive cell.
        bands: along seekpath's path.
        dos: density of states.
        thermal: harmonic thermodynamics.
        zero_point_energy: (eV/atom), imaginary modes left out.
        lowest_frequency: over the supercell's q-points (THz); imaginary ones count as negative.
        highest_frequency: over bands and mesh (THz).
        imaginary: imaginary modes, lowest first, those of the supercell's q-points before interpolated ones.
        imaginary_share: fraction of all modes of the mesh that is imaginary.
        stable_structure: where following the imaginary modes led to, if it was asked for and a minimum was reached.
        followed: the rounds of following.
        options: what it was computed with.
        phonopy: the phonopy object, for whatever is not here.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    relaxation: RelaxResult | None
    supercell_matrix: np.ndarray
    supercell_atoms: int
    n_displacements: int
    primitive: Atoms
    bands: Bands
    dos: DensityOfStates
    thermal: ThermalProperties
    zero_point_energy: float
    lowest_frequency: float
    highest_frequency: float
    imaginary: tuple[ImaginaryMode, ...]
    imaginary_share: float
    stable_structure: Atoms | None
    followed: tuple[FollowStep, ...]
    options: PhononOptions
    phonopy: Phonopy = field(repr=False, compare=False)

    @property
    def stable(self) -> bool:
        """Whether no mode of the supercell's q-points is imaginary."""
        return not any(mode.commensurate for mode in self.imaginary)

    def to_dict(self) -> dict[str, Any]:
        """Give all but the phonopy object, for JSON by `forcefield.workflows.outcome.plain`."""
        content = {name: value for name, value in vars(self).items() if name != "phonopy"}
        return {"formula": self.atoms.get_chemical_formula(), "ok": self.verdict in (STABLE, FOLLOWED), **content}
