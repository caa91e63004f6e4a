"""Motion in a trajectory: unwrapped positions, mean square displacement, diffusion, velocity correlations, spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefield.neighbours import completed_cell

Array = NDArray[np.float64]

CM2_PER_S = 0.1  # 1 Å²/fs in cm²/s: 1e-16 cm² / 1e-15 s
FIT_RANGE = (0.1, 0.5)  # share of a block's length over which its displacements are fitted
STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Diffusion:
    """A diffusion coefficient.

    Attributes:
        coefficient: mean of the blocks (cm²/s); the long-time slope of the mean square displacement over six.
        error: standard error of that mean (cm²/s).
        interval: range that holds the coefficient with 95 % (Student's distribution over the blocks) (cm²/s).
        blocks: coefficient of each block (cm²/s).
        resolved: whether zero lies outside of the interval.
    """

    coefficient: float
    error: float
    interval: tuple[float, float]
    blocks: tuple[float, ...]
    resolved: bool


@dataclass(frozen=True)
class VibrationalSpectrum:
    """Vibrational density of states: power spectrum of the mass-weighted velocities, integral one.

    Attributes:
        frequencies: (points,) THz, from zero to half the frequency of the frames.
        density: (points,) 1/THz.
        resolution: width of a line (THz).
    """

    frequencies: Array
    density: Array
    resolution: float


def unwrapped_positions(frames: Sequence[Atoms]) -> Array:
    """Follow atoms through periodic boundaries, (frames, atoms, 3) Å.

    An atom is taken to have gone the shortest way between frames; where the cell changes, its own motion relative
    to the cell counts, in the mean cell.
    """
    pbc = frames[0].pbc
    cells = np.array([completed_cell(frame.cell.array, pbc) for frame in frames])
    scaled = np.array([frame.positions @ np.linalg.inv(cell) for frame, cell in zip(frames, cells, strict=True)])
    steps = np.diff(scaled, axis=0)
    steps[..., pbc] -= np.rint(steps[..., pbc])
    path = np.concatenate([scaled[:1], scaled[:1] + np.cumsum(steps, axis=0)])
    return path @ cells.mean(axis=0)


def drift_removed(positions: Array, masses: Array) -> Array:
    """Put the centre of mass of every frame to where it was in the first; a single atom is left alone."""
    if positions.shape[1] == 1:
        return positions
    centre = np.einsum("fak,a->fk", positions, masses) / masses.sum()
    return positions - (centre - centre[0])[:, None, :]


def mean_square_displacement(positions: Array) -> Array:
    """Average the squared displacement over atoms and starting times.

    By Fourier transform, so that the time grows as n log n (V. Calandrini et al., Collection SFN 12, 201 (2011),
    https://doi.org/10.1051/sfn/201112010).

    Args:
        positions: (frames, atoms, 3) unwrapped (Å).

    Returns:
        (frames,) Å², at lags of 0, 1, 2, ... frames.
    """
    n_frames = len(positions)
    shifted = positions - positions[:1]  # keeps the sums small
    correlation = _correlate(shifted).sum(axis=2).mean(axis=1)  # (frames,) sum over origins
    squares = np.sum(shifted**2, axis=2).mean(axis=1)  # (frames,)
    total = 2.0 * squares.sum()
    sums = np.empty(n_frames)
    for lag in range(n_frames):
        if lag > 0:
            total -= squares[lag - 1] + squares[n_frames - lag]
        sums[lag] = total
    moved = (sums - 2.0 * correlation) / (n_frames - np.arange(n_frames))
    moved[0] = 0.0
    return np.maximum(moved, 0.0)


def _correlate(values: Array) -> Array:
    """Sum of products over all starting frames, (lags, ...), by Fourier transform over the first axis."""
    n_frames = len(values)
    transformed = np.fft.rfft(values, n=2 * n_frames, axis=0)
    return np.fft.irfft(np.abs(transformed) ** 2, n=2 * n_frames, axis=0)[:n_frames]


def diffusion_coefficient(positions: Array, interval: float, *, blocks: int = 5) -> Diffusion:
    """Fit the diffusion coefficient in independent pieces of a trajectory.

    Args:
        positions: (frames, atoms, 3) unwrapped, without drift (Å).
        interval: between frames (fs).
        blocks: number of pieces, 2 to 10; the spread of their coefficients gives the error.

    Raises:
        ValueError: for too few frames or another number of blocks.
    """
    if blocks not in STUDENT_95:
        raise ValueError(f"blocks is {blocks}, but must be 2 to 10.")
    length = len(positions) // blocks
    if length < 4:
        raise ValueError(f"{len(positions)} frames came, but {blocks} blocks need {4 * blocks} or more.")
    values = np.array([_slope(positions[b * length : (b + 1) * length]) for b in range(blocks)])
    values *= CM2_PER_S / (6.0 * interval)
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(blocks))
    reach = STUDENT_95[blocks] * error
    bounds = (mean - reach, mean + reach)
    return Diffusion(mean, error, bounds, tuple(values.tolist()), bounds[0] > 0.0)


def _slope(positions: Array) -> float:
    """Slope of the mean square displacement (Å² a frame) over the middle of its range."""
    moved = mean_square_displacement(positions)
    first, last = int(FIT_RANGE[0] * len(moved)), max(int(FIT_RANGE[1] * len(moved)), 2)
    lags = np.arange(first, last + 1)
    return float(np.polyfit(lags, moved[first : last + 1], 1)[0])


def velocity_autocorrelation(velocities: Array, masses: Array) -> Array:
    """Correlate mass-weighted velocities over all starting frames; one at no lag.

    Args:
        velocities: (frames, atoms, 3).
        masses: (atoms,).

    Returns:
        (frames,).
    """
    weighted = velocities * np.sqrt(masses)[:, None]
    sums = _correlate(weighted).sum(axis=(1, 2)) / (len(velocities) - np.arange(len(velocities)))
    return sums / sums[0]


def vibrational_spectrum(velocities: Array, masses: Array, interval: float) -> VibrationalSpectrum:
    """Give the vibrational density of states, with a Hann window, from overlapping pieces (Welch's method).

    Args:
        velocities: (frames, atoms, 3).
        masses: (atoms,).
        interval: between frames (fs).
    """
    weighted = velocities * np.sqrt(masses)[:, None]
    length = max(len(weighted) // 4 * 2, 2) if len(weighted) >= 64 else len(weighted)
    window = np.hanning(length + 2)[1:-1][:, None, None]
    starts = range(0, len(weighted) - length + 1, max(length // 2, 1))
    padded = 4 * length
    power = np.zeros(padded // 2 + 1)
    for start in starts:
        power += (np.abs(np.fft.rfft(weighted[start : start + length] * window, n=padded, axis=0)) ** 2).sum(
            axis=(1, 2)
        )
    frequencies = np.asarray(np.fft.rfftfreq(padded, d=interval) * 1000.0, dtype=np.float64)  # THz
    density = power / (power.sum() * frequencies[1])
    return VibrationalSpectrum(frequencies, density, 2.0 * 1000.0 / (length * interval))
