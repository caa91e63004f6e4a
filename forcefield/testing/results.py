"""What a check reports, and the limits it is held against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from forcefield.testing.structures import TestStructures


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check.

    Attributes:
        name: which check, for example "rotation" or "forces: slab".
        passed: whether the measured value is within the limit; a skipped check counts as passed.
        value: what was measured, in the unit named by the message; NaN where nothing could be.
        limit: what the value was held against.
        message: the measurement in words, or why the check was skipped or what was raised.
        skipped: the check does not apply to this calculator.
    """

    name: str
    passed: bool
    value: float
    limit: float
    message: str
    skipped: bool = False


@dataclass(frozen=True)
class Limits:
    """Largest deviations accepted, and the steps of the finite differences, for one precision.

    Attributes:
        energy: between equivalent structures (eV/atom).
        force: between equivalent structures (eV/Å).
        stress: between equivalent structures (eV/Å^3).
        slope_force: forces from finite differences (eV/Å).
        slope_stress: stress from finite differences (eV/Å^3).
        energy_jump: break of the energy along a path (eV).
        force_jump: break of the force along a path (eV/Å).
        steepening: how many times the force may be steeper within ``width`` than over the scan's step.
        drift: of the total energy in a short NVE run (meV/atom).
        displacement: step of the differences for forces (Å).
        strain: step of the differences for the stress.
        width: interval to which a break is narrowed down (Å).
    """

    energy: float
    force: float
    stress: float
    slope_force: float
    slope_stress: float
    energy_jump: float
    force_jump: float
    steepening: float
    drift: float
    displacement: float
    strain: float
    width: float


LIMITS: Mapping[str, Limits] = {
    "float64": Limits(
        energy=1e-8,
        force=1e-7,
        stress=1e-8,
        slope_force=1e-5,
        slope_stress=1e-6,
        energy_jump=1e-7,
        force_jump=1e-6,
        steepening=15.0,
        drift=0.1,
        displacement=1e-3,
        strain=3e-4,
        width=1e-5,
    ),
    "float32": Limits(
        energy=2e-5,
        force=5e-4,
        stress=5e-5,
        slope_force=1e-2,
        slope_stress=1e-3,
        energy_jump=1e-4,
        force_jump=1e-3,
        steepening=15.0,
        drift=0.5,
        displacement=2e-2,
        strain=4e-3,
        width=3e-3,
    ),
}
"""Limits of a calculation in double and in single precision."""


@dataclass(frozen=True)
class Observation:
    """Energy (eV), forces (eV/Å) and, where there is one, stress (3, 3) (eV/Å^3) of a structure."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


@dataclass(frozen=True)
class Subject:
    """What is tested: a calculator, structures of elements it knows, and the limits.

    Attributes:
        calculator: what is tested.
        structures: what it is tested on.
        limits: what it is held against.
        factory: makes a new calculator; None where only one was given.
        many: a faster way to observe several structures, where there is one.
    """

    calculator: Calculator
    structures: TestStructures
    limits: Limits
    factory: Callable[[], Calculator] | None = None
    many: Callable[[Sequence[Atoms]], list[Observation]] | None = None

    def observe(self, atoms: Atoms, calculator: Calculator | None = None) -> Observation:
        """Energy, forces and stress of a copy of the structure."""
        return observe(self.calculator if calculator is None else calculator, atoms)

    def observe_all(self, structures: Sequence[Atoms]) -> list[Observation]:
        """What `observe` says of each structure, as a batch where possible."""
        return [self.observe(atoms) for atoms in structures] if self.many is None else self.many(structures)


Check = Callable[[Subject], CheckResult]


def observe(calculator: Calculator, atoms: Atoms) -> Observation:
    """Energy, forces and stress (None where not implemented, or not 3D periodic) of a copy of the structure."""
    atoms = atoms.copy()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy(force_consistent="free_energy" in calculator.implemented_properties))
    forces = np.array(atoms.get_forces(), dtype=float)
    return Observation(energy, forces, stress_of(calculator, atoms) if np.all(atoms.pbc) else None)


def stress_of(calculator: Calculator, atoms: Atoms) -> np.ndarray | None:
    """Stress (3, 3) in eV/Å^3, or None where the calculator has none."""
    if "stress" not in calculator.implemented_properties:
        return None
    try:
        return np.array(calculator.get_property("stress", atoms))[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    except PropertyNotImplementedError:
        return None


@dataclass(frozen=True)
class Deviation:
    """One measured quantity beside its limit."""

    quantity: str
    value: float
    limit: float
    unit: str

    @property
    def ratio(self) -> float:
        """Value over limit; infinite for NaN and where nothing but zero is accepted."""
        if math.isnan(self.value):
            return math.inf
        if self.limit == 0.0:
            return 0.0 if self.value == 0.0 else math.inf
        return self.value / self.limit


def judge(name: str, deviations: Sequence[Deviation], note: str = "") -> CheckResult:
    """The result of a check that measured several quantities: the one nearest to or furthest past its limit counts."""
    largest_of: dict[str, Deviation] = {}
    for deviation in deviations:
        known = largest_of.get(deviation.quantity)
        if known is None or deviation.ratio > known.ratio:
            largest_of[deviation.quantity] = deviation
    worst = max(largest_of.values(), key=lambda deviation: deviation.ratio)
    text = ", ".join(f"{d.quantity} {d.value:.2g} {d.unit} (limit {d.limit:.2g})" for d in largest_of.values())
    message = text + (f"; {note}" if note else "")
    return CheckResult(name, worst.ratio <= 1.0, float(worst.value), worst.limit, message)


def skip(name: str, reason: str) -> CheckResult:
    """The result of a check that does not apply."""
    return CheckResult(name, True, math.nan, math.nan, f"skipped: {reason}", skipped=True)


def largest(array: Any) -> float:
    """Largest absolute value, 0 for an empty array, NaN if any entry is."""
    values = np.abs(np.asarray(array, dtype=float))
    return float(values.max()) if values.size else 0.0


def compare(name: str, limits: Limits, expected: Observation, found: Observation, *, note: str = "") -> CheckResult:
    """Hold two observations of the same number of atoms against each other."""
    n_atoms = max(len(expected.forces), 1)
    return judge(name, deviations(limits, expected, found, n_atoms), note)


def deviations(limits: Limits, expected: Observation, found: Observation, n_atoms: int) -> list[Deviation]:
    """Differences in energy per atom, forces and stress (where both have one)."""
    energy = abs(found.energy - expected.energy) / n_atoms
    result = [
        Deviation("energy", energy, limits.energy, "eV/atom"),
        Deviation("forces", largest(found.forces - expected.forces), limits.force, "eV/Å"),
    ]
    if expected.stress is not None and found.stress is not None:
        result.append(Deviation("stress", largest(found.stress - expected.stress), limits.stress, "eV/Å^3"))
    return result


def run_checks(
    checks: Mapping[str, Callable[[Any], CheckResult]],
    subject: Any,
    only: Sequence[str] | None,
    progress: Callable[[CheckResult], None] | None,
) -> list[CheckResult]:
    """Run the checks in order; one that raises has failed, with the exception as its message."""
    results = []
    for name, check in checks.items():
        if only is not None and name not in only:
            continue
        try:
            result = check(subject)
        except Exception as error:  # whatever a foreign calculator raises is its result
            result = CheckResult(name, False, math.nan, math.nan, f"raised {type(error).__name__}: {error}")
        results.append(result)
        if progress is not None:
            progress(result)
    return results


def selected(only: Sequence[str] | None, known: Sequence[str]) -> Sequence[str] | None:
    """The names asked for.

    Raises:
        ValueError: one of them is no check.
    """
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise ValueError(f"unknown checks {unknown}; choose from {list(known)}")
    return only
