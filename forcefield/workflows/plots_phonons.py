"""Figures of phonons: bands, density of states, thermodynamics, Grüneisen parameters, conductivity."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forcefield.units import KELVIN
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from forcefield.workflows.conductivity import ConductivityResult
    from forcefield.workflows.gruneisen import GruneisenResult
    from forcefield.workflows.phonons_result import Bands, PhononResult
    from forcefield.workflows.qha import QuasiHarmonicResult


def plot_bands(result: PhononResult, path: Path) -> Path:
    """Draw the bands and the density of states; imaginary frequencies lie below zero."""
    figure, (left, right) = new_figure(columns=2, width=7.0, height=4.2, ratios=(3, 1))
    positions, labels, shown = _ticks(result.bands)
    for x, frequencies in zip(shown, result.bands.frequencies, strict=True):
        left.plot(x, frequencies, color=BLUE, linewidth=1.0)
    for position in positions:
        left.axvline(position, color=GREY, linewidth=0.5)
    left.set_xticks(positions, labels)
    left.set_xlim(0.0, positions[-1])
    left.set_ylabel("frequency (THz)")
    left.set_title(f"{result.atoms.get_chemical_formula(empirical=True)}: {result.verdict}", fontsize=10, loc="left")
    right.plot(result.dos.total, result.dos.frequencies, color=BLUE, linewidth=1.0)
    right.set_xlim(0.0, None)
    right.set_xlabel("modes per THz\nand primitive cell")
    right.set_yticklabels([])
    low = min(part.min() for part in result.bands.frequencies)
    span = result.highest_frequency - min(low, 0.0)
    for axis in (left, right):
        axis.set_ylim(low - 0.05 * span if low < -0.01 else 0.0, result.highest_frequency + 0.05 * span)
        axis.axhline(0.0, color=GREY, linewidth=0.5)
    return save_figure(figure, path)


def _ticks(bands: Bands) -> tuple[list[float], list[str], list[np.ndarray]]:
    """Place the segments side by side; where one does not go on from the last, both labels share a tick."""
    lengths = [float(part[-1] - part[0]) for part in bands.distances]
    positions = [0.0, *np.cumsum(lengths).tolist()]
    labels = [bands.labels[0][0]]
    for (_, end), (start, _) in pairwise(bands.labels):
        labels.append(end if end == start else f"{end}|{start}")
    labels.append(bands.labels[-1][1])
    shown = [part - part[0] + begin for part, begin in zip(bands.distances, positions, strict=False)]
    return positions, [_subscript(label) for label in labels], shown


def _subscript(label: str) -> str:
    """Write X_1 as X with an index."""
    return "|".join(
        f"{name}$_{{{index}}}$" if index else name
        for name, _, index in (part.partition("_") for part in label.split("|"))
    )


def plot_thermal(result: PhononResult, path: Path) -> Path:
    """Draw free energy, and entropy with heat capacity in units of Boltzmann's constant, per atom."""
    figure, (left, right) = new_figure(columns=2, width=7.0, height=3.2)
    thermal = result.thermal
    left.plot(thermal.temperatures, 1000.0 * thermal.free_energy, color=BLUE)
    left.set_ylabel("free energy (meV/atom)")
    right.plot(thermal.temperatures, thermal.heat_capacity / KELVIN, color=BLUE, label="heat capacity")
    right.plot(thermal.temperatures, thermal.entropy / KELVIN, color=ORANGE, label="entropy")
    right.axhline(3.0, color=GREY, linewidth=0.5, linestyle="--")
    right.set_ylabel("per atom ($k_B$)")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.set_xlabel("temperature (K)")
    return save_figure(figure, path)


def plot_quasi_harmonic(result: QuasiHarmonicResult, path: Path) -> Path:
    """Draw Helmholtz energies with their minima, volume, thermal expansion, and bulk modulus."""
    figure, axes = new_figure(columns=4, width=13.0, height=3.2)
    rows = np.unique(np.linspace(0, len(result.temperatures) - 1, 8).astype(int))
    for row in rows:
        energies = 1000.0 * (result.scan_free_energies[row] - result.scan_energies.min())
        axes[0].plot(result.scan_volumes, energies, "o-", color=BLUE, markersize=3, linewidth=0.8)
    axes[0].set_xlabel("volume (Å³/atom)")
    axes[0].set_ylabel("Helmholtz energy (meV/atom)")
    curves = (
        (result.volume, "volume (Å³/atom)"),
        (1.0e6 * result.thermal_expansion, "volume expansion (10⁻⁶/K)"),
        (result.bulk_modulus, "bulk modulus (GPa)"),
    )
    for axis, (values, title) in zip(axes[1:], curves, strict=True):
        axis.plot(result.temperatures, values, color=BLUE)
        axis.set_xlabel("temperature (K)")
        axis.set_ylabel(title)
    return save_figure(figure, path)


def plot_gruneisen(result: GruneisenResult, path: Path) -> Path:
    """Draw mode Grüneisen parameters against frequency, and their mean against temperature."""
    figure, (left, right) = new_figure(columns=2, width=7.0, height=3.2)
    left.plot(result.frequencies.ravel(), result.parameters.ravel(), ".", color=BLUE, markersize=2)
    left.set_xlabel("frequency (THz)")
    left.set_ylabel("Grüneisen parameter")
    right.plot(result.temperatures, result.mean, color=BLUE)
    right.set_xlabel("temperature (K)")
    right.set_ylabel("mean Grüneisen parameter")
    return save_figure(figure, path)


def plot_conductivity(result: ConductivityResult, path: Path) -> Path:
    """Draw the thermal conductivity along the axes against temperature, both logarithmic."""
    figure, (axis,) = new_figure()
    for column, name in enumerate(("xx", "yy", "zz")):
        axis.plot(result.temperatures, result.conductivity[:, column], label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("temperature (K)")
    axis.set_ylabel("lattice thermal conductivity (W/m/K)")
    axis.legend(frameon=False)
    return save_figure(figure, path)
