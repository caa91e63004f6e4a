"""Checks of derivatives: forces and stress against finite differences, breaks along paths, energy in dynamics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.md.verlet import VelocityVerlet

from forcefield.testing.results import CheckResult, Deviation, Limits, Subject, judge, largest, skip
from forcefield.units import FS, KELVIN

Path = Callable[[Sequence[float]], np.ndarray]
"""Positions along a path (Å) to energies (eV) and their derivatives (eV/Å), (positions, 2)."""

LONGEST_DIMER = 12.0  # Å, beyond the cutoff of any local potential in use
DIMER_STEP, CRYSTAL_STEP = 0.05, 0.01  # of the scans (Å)
SPAN = 4  # steps of a scan over which its roughness is measured
N_SUSPECTS = 3  # places of a scan that are looked at closely
N_STEPS = 100  # of dynamics
TIME_STEP = 1.0 * FS
TEMPERATURE = 300.0  # K
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
"""Points and weights of the first derivative, exact to fourth order (Abramowitz and Stegun, table 25.2)."""


def _slopes(subject: Subject, changed: Callable[[int, float], Atoms], n_slopes: int, step: float) -> np.ndarray:
    """Derivatives at zero of the energy of ``changed(k, t)`` with respect to t, for each k."""
    seen = subject.observe_all([changed(k, point * step) for k in range(n_slopes) for point, _ in STENCIL])
    energies = np.array([one.energy for one in seen]).reshape(n_slopes, len(STENCIL))
    return energies @ np.array([weight for _, weight in STENCIL]) / step


def forces_are_slopes(subject: Subject, structure: str) -> CheckResult:
    """Forces against differences of the energy, along random displacements of all atoms and of single coordinates."""
    atoms = getattr(subject.structures, structure)
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(7, len(atoms), 3))
    for k in range(3, 7):
        directions[k] = 0.0
        directions[k, rng.integers(len(atoms)), rng.integers(3)] = 1.0
    directions /= np.linalg.norm(directions, axis=(1, 2), keepdims=True)

    def displaced(k: int, distance: float) -> Atoms:
        moved = atoms.copy()
        moved.positions += distance * directions[k]
        return moved

    forces = subject.observe(atoms).forces
    errors = _slopes(subject, displaced, len(directions), subject.limits.displacement)
    errors = errors + np.einsum("kax,ax->k", directions, forces)
    note = f"largest force {largest(forces):.3g} eV/Å"
    deviation = Deviation("difference", largest(errors), subject.limits.slope_force, "eV/Å")
    return judge(f"forces: {structure}", [deviation], note)


def stress_is_slope(subject: Subject, structure: str) -> CheckResult:
    """All six components of the stress against differences of the energy under strain."""
    atoms = getattr(subject.structures, structure)
    stress = subject.observe(atoms).stress
    if stress is None:
        return skip(f"stress: {structure}", "the calculator has no stress")
    components = [(a, b) for a in range(3) for b in range(a, 3)]

    def strained(k: int, size: float) -> Atoms:
        strain = np.zeros((3, 3))
        strain[components[k]] += size / 2
        strain[components[k][::-1]] += size / 2
        changed = atoms.copy()
        changed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return changed

    errors = _slopes(subject, strained, len(components), subject.limits.strain) / atoms.get_volume()
    errors -= [stress[component] for component in components]
    note = f"largest component {largest(stress):.3g} eV/Å^3"
    deviation = Deviation(
        "difference", max(largest(errors), largest(stress - stress.T)), subject.limits.slope_stress, "eV/Å^3"
    )
    return judge(f"stress: {structure}", [deviation], note)


def smooth_dimer(subject: Subject) -> CheckResult:
    """A pair pulled apart beyond every cutoff: no break in energy or force, and no vertical force."""
    direction = subject.structures.dimer(1.0).positions[1]

    def path(distances: Sequence[float]) -> np.ndarray:
        seen = subject.observe_all([subject.structures.dimer(distance) for distance in distances])
        return np.array([(one.energy, -one.forces[1] @ direction) for one in seen])

    start = 0.9 * subject.structures.bond
    return _smoothness("smooth: dimer", subject.limits, path, np.arange(start, LONGEST_DIMER, DIMER_STEP))


def smooth_crystal(subject: Subject) -> CheckResult:
    """An atom moved through a crystal, so that others enter and leave every shell around it."""
    atoms = subject.structures.left_handed
    direction = np.array([0.6, 0.48, -0.64])

    def moved(distance: float) -> Atoms:
        changed = atoms.copy()
        changed.positions[3] += distance * direction
        return changed

    def path(distances: Sequence[float]) -> np.ndarray:
        seen = subject.observe_all([moved(distance) for distance in distances])
        return np.array([(one.energy, -one.forces[3] @ direction) for one in seen])

    reach = 0.2 * subject.structures.bond
    return _smoothness("smooth: crystal", subject.limits, path, np.arange(-reach, reach, CRYSTAL_STEP))


def _smoothness(name: str, limits: Limits, path: Path, grid: np.ndarray) -> CheckResult:
    """Scan a path, narrow the roughest places down, and measure what break is left in the smallest interval."""
    path = _remembering(path)
    scan = path(list(grid))  # (points, 2)
    starts = [(start, column) for column in (0, 1) for start in _suspects(scan[:, column])]
    intervals = _narrow(
        path, np.array([[grid[start], grid[start + SPAN]] for start, _ in starts]), [c for _, c in starts], limits.width
    )
    around = [low + share * (high - low) for low, high in intervals for share in (-0.5, 0.0, 0.5, 1.0, 1.5)]
    values = path(around).reshape(-1, 5, 2)
    jump, steepening, place = [0.0, 0.0], 0.0, float(grid[0])
    for (start, column), (low, high), (before, *ends, after) in zip(starts, intervals, values, strict=True):
        broken = _break(np.array([before, *ends, after])[:, column])
        if broken > jump[column]:
            jump[column], place = float(broken), float(low)
        if column == 1:
            usual = np.abs(np.diff(scan[max(start - 3, 0) : start + SPAN + 4, 1])).max() / (grid[1] - grid[0])
            noise = limits.force_jump / (high - low)
            steepening = max(steepening, float(abs(ends[2][1] - ends[0][1]) / (high - low) / (usual + noise)))
    return judge(
        name,
        [
            Deviation("energy jump", jump[0], limits.energy_jump, "eV"),
            Deviation("force jump", jump[1], limits.force_jump, "eV/Å"),
            Deviation("steepening", steepening, limits.steepening, "times"),
        ],
        f"roughest at {place:.4f} Å",
    )


def _break(values: np.ndarray) -> float:
    """What breaks between the inner three of five equidistant values.

    Over twice the distance a second difference is as large if it comes from a break, and four times as large if it
    comes from the curvature, which is taken off.
    """
    narrow, wide = values[1] - 2 * values[2] + values[3], values[0] - 2 * values[2] + values[4]
    return float(abs(4 * narrow - wide) / 3)


def _suspects(values: np.ndarray) -> list[int]:
    """First points of the stretches whose fourth difference stands out most from its surroundings."""
    rough = np.abs(np.diff(values, n=SPAN))
    background = np.array([np.median(rough[max(k - 6, 0) : k + 7]) for k in range(len(rough))])
    noise = 1e-14 * np.abs(values).max() + 1e-300
    chosen: list[int] = []
    for k in np.argsort(rough / (background + noise))[::-1]:
        if all(abs(int(k) - other) > 3 for other in chosen):
            chosen.append(int(k))
        if len(chosen) == N_SUSPECTS:
            break
    return chosen


def _narrow(path: Path, intervals: np.ndarray, columns: list[int], width: float) -> np.ndarray:
    """Halve intervals together, keeping the half that bends most, until all are narrower than ``width``.

    Over what is left, the second difference of a break is the break; that of a smooth curve is only its curvature
    (`_break` tells them apart).

    Args:
        path: the curve.
        intervals: (intervals, 2) in Å.
        columns: for each interval, whether the energy (0) or its derivative (1) is looked at.
        width: in Å.
    """
    rows, fractions = np.arange(len(intervals)), np.linspace(0.0, 1.0, 9)
    while np.ptp(intervals, axis=1).max() > width:
        points = intervals[:, :1] + np.ptp(intervals, axis=1)[:, None] * fractions  # (intervals, 9)
        values = path(list(points.ravel())).reshape(len(intervals), 9, 2)[rows, :, columns]
        bends = np.abs(np.diff(values, n=2))  # (intervals, 7)
        windows = np.stack([bends[:, k : k + 3].sum(axis=1) for k in (0, 2, 4)])  # left, middle and right half
        first = 2 * windows.argmax(axis=0)
        intervals = np.stack([points[rows, first], points[rows, first + 4]], axis=1)
    return intervals


def _remembering(path: Path) -> Path:
    """The same path, computing each position (to 1e-10 Å) once."""
    known: dict[float, np.ndarray] = {}

    def remembered(positions: Sequence[float]) -> np.ndarray:
        rounded = [round(float(position), 10) for position in positions]
        new = list(dict.fromkeys(position for position in rounded if position not in known))
        if new:
            known.update(zip(new, path(new), strict=True))
        return np.array([known[position] for position in rounded])

    return remembered


def conserved_energy(subject: Subject) -> CheckResult:
    """Velocity Verlet at constant energy: mean total energy of the last against the first quarter of 100 fs."""
    atoms = subject.structures.left_handed.copy()
    masses = atoms.get_masses()[:, None]
    velocities = np.random.default_rng(4).normal(size=(len(atoms), 3)) * np.sqrt(TEMPERATURE * KELVIN / masses)
    atoms.set_velocities(velocities - (masses * velocities).sum(axis=0) / masses.sum())
    atoms.calc = subject.calculator
    consistent = "free_energy" in subject.calculator.implemented_properties
    energies: list[float] = []

    def record() -> None:
        energies.append(atoms.get_potential_energy(force_consistent=consistent) + atoms.get_kinetic_energy())

    dynamics = VelocityVerlet(atoms, timestep=TIME_STEP)
    dynamics.attach(record)
    dynamics.run(N_STEPS)
    quarter = N_STEPS // 4
    per_atom = 1000 * np.array(energies) / len(atoms)  # meV/atom
    drift = abs(per_atom[-quarter:].mean() - per_atom[:quarter].mean())
    note = f"{N_STEPS} steps of {TIME_STEP / FS:g} fs, fluctuation {per_atom.std():.2g} meV/atom"
    return judge("energy conservation", [Deviation("drift", float(drift), subject.limits.drift, "meV/atom")], note)
