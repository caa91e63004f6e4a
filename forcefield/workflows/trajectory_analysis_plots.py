"""Figures of molecular dynamics and its analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure
from forcefield.workflows.trajectory_analysis import TrajectoryResult
from forcefield.workflows.trajectory_analysis_statistics import block_average

Array = NDArray[np.float64]

PANELS = (("temperature_K", "temperature (K)"), ("total_eV", "total energy"), ("pressure_GPa", "pressure (GPa)"))
SMALL = 0.1  # eV; a total energy that changes by less is drawn in meV


def plot_thermo(thermo: dict[str, Array], path: Path) -> Path:
    """Draw temperature, energy and pressure against time, each with mean and error of its last four fifths.

    The energy is drawn from its first value on.

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    panels = [(name, label) for name, label in PANELS if np.isfinite(thermo[name]).all()]
    figure, axes = new_figure(columns=len(panels), width=4.2 * len(panels), height=3.2)
    first = len(thermo["step"]) // 5
    for axis, (name, label) in zip(axes, panels, strict=True):
        values = thermo[name]
        if name == "total_eV":
            values, label = _from_the_start(values, label)
        axis.plot(thermo["time_ps"], values, color=BLUE, lw=0.8)
        mean = block_average(values[first:])
        axis.axhline(mean.mean, color=ORANGE, lw=1.2)
        axis.set_title(f"mean {mean.mean:.4g} ± {mean.error:.2g}", fontsize=9, color=ORANGE)
        axis.set(xlabel="time (ps)", ylabel=label)
        axis.ticklabel_format(axis="y", useOffset=False)
    return save_figure(figure, path)


def _from_the_start(energies: Array, label: str) -> tuple[Array, str]:
    """Take the first value off energies (eV), and give them in a unit that suits their size, with the label."""
    changes = energies - energies[0]
    unit, scale = ("meV", 1000.0) if np.abs(changes).max() < SMALL else ("eV", 1.0)
    return scale * changes, f"{label} from the start ({unit})"


def plot_distributions(result: TrajectoryResult, path: Path) -> Path:
    """Draw the radial distributions of the pairs of elements.

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    figure, (axis,) = new_figure()
    pairs = result.distributions[1:] if len(result.distributions) > 2 else result.distributions[:1]
    for distribution in pairs:
        label = "-".join(distribution.pair) if distribution.pair[0] != "all" else result.formula
        axis.plot(distribution.distances, distribution.density, lw=1.2, label=label)
    axis.set(xlabel="distance (Å)", ylabel="g(r)", ylim=(0.0, None))
    axis.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def plot_displacements(result: TrajectoryResult, path: Path) -> Path:
    """Draw mean square displacements up to half the length of the trajectory, and name the coefficients.

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    figure, (axis,) = new_figure()
    last = len(result.times) // 2 + 1
    for name, moved in result.displacements.items():
        if name == "all" and len(result.displacements) == 2:
            continue
        label = name
        if name in result.diffusion:
            diffusion = result.diffusion[name]
            label += f": D = ({1e5 * diffusion.coefficient:.3g} ± {1e5 * diffusion.error:.2g})·10⁻⁵ cm²/s"
        axis.plot(result.times[:last], moved[:last], lw=1.2, label=label, color=GREY if name == "all" else None)
    axis.set(xlabel="time (ps)", ylabel="mean square displacement (Å²)", ylim=(0.0, None))
    axis.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def plot_vibrations(result: TrajectoryResult, path: Path) -> Path:
    """Draw the velocity autocorrelation and the vibrational density of states.

    Raises:
        ValueError: if the frames held no velocities.
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    if result.autocorrelation is None or result.spectrum is None:
        raise ValueError("The frames held no velocities, so there is nothing to draw.")
    figure, (left, right) = new_figure(columns=2, width=8.4, height=3.2)
    last = len(result.times) // 4 + 2
    left.plot(result.times[:last], result.autocorrelation[:last], color=BLUE, lw=1.0)
    left.axhline(0.0, color=GREY, lw=0.6)
    left.set(xlabel="time (ps)", ylabel="velocity autocorrelation")
    spectrum = result.spectrum
    right.plot(spectrum.frequencies, spectrum.density, color=BLUE, lw=1.0)
    weight = np.cumsum(spectrum.density) / spectrum.density.sum()
    highest = spectrum.frequencies[int(np.searchsorted(weight, 0.999).clip(0, len(weight) - 1))]
    right.set(xlabel="frequency (THz)", ylabel="density of states (1/THz)", xlim=(0.0, 1.1 * highest), ylim=(0.0, None))
    return save_figure(figure, path)
