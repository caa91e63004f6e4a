"""Options of molecular dynamics, checked, and what follows from them: time step, ramps, degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ase import Atoms

from forcefield.workflows.symmetry import describe_axes

ENSEMBLES = ("nve", "nvt", "npt")
THERMOSTATS = ("bussi", "langevin", "nose-hoover")
CELLS = ("isotropic", "full")
VELOCITIES = ("draw", "keep")
FORMATS = ("extxyz", "traj")
OUTSIDE_DATA = ("stop", "warn", "ignore")

HYDROGEN_TIMESTEP = 0.5  # fs; other masses scale with the square root of the lightest
TIMESTEP_RANGE = (0.25, 2.0)  # fs


@dataclass(frozen=True)
class MDOptions:
    """Options of `molecular_dynamics`, checked; see there for their meaning."""

    ensemble: str = "nvt"
    thermostat: str = "bussi"
    cell: str = "isotropic"
    steps: int = 10_000
    timestep: float | None = None
    temperature: float = 300.0
    final_temperature: float | None = None
    pressure: float = 0.0
    final_pressure: float | None = None
    thermostat_time: float = 100.0
    barostat_time: float = 1000.0
    velocities: str = "draw"
    seed: int = 0
    log_interval: int = 10
    frame_interval: int = 100
    checkpoint_interval: int = 1000
    trajectory_format: str = "extxyz"
    temperature_limit: float | None = None
    drift_limit: float = 5.0
    distance_limit: float = 20.0
    outside_data: str = "stop"

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        self._check_choices()
        self._check_numbers()
        self._check_ensemble()

    def _check_choices(self) -> None:
        choices = {"ensemble": ENSEMBLES, "thermostat": THERMOSTATS, "cell": CELLS, "velocities": VELOCITIES}
        choices |= {"trajectory_format": FORMATS, "outside_data": OUTSIDE_DATA}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(known)}.")

    def _check_numbers(self) -> None:
        positive = ["temperature", "thermostat_time", "barostat_time", "drift_limit", "distance_limit"]
        positive += [
            name for name in ("timestep", "final_temperature", "temperature_limit") if getattr(self, name) is not None
        ]
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        for name in ("steps", "log_interval", "frame_interval", "checkpoint_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 1 or more.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be 0 or more.")
        for name in ("pressure", "final_pressure"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is {value}, but must be a finite number of GPa.")

    def _check_ensemble(self) -> None:
        if self.ensemble == "nve" and self.final_temperature is not None:
            raise ValueError("final_temperature came with ensemble='nve', which has no thermostat. Use nvt or npt.")
        if self.ensemble != "npt" and (self.pressure != 0.0 or self.final_pressure is not None):
            raise ValueError(f"A pressure came with ensemble={self.ensemble!r}, whose cell is fixed. Use npt.")

    @property
    def ramped(self) -> bool:
        """Whether temperature or pressure changes on the way."""
        return self.final_temperature is not None or self.final_pressure is not None

    def temperature_at(self, step: int) -> float:
        """Target temperature at a step (K), linear between start and end."""
        return _between(self.temperature, self.final_temperature, step / self.steps)

    def pressure_at(self, step: int) -> float:
        """Target pressure at a step (GPa), linear between start and end."""
        return _between(self.pressure, self.final_pressure, step / self.steps)

    @property
    def highest_temperature(self) -> float:
        """The highest target (K)."""
        return max(self.temperature, self.final_temperature or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


def _between(start: float, end: float | None, fraction: float) -> float:
    return start if end is None else start + (end - start) * fraction


def default_timestep(atoms: Atoms) -> float:
    """Give a time step for the lightest atom (fs): 0.5 for hydrogen, 1.5 for carbon, 2 from sodium on.

    A stretching mode of a light atom, 100 THz for O-H, then takes 20 steps a period.

    Raises:
        ValueError: if an atom has no mass.
    """
    lightest = float(atoms.get_masses().min())
    if not lightest > 0.0:
        raise ValueError(f"An atom has the mass {lightest} amu; molecular dynamics needs positive masses.")
    timestep = HYDROGEN_TIMESTEP * math.sqrt(lightest)
    return min(max(math.floor(4.0 * timestep) / 4.0, TIMESTEP_RANGE[0]), TIMESTEP_RANGE[1])


def drift_is_removed(atoms: Atoms) -> bool:
    """Say whether the centre of mass is to rest: without constraints, and with something else that can move."""
    return len(atoms) > 1 and not atoms.constraints


def degrees_of_freedom(atoms: Atoms) -> int:
    """Count the momenta that are free: 3 an atom, less constraints, less the centre of mass where it rests.

    Raises:
        ValueError: if nothing can move.
    """
    removed = sum(constraint.get_removed_dof(atoms) for constraint in atoms.constraints)
    free = 3 * len(atoms) - removed - (3 if drift_is_removed(atoms) else 0)
    if free < 1:
        raise ValueError("The constraints leave no atom to move. Free at least one.")
    return int(free)


def require_cell(atoms: Atoms) -> None:
    """Refuse a structure whose cell cannot follow a pressure.

    Raises:
        ValueError: if it is not periodic along three axes, or has constraints.
    """
    if not atoms.pbc.all():
        raise ValueError(
            f"ensemble='npt' needs a structure periodic along three axes, but {atoms.get_chemical_formula()} is "
            f"periodic along {describe_axes(atoms)}. Use ensemble='nvt'."
        )
    if atoms.constraints:
        raise ValueError("ensemble='npt' moves every atom with the cell, so constraints cannot hold. Use nvt.")
