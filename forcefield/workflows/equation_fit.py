"""Equations of state: energy against volume by Birch and Murnaghan or by Vinet, and fitting them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from forcefield.units import GPA

Array = NDArray[np.float64]


def birch_murnaghan(volume: Array, v0: float, e0: float, b0: float, b1: float) -> Array:
    """Give the energy (eV) of Birch's equation of third order, https://doi.org/10.1103/PhysRev.71.809.

    Args:
        volume: Å³.
        v0: equilibrium volume (Å³).
        e0: energy there (eV).
        b0: bulk modulus there (eV/Å³).
        b1: its derivative by pressure.
    """
    x = (v0 / volume) ** (2.0 / 3.0) - 1.0
    return e0 + 9.0 / 16.0 * v0 * b0 * (x**3 * b1 + x**2 * (6.0 - 4.0 * (x + 1.0)))


def vinet(volume: Array, v0: float, e0: float, b0: float, b1: float) -> Array:
    """Give the energy (eV) of Vinet's equation, https://doi.org/10.1103/PhysRevB.35.1945; see `birch_murnaghan`."""
    x = (volume / v0) ** (1.0 / 3.0)
    c = 1.5 * (b1 - 1.0)
    return e0 + 9.0 * b0 * v0 / c**2 * (1.0 + (c * (1.0 - x) - 1.0) * np.exp(c * (1.0 - x)))


EQUATIONS: dict[str, Callable[..., Array]] = {"birch-murnaghan": birch_murnaghan, "vinet": vinet}


@dataclass(frozen=True)
class EquationFit:
    """An equation of state fitted to energies.

    Attributes:
        equation: "birch-murnaghan" or "vinet".
        volume: equilibrium volume (Å³).
        energy: energy there (eV).
        bulk_modulus: there (GPa).
        bulk_modulus_derivative: by pressure, there.
        residual: root mean square of fitted less given energies (eV).
        inside: whether the equilibrium volume lies within the volumes fitted.
    """

    equation: str
    volume: float
    energy: float
    bulk_modulus: float
    bulk_modulus_derivative: float
    residual: float
    inside: bool

    def __call__(self, volumes: Array) -> Array:
        """Give the fitted energy (eV) at volumes (Å³)."""
        parameters = (self.volume, self.energy, self.bulk_modulus * GPA, self.bulk_modulus_derivative)
        return EQUATIONS[self.equation](np.asarray(volumes, dtype=float), *parameters)


def fit_equation(volumes: Array, energies: Array, *, equation: str = "birch-murnaghan") -> EquationFit:
    """Fit an equation of state by least squares.

    Args:
        volumes: (points,) Å³, at least five different ones.
        energies: (points,) eV.
        equation: one of `EQUATIONS`.

    Raises:
        ValueError: for an unknown equation, too few or not finite points, or energies without a minimum in reach.
    """
    if equation not in EQUATIONS:
        raise ValueError(f"equation is {equation!r}, but must be one of {', '.join(EQUATIONS)}.")
    v, e = np.asarray(volumes, dtype=float), np.asarray(energies, dtype=float)
    if len(np.unique(v)) < 5 or v.shape != e.shape or not np.isfinite([v, e]).all():
        raise ValueError(f"Five or more different volumes with finite energies are needed, but {len(v)} points came.")
    start = _start(v, e)
    scale = np.array([start[0], max(np.ptp(e), 1.0e-6), abs(start[2]), 4.0])
    function = EQUATIONS[equation]

    def misfit(scaled: Array) -> Array:
        return (function(v, *(scaled * scale)) - e) / scale[1]

    lower = np.array([0.3 * v.min() / scale[0], -np.inf, 1.0e-4, 1.001 / 4.0])
    upper = np.array([3.0 * v.max() / scale[0], np.inf, 1.0e4, 25.0])
    found = least_squares(misfit, start / scale, bounds=(lower, upper), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    v0, e0, b0, b1 = (float(x) for x in found.x * scale)
    residual = float(np.sqrt(np.mean((function(v, v0, e0, b0, b1) - e) ** 2)))
    return EquationFit(equation, v0, e0, b0 / GPA, b1, residual, bool(v.min() <= v0 <= v.max()))


def _start(v: Array, e: Array) -> Array:
    """Guess the parameters from a parabola.

    Raises:
        ValueError: if the energies bend downwards.
    """
    centre = v.mean()
    curvature, slope, constant = np.polyfit(v - centre, e, 2)
    if not curvature > 0.0:
        raise ValueError(
            f"The energies bend downwards between {v.min():.3f} and {v.max():.3f} Å³, so that no equation of state "
            "has a minimum there. Relax the cell first, or choose other volumes."
        )
    v0 = float(np.clip(centre - 0.5 * slope / curvature, 0.5 * v.min(), 2.0 * v.max()))
    return np.array([v0, constant - 0.25 * slope**2 / curvature, 2.0 * curvature * v0, 4.5])
