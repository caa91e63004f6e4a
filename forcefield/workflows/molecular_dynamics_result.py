"""What molecular dynamics reports: an `MDStep` now and then, and an `MDResult` at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefield.workflows import molecular_dynamics_watch as ended
from forcefield.workflows.molecular_dynamics_options import MDOptions
from forcefield.workflows.trajectory_analysis_statistics import Mean, block_average

Array = NDArray[np.float64]

EQUILIBRATION = 0.2  # share of the rows that averages leave out
AVERAGED = ("temperature_K", "potential_eV", "total_eV", "pressure_GPa", "volume_A3")


class MDStep(NamedTuple):
    """A row of the log as a callback sees it.

    Time in ps, temperature in K, energy in eV, pressure in GPa (None without a stress), speed in ns a day.
    """

    step: int
    steps: int
    time_ps: float
    temperature: float
    potential: float
    pressure: float | None
    ns_per_day: float


@dataclass(frozen=True)
class MDResult:
    """What a run of molecular dynamics gave.

    Attributes:
        atoms: the last structure, with momenta, constraints and the calculator.
        verdict: "finished", or what ended the run early, or "energy not conserved" for a drift at constant energy.
        reason: the verdict with its numbers, in a sentence; empty where the run finished.
        warnings: what else to know, one sentence each.
        steps: steps done, those before a restart included.
        time_ps: simulated time (ps).
        timestep: (fs).
        degrees_of_freedom: number of free momenta that the temperature is computed with.
        thermo: columns of the log, (rows,) each: step, time_ps, temperature_K, potential_eV, kinetic_eV, total_eV,
            conserved_eV, pressure_GPa, volume_A3.
        averages: of temperature, energies, pressure and volume, without the first fifth of the rows.
        drift: of the conserved quantity (meV/atom/ps); None for fewer than five rows.
        ns_per_day: speed of this call.
        frames: the trajectory, where it was kept in memory.
        trajectory: its file, where there is a folder.
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    reason: str
    warnings: tuple[str, ...]
    steps: int
    time_ps: float
    timestep: float
    degrees_of_freedom: int
    thermo: dict[str, Array]
    averages: dict[str, Mean]
    drift: ended.Drift | None
    ns_per_day: float
    frames: list[Atoms]
    trajectory: Path | None
    options: MDOptions

    @property
    def ok(self) -> bool:
        """Whether the run did all its steps and conserved what it must."""
        return self.verdict == ended.FINISHED

    def to_dict(self) -> dict[str, Any]:
        """Give all but log and frames, for JSON by `forcefield.workflows.outcome.plain`."""
        content = {name: value for name, value in vars(self).items() if name not in ("thermo", "frames", "trajectory")}
        names = None if self.trajectory is None else self.trajectory.name
        about = {"formula": self.atoms.get_chemical_formula(), "n_atoms": len(self.atoms), "ok": self.ok}
        return {**about, **content, "trajectory": names}


def average_columns(thermo: dict[str, Array]) -> dict[str, Mean]:
    """Average the columns of a log that are known, without the first fifth of the rows."""
    first = int(EQUILIBRATION * len(thermo["step"]))
    averages = {}
    for name in AVERAGED:
        values = thermo[name][first:]
        if len(values) > 0 and np.isfinite(values).all():
            averages[name] = block_average(values)
    return averages


def judge(options: MDOptions, drift: ended.Drift | None, averages: dict[str, Mean]) -> tuple[str, str, tuple[str, ...]]:
    """Judge a run that did all its steps.

    Returns:
        Verdict, reason and warnings.
    """
    warnings = []
    if drift is not None and drift.significant(options.drift_limit):
        text = (
            f"the conserved quantity drifts by {drift.slope:+.2f} meV/atom/ps, above {options.drift_limit:g}; use a "
            "shorter time step"
        )
        if options.ensemble == "nve":
            return ended.DRIFTING, text, ()
        warnings.append(text)
    mean = averages.get("temperature_K")
    if options.ensemble != "nve" and not options.ramped and mean is not None:
        off = mean.mean - options.temperature
        if abs(off) > max(5.0 * mean.error, 0.05 * options.temperature):
            warnings.append(
                f"the mean temperature is {mean.mean:.0f} K, not {options.temperature:.0f} K: the run is too short to "
                "have come to equilibrium"
            )
    return ended.FINISHED, "", tuple(warnings)
