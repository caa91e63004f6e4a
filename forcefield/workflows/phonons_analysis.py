"""From force constants to bands, density of states, thermodynamics and imaginary modes."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from forcefield.units import KELVIN, KJ_PER_MOL, PLANCK, THZ
from forcefield.workflows.outcome import require_package
from forcefield.workflows.phonons_result import Bands, DensityOfStates, ImaginaryMode, ThermalProperties

if TYPE_CHECKING:
    from phonopy import Phonopy

BAND_SPACING = 0.005  # 1/Å (without 2π) between q-points of a band
SMALLEST_FREQUENCY = 0.01  # THz; slower modes (the acoustic ones at Γ) have no thermodynamics of their own


def band_structure(phonon: Phonopy) -> Bands:
    """Compute the bands along the path of Hinuma et al., https://doi.org/10.1016/j.commatsci.2016.10.015 (seekpath).

    Raises:
        ImportError: if seekpath is not installed.
    """
    coordinates, segments = _path(phonon)
    reciprocal = np.linalg.inv(phonon.primitive.cell)  # columns are reciprocal vectors, 1/Å
    paths = []
    for start, end in segments:
        a, b = np.array(coordinates[start]), np.array(coordinates[end])
        n = max(2, math.ceil(np.linalg.norm(reciprocal @ (b - a)) / BAND_SPACING) + 1)
        paths.append(np.linspace(a, b, n))
    phonon.run_band_structure(paths)
    found = phonon.band_structure
    assert found is not None
    return Bands(
        labels=tuple((_label(start), _label(end)) for start, end in segments),
        qpoints=tuple(np.array(part) for part in found.qpoints),
        distances=tuple(np.array(part) for part in found.distances),
        frequencies=tuple(np.array(part) for part in found.frequencies),
    )


def _path(phonon: Phonopy) -> tuple[dict[str, list[float]], list[tuple[str, str]]]:
    """Ask seekpath for special points, in units of the primitive cell's reciprocal vectors, and the segments."""
    seekpath = require_package("seekpath")
    cell = phonon.primitive
    with warnings.catch_warnings():  # seekpath passes on announcements of spglib, and remarks on edge cases
        warnings.simplefilter("ignore")
        found = seekpath.get_path_orig_cell((cell.cell, cell.scaled_positions, cell.numbers), symprec=1.0e-4)
    return found["point_coords"], [tuple(segment) for segment in found["path"]]


def _label(name: str) -> str:
    return "Γ" if name == "GAMMA" else name


def run_mesh(phonon: Phonopy, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute frequencies on a mesh around Γ as dense as that of a supercell of some length.

    Args:
        phonon: with force constants.
        length: of the supercell (Å).

    Returns:
        Frequencies (q-points, bands) in THz and weights (q-points) that sum to one.
    """
    phonon.run_mesh(length, is_gamma_center=True)
    mesh: Any = phonon.mesh
    weights = np.array(mesh.weights, dtype=float)
    return np.array(mesh.frequencies), weights / weights.sum()


def density_of_states(phonon: Phonopy) -> DensityOfStates:
    """Integrate the mesh of `run_mesh` by tetrahedra, per primitive cell."""
    phonon.run_total_dos()
    found = phonon.total_dos
    assert found is not None
    return DensityOfStates(np.array(found.frequency_points), np.array(found.dos))


def thermal_properties(phonon: Phonopy, temperatures: np.ndarray) -> ThermalProperties:
    """Sum the harmonic thermodynamics of the mesh of `run_mesh`; imaginary modes are left out."""
    phonon.run_thermal_properties(temperatures=temperatures, cutoff_frequency=SMALLEST_FREQUENCY)
    found = phonon.thermal_properties
    assert found is not None and found.thermal_properties is not None
    kelvins, free_energy, entropy, heat_capacity = found.thermal_properties  # kJ/mol and J/K/mol of primitive cells
    n = len(phonon.primitive)
    return ThermalProperties(
        temperatures=np.array(kelvins),
        free_energy=free_energy * KJ_PER_MOL / n,
        entropy=entropy * KJ_PER_MOL / 1000.0 / n,
        heat_capacity=heat_capacity * KJ_PER_MOL / 1000.0 / n,
    )


def zero_point_energy(frequencies: np.ndarray, weights: np.ndarray, n_atoms: int) -> float:
    """Sum h·ν/2 over the modes of a mesh, in eV/atom; imaginary modes are left out."""
    real = np.where(frequencies > SMALLEST_FREQUENCY, frequencies, 0.0)
    return float((weights @ real).sum() * 0.5 * PLANCK * THZ / n_atoms)


def mode_heat_capacity(frequencies: np.ndarray, temperature: float) -> np.ndarray:
    """Give the heat capacity of harmonic oscillators (eV/K); 0 for slow or imaginary ones and at 0 K.

    Args:
        frequencies: THz, of any shape.
        temperature: K.
    """
    energies = np.where(frequencies > SMALLEST_FREQUENCY, frequencies, np.inf) * PLANCK * THZ
    if temperature <= 0.0:
        return np.zeros_like(frequencies)
    x = np.minimum(energies / (KELVIN * temperature), 500.0)
    return np.where(x < 500.0, KELVIN * (0.5 * x / np.sinh(0.5 * x)) ** 2, 0.0)


def supercell_modes(phonon: Phonopy, tolerance: float) -> tuple[float, list[ImaginaryMode]]:
    """Look for imaginary modes at the q-points that fit the supercell, where nothing is interpolated.

    Args:
        phonon: with force constants.
        tolerance: size of an imaginary frequency that counts (THz).

    Returns:
        The lowest frequency (THz) and the imaginary modes of the symmetry-distinct q-points, lowest first.
    """
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    matrix = np.rint(np.linalg.inv(phonon.primitive_matrix) @ phonon.supercell_matrix).astype(int)
    qpoints = _distinct(get_commensurate_points(matrix), phonon)
    frequencies, vectors = _solve(phonon, qpoints)
    modes = [
        _mode(qpoints[q], int(band), frequencies[q], vectors[q], commensurate=True)
        for q, band in np.argwhere(frequencies < -tolerance)
    ]
    return float(frequencies.min()), sorted(modes, key=lambda mode: mode.frequency)


def interpolated_mode(phonon: Phonopy, bands: Bands, tolerance: float) -> list[ImaginaryMode]:
    """Give the lowest imaginary mode of the bands, or nothing."""
    lowest = [part.min() for part in bands.frequencies]
    segment = int(np.argmin(lowest))
    if lowest[segment] >= -tolerance:
        return []
    point, band = np.unravel_index(np.argmin(bands.frequencies[segment]), bands.frequencies[segment].shape)
    qpoint = bands.qpoints[segment][point]
    frequencies, vectors = _solve(phonon, np.array([qpoint]))
    return [_mode(qpoint, int(band), frequencies[0], vectors[0], commensurate=False)]


def _solve(phonon: Phonopy, qpoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give frequencies (q-points, bands) and eigenvectors (q-points, 3 atoms, bands)."""
    phonon.run_qpoints(qpoints, with_eigenvectors=True)
    assert phonon.qpoints is not None and phonon.qpoints.eigenvectors is not None
    return np.array(phonon.qpoints.frequencies), np.array(phonon.qpoints.eigenvectors)


def _mode(
    qpoint: np.ndarray, band: int, frequencies: np.ndarray, vectors: np.ndarray, *, commensurate: bool
) -> ImaginaryMode:
    x, y, z = (float(part) for part in qpoint)
    return ImaginaryMode((x, y, z), band, float(frequencies[band]), vectors[:, band].reshape(-1, 3), commensurate)


def _distinct(qpoints: np.ndarray, phonon: Phonopy) -> np.ndarray:
    """Keep one q-point of each star, those equal by a rotation of the crystal or by time reversal."""
    rotations = np.array(phonon.primitive_symmetry.pointgroup_operations)  # (operations, 3, 3), of scaled positions
    kept: list[np.ndarray] = []
    seen: set[tuple[int, ...]] = set()
    for qpoint in sorted(np.asarray(qpoints).tolist(), key=lambda q: (np.abs(q).sum(), q)):
        images = np.concatenate([qpoint @ rotations, -(qpoint @ rotations)])  # (2 operations, 3)
        keys = {tuple(row) for row in np.rint((images % 1.0) * 1.0e6).astype(int) % 1_000_000}
        if not keys & seen:
            kept.append(np.array(qpoint))
        seen |= keys
    return np.array(kept)
