"""Figures of elasticity: energy against volume, and Young's modulus against direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forcefield.workflows.elastic_tensor import Array, to_full
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from forcefield.workflows.elastic import ElasticResult
    from forcefield.workflows.equation_of_state import EquationOfStateResult


def plot_equation_of_state(result: EquationOfStateResult, path: Path) -> Path:
    """Draw computed energies, the fit, and what is left between them, per atom."""
    figure, (left, right) = new_figure(columns=2, width=7.5, height=3.4)
    n = len(result.atoms)
    volumes = np.linspace(result.volumes.min(), result.volumes.max(), 200)
    lowest = min(float(result.energies.min()), result.fit.energy)
    left.plot(volumes / n, 1000.0 * (result.fit(volumes) - lowest) / n, color=BLUE, label=result.fit.equation)
    left.plot(result.volumes / n, 1000.0 * (result.energies - lowest) / n, "o", color=ORANGE, label="computed")
    left.set_ylabel("energy (meV/atom)")
    left.set_title(f"B = {result.bulk_modulus:.1f} GPa, V = {result.equilibrium_volume:.3f} Å³/atom", fontsize=10)
    left.legend(frameon=False)
    right.plot(result.volumes / n, 1.0e3 * (result.fit(result.volumes) - result.energies) / n, "o-", color=ORANGE)
    right.axhline(0.0, color=GREY, linewidth=0.5)
    right.set_ylabel("fit - computed (meV/atom)")
    for axis in (left, right):
        axis.set_xlabel("volume (Å³/atom)")
    return save_figure(figure, path)


def young_modulus(tensor: Array, directions: Array) -> Array:
    """Give Young's modulus along directions.

    Args:
        tensor: (6, 6) elastic tensor of a stable crystal.
        directions: (directions, 3) unit vectors.

    Returns:
        (directions,), in the unit of the tensor.
    """
    # strain = compliance @ stress; the doubled shear strains halve twice or once on the way to the full tensor
    half = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
    compliance = to_full((np.linalg.inv(tensor) * np.outer(half, half)).astype(np.float64))
    return 1.0 / np.einsum("ni,nj,nk,nm,ijkm->n", *[directions] * 4, compliance, optimize=True)


def plot_young_modulus(result: ElasticResult, path: Path) -> Path:
    """Draw Young's modulus in the three Cartesian planes (of a stable crystal)."""
    figure, axes = new_figure(columns=3, width=9.0, height=3.2)
    angle = np.linspace(0.0, 2.0 * np.pi, 361)
    for axis, (first, second) in zip(axes, ((0, 1), (0, 2), (1, 2)), strict=True):
        directions = np.zeros((len(angle), 3))
        directions[:, first], directions[:, second] = np.cos(angle), np.sin(angle)
        values = young_modulus(result.tensor, directions)
        axis.plot(values * directions[:, first], values * directions[:, second], color=BLUE)
        axis.set_aspect("equal")
        axis.set_xlabel(f"E along {'xyz'[first]} (GPa)")
        axis.set_ylabel(f"E along {'xyz'[second]} (GPa)")
        for draw in (axis.axhline, axis.axvline):
            draw(0.0, color=GREY, linewidth=0.5)
    return save_figure(figure, path)
