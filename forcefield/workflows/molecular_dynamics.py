"""Molecular dynamics: `molecular_dynamics(structure, calculator)` at constant energy, temperature or pressure."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.structures import as_atoms, check_structure
from forcefield.units import FS, GPA, KELVIN
from forcefield.workflows import molecular_dynamics_watch as ended
from forcefield.workflows.molecular_dynamics_files import (
    Recorder,
    columns_of,
    forget_history,
    read_checkpoint,
    write_checkpoint,
)
from forcefield.workflows.molecular_dynamics_integrators import CellIntegrator, Integrator, make_thermostat
from forcefield.workflows.molecular_dynamics_options import (
    MDOptions,
    default_timestep,
    degrees_of_freedom,
    drift_is_removed,
    require_cell,
)
from forcefield.workflows.molecular_dynamics_result import MDResult, MDStep, average_columns, judge
from forcefield.workflows.molecular_dynamics_watch import Objection, Watch, measure_drift
from forcefield.workflows.outcome import stress_or_none
from forcefield.workflows.relax_setup import cell_volume, choose_calculator, require_stress
from forcefield.workflows.vacuum import describe_vacuum

Callback = Callable[[MDStep], None]


def molecular_dynamics(
    atoms: Any,
    calculator: Any = None,
    *,
    ensemble: str = "nvt",
    thermostat: str = "bussi",
    cell: str = "isotropic",
    steps: int = 10_000,
    timestep: float | None = None,
    temperature: float = 300.0,
    final_temperature: float | None = None,
    pressure: float = 0.0,
    final_pressure: float | None = None,
    thermostat_time: float = 100.0,
    barostat_time: float = 1000.0,
    velocities: str = "draw",
    seed: int = 0,
    log_interval: int = 10,
    frame_interval: int = 100,
    checkpoint_interval: int = 1000,
    trajectory_format: str = "extxyz",
    temperature_limit: float | None = None,
    drift_limit: float = 5.0,
    distance_limit: float = 20.0,
    outside_data: str = "stop",
    folder: str | Path | None = None,
    resume: bool = False,
    callback: Callback | None = None,
) -> MDResult:
    """Run molecular dynamics and stop with a verdict where it leaves physics.

    The input is not modified, its constraints hold, and the centre of mass rests where there are none. Ctrl-C ends the
    run early with the verdict "interrupted". With a folder, thermo.csv, trajectory and checkpoint.npz are written, and
    `resume=True` goes on from the checkpoint exactly as if there had been no interruption, whatever the thermostat.

    Args:
        atoms: `ase.Atoms`, or a pymatgen `Structure` or `Molecule`.
        calculator: an ASE calculator; None takes the one attached to the atoms, else the default model.
        ensemble: "nve", "nvt" or "npt".
        thermostat: "bussi" (stochastic velocity rescaling), "langevin" or "nose-hoover" (a chain of three).
        cell: at constant pressure, "isotropic" keeps the shape, "full" lets it follow; Martyna-Tobias-Klein.
        steps: number of steps; with `resume`, of the whole run.
        timestep: (fs); None chooses by the lightest atom, 0.5 for hydrogen to 2 from sodium on.
        temperature: target (K), at constant energy that of the first velocities.
        final_temperature: target at the end (K), approached on a straight line.
        pressure: target (GPa).
        final_pressure: target at the end (GPa), approached on a straight line.
        thermostat_time: relaxation time of the thermostat (fs); the inverse of the friction for Langevin.
        barostat_time: time constant of the cell (fs); its inertia is (atoms + 1)·kT·time², as in ASE.
        velocities: "draw" from Maxwell and Boltzmann, or "keep" those of the structure.
        seed: of velocities and thermostat.
        log_interval: steps between rows of the log, which is also how often distances are looked at.
        frame_interval: steps between frames of the trajectory.
        checkpoint_interval: steps between checkpoints.
        trajectory_format: "extxyz" or "traj".
        temperature_limit: temperature at which to stop (K); None is five times the target and 1000 K more.
        drift_limit: largest drift of the conserved quantity (meV/atom/ps).
        distance_limit: how much a structure without full periodicity may grow before an atom counts as leaving (Å).
        outside_data: what to do when atoms stay outside the model's training data for five rows of the log: "stop",
            "warn" in the result, or "ignore"; only for a calculator with `get_confidence` (`GNNCalculator`).
        folder: where files go; None keeps log and frames in memory.
        resume: go on from the folder's checkpoint, if there is one.
        callback: called with an `MDStep` at every row of the log.

    Returns:
        The result; `ok` says whether all steps were done without objection, `verdict` and `reason` why not.

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: for a structure or options that make no sense, or a checkpoint that is damaged or of another run.
        OSError: if a file cannot be written.
    """
    settings: dict[str, Any] = {
        **{"ensemble": ensemble, "thermostat": thermostat, "cell": cell, "steps": steps, "timestep": timestep},
        **{"temperature": temperature, "final_temperature": final_temperature},
        **{"pressure": pressure, "final_pressure": final_pressure, "thermostat_time": thermostat_time},
        **{"barostat_time": barostat_time, "velocities": velocities, "seed": seed, "log_interval": log_interval},
        **{"frame_interval": frame_interval, "checkpoint_interval": checkpoint_interval},
        **{"trajectory_format": trajectory_format, "temperature_limit": temperature_limit},
        **{"drift_limit": drift_limit, "distance_limit": distance_limit, "outside_data": outside_data},
    }
    options = MDOptions(**settings)
    if resume and folder is None:
        raise ValueError("resume=True came without a folder to take the run up from.")
    start = as_atoms(atoms)
    check_structure(start)
    if ensemble == "npt":
        require_cell(start)
    run = _Run(start, choose_calculator(atoms, calculator), options, None if folder is None else Path(folder), callback)
    if not (resume and run.take_up()):
        run.begin()
    return run.drive()


class _Run:
    """A run under way."""

    def __init__(
        self, start: Atoms, calculator: Any, options: MDOptions, folder: Path | None, callback: Callback | None
    ) -> None:
        self.options, self.folder, self.callback = options, folder, callback
        self.timestep = default_timestep(start) if options.timestep is None else options.timestep
        self.free = degrees_of_freedom(start)
        self.random = np.random.default_rng(options.seed)
        self.atoms = start.copy()
        self.atoms.calc = calculator
        self.identity = _identity(start, options, self.timestep)
        if options.ensemble == "npt":
            require_stress(self.atoms, asked='ensemble="npt"', instead='ensemble="nvt"')
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.start = start
        self.notes = _vacuum_notes(start, options)
        self.recorder = Recorder(folder, options.trajectory_format)
        self.integrator = self._make_integrator()
        self.stress_known = bool(start.pbc.all()) and stress_or_none(self.atoms) is not None
        self.step = self.first_step = 0
        self.started = time.perf_counter()

    def _make_integrator(self) -> Integrator:
        options = self.options
        name = "none" if options.ensemble == "nve" else options.thermostat
        bath = make_thermostat(name, options.thermostat_time * FS, self.random)
        common: dict[str, Any] = {"timestep": self.timestep * FS, "thermostat": bath, "free": self.free}
        common["resting"] = drift_is_removed(self.atoms)
        if options.ensemble != "npt":
            return Integrator(self.atoms, **common)
        return CellIntegrator(
            self.atoms,
            **common,
            cell_thermostat=make_thermostat(name, options.barostat_time * FS, self.random),
            cell_time=options.barostat_time * FS,
            isotropic=options.cell == "isotropic",
            kt=options.highest_temperature * KELVIN,
        )

    def begin(self) -> None:
        """Start anew: velocities, empty files, the first row and frame."""
        set_velocities(self.atoms, self.options, self.random)
        self.first_conserved = self._conserved()
        self.first_temperature = self.temperature
        self.watch = Watch(self.start, self.options, self.first_temperature)
        self.recorder.start()
        forget_history(self.atoms.calc)
        self._record(logged=True, framed=True)
        self._checkpoint()

    def take_up(self) -> bool:
        """Go on from the checkpoint; False where there is none.

        Raises:
            ValueError: if it is damaged, belongs to another run, or is beyond the steps asked for.
        """
        assert self.folder is not None
        kept = read_checkpoint(self.folder)
        if kept is None:
            return False
        arrays, notes = kept
        if notes["identity"] != self.identity:
            raise ValueError(f"The checkpoint in {self.folder} is of another structure or of other options.")
        if notes["step"] > self.options.steps:
            raise ValueError(
                f"The checkpoint in {self.folder} is at step {notes['step']}, beyond {self.options.steps}."
            )
        self.integrator.load(arrays)
        self.random.bit_generator.state = notes["random"]
        self.step = self.first_step = notes["step"]
        self.first_conserved, self.first_temperature = notes["first_conserved"], notes["first_temperature"]
        self.watch = Watch(self.start, self.options, self.first_temperature)
        self.recorder.cut_back(notes["sizes"])
        forget_history(self.atoms.calc)
        return True

    def drive(self) -> MDResult:
        """Take the steps that are left."""
        self.started = time.perf_counter()
        objection: Objection | None = None
        try:
            while self.step < self.options.steps and objection is None:
                objection = self._advance()
        except KeyboardInterrupt:
            objection = Objection(ended.INTERRUPTED, f"Ctrl-C after {self.step} of {self.options.steps} steps")
        return self._result(objection)

    def _advance(self) -> Objection | None:
        """Take one step, look at it, and write what is due."""
        options = self.options
        kt = options.temperature_at(self.step) * KELVIN
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is no longer finite, which is looked at
                self.integrator.step(kt, options.pressure_at(self.step) * GPA)
            energy, forces = self.atoms.get_potential_energy(), self.atoms.get_forces()
        except (ValueError, ArithmeticError, RuntimeError) as error:  # whatever a calculator says to atoms gone astray
            return Objection(ended.CALCULATOR_FAILED, f"step {self.step + 1}: {type(error).__name__}: {error}")
        self.step += 1
        objection = self.watch.look(self.atoms, self.temperature, energy, forces)
        if objection is not None:
            return objection
        last = self.step == options.steps
        logged, framed = self.step % options.log_interval == 0, self.step % options.frame_interval == 0
        if logged:
            change = (self._conserved() - self.first_conserved) / len(self.atoms)
            objection = self.watch.look_closely(self.atoms, change, self.time_ps)
        self._record(logged=logged, framed=framed)
        if objection is None and (self.step % options.checkpoint_interval == 0 or last):
            self._checkpoint()
        return objection

    @property
    def time_ps(self) -> float:
        """Simulated time (ps)."""
        return 1.0e-3 * self.step * self.timestep

    @property
    def temperature(self) -> float:
        """Temperature now (K)."""
        return 2.0 * float(self.atoms.get_kinetic_energy()) / (self.free * KELVIN)

    @property
    def ns_per_day(self) -> float:
        """Speed since the start of this call."""
        elapsed = time.perf_counter() - self.started
        return 1.0e-6 * (self.step - self.first_step) * self.timestep * 86400.0 / max(elapsed, 1.0e-9)

    def _conserved(self) -> float:
        return self.integrator.conserved(self.options.pressure_at(max(self.step - 1, 0)) * GPA)

    def _pressure(self) -> float:
        """Pressure, motion included (GPa), or not a number where there is no stress."""
        if not self.stress_known:
            return math.nan
        stress = self.atoms.get_stress()
        kinetic = 2.0 * self.atoms.get_kinetic_energy() / (3.0 * self.atoms.get_volume())
        return float(kinetic - stress[:3].mean()) / GPA

    def _record(self, *, logged: bool, framed: bool) -> None:
        atoms = self.atoms
        if framed:
            self.recorder.add_frame(atoms, step=self.step, time_fs=self.step * self.timestep)
        if not logged:
            return
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        energies = (potential, kinetic, potential + kinetic, self._conserved())
        pressure, volume = self._pressure(), cell_volume(atoms)
        about = (self.step, self.time_ps, self.temperature)
        self.recorder.add_row((*about, *energies, pressure, math.nan if volume is None else volume))
        if self.callback is not None:
            shown = None if math.isnan(pressure) else pressure
            self.callback(
                MDStep(self.step, self.options.steps, self.time_ps, self.temperature, potential, shown, self.ns_per_day)
            )

    def _checkpoint(self) -> None:
        """Write the state, and make what follows depend on it alone."""
        forget_history(self.atoms.calc)
        if self.folder is None:
            return
        notes = {
            **{"identity": self.identity, "step": self.step, "sizes": self.recorder.sizes()},
            **{"first_conserved": self.first_conserved, "first_temperature": self.first_temperature},
            "random": self.random.bit_generator.state,
        }
        write_checkpoint(self.folder, self.integrator.state(), notes)

    def _result(self, objection: Objection | None) -> MDResult:
        thermo = columns_of(self.recorder.rows)
        drift = measure_drift(thermo["time_ps"], thermo["conserved_eV"], len(self.atoms))
        averages = average_columns(thermo)
        if objection is None:
            verdict, reason, warnings = judge(self.options, drift, averages)
            warnings += self.watch.warnings
        else:
            verdict, reason, warnings = objection.verdict, objection.text, self.watch.warnings
        warnings = (*self.notes, *warnings)
        return MDResult(
            atoms=self.atoms,
            verdict=verdict,
            reason=reason,
            warnings=warnings,
            steps=self.step,
            time_ps=self.time_ps,
            timestep=self.timestep,
            degrees_of_freedom=self.free,
            thermo=thermo,
            averages=averages,
            drift=drift,
            ns_per_day=self.ns_per_day,
            frames=self.recorder.frames,
            trajectory=self.recorder.trajectory,
            options=self.options,
        )


def set_velocities(atoms: Atoms, options: MDOptions, random: np.random.Generator) -> None:
    """Give atoms their first momenta: constraints hold, the centre of mass rests, drawn ones have the temperature.

    Raises:
        ValueError: if momenta are to be kept that are all zero, though a thermostat that rescales needs some.
    """
    masses = atoms.get_masses()[:, None]
    if options.velocities == "draw":
        atoms.set_momenta(np.sqrt(masses * options.temperature * KELVIN) * random.standard_normal((len(atoms), 3)))
    if drift_is_removed(atoms):
        momenta = atoms.get_momenta()
        atoms.set_momenta(momenta - masses * momenta.sum(axis=0) / masses.sum())
    kinetic = float(atoms.get_kinetic_energy())
    if options.velocities == "draw":
        wanted = 0.5 * degrees_of_freedom(atoms) * KELVIN * options.temperature
        atoms.set_momenta(atoms.get_momenta() * math.sqrt(wanted / kinetic))
    elif kinetic == 0.0 and options.ensemble != "nve" and options.thermostat != "langevin":
        raise ValueError(
            f"velocities='keep' came with a structure at rest, but thermostat={options.thermostat!r} rescales momenta. "
            "Use velocities='draw' or thermostat='langevin'."
        )


def _vacuum_notes(start: Atoms, options: MDOptions) -> tuple[str, ...]:
    """Warn of a pressure on a cell with vacuum."""
    vacuum = describe_vacuum(start) if options.ensemble == "npt" else None
    return () if vacuum is None else (f"the cell has {vacuum}, which a pressure closes; ensemble='nvt' keeps it",)


def _identity(start: Atoms, options: MDOptions, timestep: float) -> dict[str, Any]:
    """Tell runs apart: structure and options; a run without ramps may be made longer."""
    digest = hashlib.sha256()
    for part in (start.numbers, start.positions, start.cell.array, start.pbc, start.get_masses(), start.get_momenta()):
        digest.update(np.ascontiguousarray(part).tobytes())
    settings = {**options.to_dict(), "timestep": timestep}
    if not options.ramped:
        del settings["steps"]
    return {"structure": digest.hexdigest()[:16], "options": settings}
