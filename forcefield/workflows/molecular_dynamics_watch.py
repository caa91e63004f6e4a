"""When to stop: what a run that has left physics looks like, and whether energy was conserved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefield.structures import close_contacts, overlap_message
from forcefield.workflows.molecular_dynamics_options import MDOptions
from forcefield.workflows.pieces import count_pieces
from forcefield.workflows.relax_setup import cell_volume
from forcefield.workflows.vacuum import find_vacuum

FINISHED = "finished"
DRIFTING = "energy not conserved"
NON_FINITE = "energy or forces not finite"
TOO_HOT = "temperature runs away"
ENERGY_RUNS = "energy runs away"
COLLISION = "atoms collide"
ATOM_LEAVING = "an atom leaves"
CELL_EXPLODING = "cell exploding"
OUTSIDE_DATA = "outside the training data"
CALCULATOR_FAILED = "calculator failed"
INTERRUPTED = "interrupted"

VOLUME_RANGE = (0.3, 3.0)  # volume / initial volume
COLLISION_FACTOR = 0.4  # of the sum of covalent radii; H-H at 0.25 Å
ROWS_OUTSIDE = 5  # rows of the log in a row with atoms outside the training data; a short visit is a fluctuation
ENERGY_LIMIT = 0.2  # eV/atom, change of the conserved quantity beyond what the drift limit allows


class Objection(NamedTuple):
    """Why a run stops: the verdict, and a sentence with the numbers."""

    verdict: str
    text: str


@dataclass(frozen=True)
class Drift:
    """Change of the conserved quantity with time, by a straight line: slope and its error (meV/atom/ps)."""

    slope: float
    error: float

    def significant(self, limit: float) -> bool:
        """Say whether it is above a limit (meV/atom/ps), and not by chance."""
        return abs(self.slope) > limit and abs(self.slope) > 3.0 * self.error


class Watch:
    """Looks at every step (numbers) and at every row of the log (distances).

    Args:
        start: the structure at the start.
        options: with the limits.
        temperature: at the start (K).
    """

    def __init__(self, start: Atoms, options: MDOptions, temperature: float) -> None:
        self.options = options
        highest = max(temperature, options.highest_temperature if options.ensemble != "nve" else 0.0)
        self.temperature_limit = options.temperature_limit or 5.0 * highest + 1000.0
        self.volume = cell_volume(start)
        self.axes = _axes_that_hold(start)
        self.extents = _free_extents(start, self.axes)
        self.rows_outside = 0
        self.warnings: tuple[str, ...] = ()

    def look(self, atoms: Atoms, temperature: float, energy: float, forces: NDArray[np.float64]) -> Objection | None:
        """Judge a step by its cell, temperature (K), energy (eV) and forces (atoms, 3)."""
        exploding = self._cell(atoms)
        if exploding is not None:
            return exploding
        if not (np.isfinite([temperature, energy]).all() and np.isfinite(forces).all()):
            return Objection(NON_FINITE, f"the energy is {energy} eV at {temperature:.0f} K")
        if temperature > self.temperature_limit:
            limit = f"{self.temperature_limit:.0f} K"
            return Objection(TOO_HOT, f"the temperature is {temperature:.0f} K, above the limit of {limit}")
        return None

    def look_closely(self, atoms: Atoms, change: float, time_ps: float) -> Objection | None:
        """Judge distances, conserved quantity, and how far the structure is from the training data.

        Args:
            atoms: as they are.
            change: of the conserved quantity since the start (eV/atom).
            time_ps: since the start.
        """
        allowed = ENERGY_LIMIT + 1.0e-3 * self.options.drift_limit * time_ps
        if abs(change) > allowed:
            return Objection(
                ENERGY_RUNS, f"the conserved quantity changed by {change:+.3f} eV/atom: too long a time step"
            )
        return self._leaving(atoms) or self._collision(atoms) or self._outside(atoms, time_ps)

    def _cell(self, atoms: Atoms) -> Objection | None:
        if self.volume is None:
            return None
        ratio = atoms.get_volume() / self.volume
        if VOLUME_RANGE[0] < ratio < VOLUME_RANGE[1]:
            return None
        return Objection(CELL_EXPLODING, f"the volume became {ratio:.2f} times that of the start")

    def _leaving(self, atoms: Atoms) -> Objection | None:
        extents = _free_extents(atoms, self.axes)
        if len(extents) == 0 or (extents < self.extents + self.options.distance_limit).all():
            return None
        grown = float((extents - self.extents).max())
        where = ", ".join("abc"[axis] for axis in np.flatnonzero(self.axes)) or "no axis"
        return Objection(ATOM_LEAVING, f"the structure, endless along {where}, grew by {grown:.1f} Å")

    def _collision(self, atoms: Atoms) -> Objection | None:
        contacts = close_contacts(atoms, factor=COLLISION_FACTOR)
        return Objection(COLLISION, overlap_message(atoms, contacts, shown=2)) if contacts else None

    def _outside(self, atoms: Atoms, time_ps: float) -> Objection | None:
        """Object, or note a warning, when atoms have been outside the training data for several rows."""
        calculator = atoms.calc
        if self.options.outside_data == "ignore" or not getattr(calculator, "has_confidence", False):
            return None
        found = calculator.get_confidence(atoms)
        self.rows_outside = self.rows_outside + 1 if found.is_far else 0
        if self.rows_outside < ROWS_OUTSIDE:
            return None
        text = f"at {time_ps:.3f} ps, for {ROWS_OUTSIDE} rows of the log, {found.message()}"
        if self.options.outside_data == "stop":
            return Objection(OUTSIDE_DATA, f"{text}; outside_data='warn' goes on")
        if not self.warnings:
            self.warnings = (text,)
        return None


def _axes_that_hold(atoms: Atoms) -> NDArray[np.bool_]:
    """Say along which axes a structure goes on: the periodic ones, but for those with vacuum if it is in one piece."""
    axes = np.array(atoms.pbc)
    empty = [layer.axis for layer in find_vacuum(atoms)]
    if empty and count_pieces(atoms) == 1:  # of a gas in a box, atoms part as they like
        axes[empty] = False
    return axes


def _free_extents(atoms: Atoms, axes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Size of the structure (Å) normal to the axes along which it goes on; empty for a crystal, one for a slab."""
    if axes.all():
        return np.zeros(0)
    vectors = atoms.cell.array[axes]  # (axes that hold, 3)
    normal = np.eye(3) if len(vectors) == 0 else np.linalg.svd(vectors)[2][len(vectors) :]
    return np.ptp(atoms.positions @ normal.T, axis=0)


def measure_drift(time_ps: NDArray[np.float64], conserved: NDArray[np.float64], n_atoms: int) -> Drift | None:
    """Fit a line to the conserved quantity.

    Args:
        time_ps: (rows,).
        conserved: (rows,) eV.
        n_atoms: of the structure.

    Returns:
        The drift, or None with fewer than five rows.
    """
    if len(time_ps) < 5:
        return None
    slope, offset = np.polyfit(time_ps, conserved, 1)
    residuals = conserved - (slope * time_ps + offset)
    spread = float(np.sum((time_ps - time_ps.mean()) ** 2))
    error = np.sqrt(float(np.sum(residuals**2)) / (len(time_ps) - 2) / spread)
    return Drift(1000.0 * float(slope) / n_atoms, 1000.0 * float(error) / n_atoms)
