"""What a trajectory says: structure, diffusion and vibrations, by `analyse_trajectory(frames)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefield.units import FS
from forcefield.workflows.trajectory_analysis_motion import (
    Diffusion,
    VibrationalSpectrum,
    diffusion_coefficient,
    drift_removed,
    mean_square_displacement,
    unwrapped_positions,
    velocity_autocorrelation,
    vibrational_spectrum,
)
from forcefield.workflows.trajectory_analysis_structure import RadialDistribution, radial_distribution

Array = NDArray[np.float64]

MOST_FRAMES = 500  # that distributions of distances are averaged over, evenly spread


@dataclass(frozen=True)
class TrajectoryResult:
    """What the frames of a trajectory have in common.

    Attributes:
        formula: of a frame.
        n_atoms: of a frame.
        n_frames: that were looked at.
        interval: between frames (fs).
        distributions: of distances, for all pairs and each pair of elements.
        times: (lags,) ps, of the mean square displacements.
        displacements: mean square displacement of each element and of all atoms ("all"), (lags,) Å².
        diffusion: coefficient of each element and of all atoms; empty for too few frames.
        autocorrelation: of velocities, normalised, (lags,), one a frame; None for frames without velocities.
        spectrum: vibrational density of states; None for frames without velocities.
        warnings: what else to know, one sentence each.
    """

    formula: str
    n_atoms: int
    n_frames: int
    interval: float
    distributions: tuple[RadialDistribution, ...]
    times: Array
    displacements: dict[str, Array]
    diffusion: dict[str, Diffusion]
    autocorrelation: Array | None
    spectrum: VibrationalSpectrum | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {"ok": True, "verdict": "analysed", **vars(self)}


def analyse_trajectory(
    frames: Sequence[Atoms],
    *,
    interval: float | None = None,
    cutoff: float | None = None,
    bins: int = 200,
    blocks: int = 5,
) -> TrajectoryResult:
    """Compute distances, diffusion and vibrations from a trajectory of constant composition.

    Args:
        frames: equally spaced in time, in order.
        interval: between frames (fs); None takes `time_fs` from the frames' info.
        cutoff: largest distance of the distributions (Å); None takes 10, or half the shortest height of a periodic cell
            where that is more than 5 and less than 10.
        bins: of the distributions.
        blocks: how many pieces of the trajectory the errors come from.

    Raises:
        ValueError: for fewer than two frames, atoms that change, frames out of step, or unknown times.
    """
    _check_frames(frames)
    interval = frame_interval(frames) if interval is None else interval
    if not (np.isfinite(interval) and interval > 0.0):
        raise ValueError(f"interval is {interval} fs, but must be positive.")
    symbols = np.array(frames[0].get_chemical_symbols())
    positions = drift_removed(unwrapped_positions(frames), frames[0].get_masses())
    groups = {symbol: symbols == symbol for symbol in dict.fromkeys(symbols.tolist())}
    groups["all"] = np.ones(len(symbols), dtype=bool)
    moved = {name: mean_square_displacement(positions[:, mask]) for name, mask in groups.items()}
    times = 1.0e-3 * interval * np.arange(len(positions), dtype=float)
    diffusion = {
        name: diffusion_coefficient(positions[:, mask], interval, blocks=blocks)
        for name, mask in groups.items()
        if len(positions) >= 4 * blocks
    }
    autocorrelation, spectrum = _vibrations(frames, interval)
    return TrajectoryResult(
        formula=frames[0].get_chemical_formula(),
        n_atoms=len(symbols),
        n_frames=len(frames),
        interval=interval,
        distributions=radial_distribution(
            frames[:: -(-len(frames) // MOST_FRAMES)], cutoff=_cutoff(frames, cutoff), bins=bins
        ),
        times=times,
        displacements=moved,
        diffusion=diffusion,
        autocorrelation=autocorrelation,
        spectrum=spectrum,
        warnings=_warnings(len(positions), blocks, interval, spectrum),
    )


def _check_frames(frames: Sequence[Atoms]) -> None:
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frame came, but an analysis needs two or more.")
    for number, frame in enumerate(frames):
        if not np.array_equal(frame.numbers, frames[0].numbers):
            raise ValueError(f"Frame {number} has other atoms than the first; all frames must hold the same, in order.")
        if not np.array_equal(frame.pbc, frames[0].pbc):
            raise ValueError(f"Frame {number} is periodic along other axes than the first.")


def frame_interval(frames: Sequence[Atoms]) -> float:
    """Give the time between frames (fs) from their info.

    Raises:
        ValueError: where it is unknown or not always the same.
    """
    times = [frame.info.get("time_fs") for frame in frames]
    if any(time is None for time in times):
        raise ValueError("The frames do not say their time (info['time_fs']); give the interval in fs.")
    steps = np.diff(np.array(times, dtype=float))
    if not np.allclose(steps, steps[0], rtol=1.0e-6, atol=1.0e-6):
        raise ValueError(
            f"The frames are between {steps.min():g} and {steps.max():g} fs apart, but must be equally spaced; leave "
            "the odd one out."
        )
    return float(steps[0])


def _cutoff(frames: Sequence[Atoms], cutoff: float | None) -> float:
    if cutoff is not None:
        return cutoff
    if not frames[0].pbc.any():
        return 10.0
    half = min(0.5 / np.linalg.norm(np.linalg.inv(_cell(frame)), axis=0).max() for frame in frames)
    return float(min(max(half, 5.0), 10.0))


def _cell(frame: Atoms) -> Array:
    return frame.cell.complete().array


def _vibrations(frames: Sequence[Atoms], interval: float) -> tuple[Array | None, VibrationalSpectrum | None]:
    momenta = np.array([frame.get_momenta() for frame in frames])
    if not momenta.any():
        return None, None
    masses = frames[0].get_masses()
    velocities = momenta / masses[:, None] * FS  # Å/fs
    return velocity_autocorrelation(velocities, masses), vibrational_spectrum(velocities, masses, interval)


def _warnings(n_frames: int, blocks: int, interval: float, spectrum: VibrationalSpectrum | None) -> tuple[str, ...]:
    warnings = []
    if n_frames < 4 * blocks:
        warnings.append(f"{n_frames} frames are too few for a diffusion coefficient from {blocks} blocks")
    if spectrum is None:
        warnings.append("the frames hold no velocities, so there is no vibrational density of states")
    elif interval > 10.0:
        warnings.append(
            f"frames {interval:g} fs apart show vibrations up to {500.0 / interval:.1f} THz only; faster ones are "
            "folded back into that range"
        )
    return tuple(warnings)
