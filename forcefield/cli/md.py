"""`forcefield md`: molecular dynamics of every structure of the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.folder import reopen_shorter_runs
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, Plots
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

if TYPE_CHECKING:
    from forcefield.workflows.molecular_dynamics_result import MDResult, MDStep

COLUMNS = ("atoms", "steps", "time\nps", "temperature\nK", "pressure\nGPa", "drift\nmeV/atom/ps", "speed\nns/day")


@expand_groups
def md(
    files: Files,
    ensemble: Annotated[str, typer.Option(help="nve, nvt or npt.")] = "nvt",
    thermostat: Annotated[str, typer.Option(help="bussi, langevin or nose-hoover.")] = "bussi",
    cell: Annotated[str, typer.Option(help="At constant pressure: isotropic or full.")] = "isotropic",
    steps: Annotated[int, typer.Option(help="Number of steps; more of them with --resume make a run longer.")] = 10_000,
    timestep: Annotated[float | None, typer.Option(help="Time step (fs).  [default: by the lightest atom]")] = None,
    temperature: Annotated[float, typer.Option(help="Temperature (K).")] = 300.0,
    final_temperature: Annotated[float | None, typer.Option(help="Temperature at the end (K).")] = None,
    pressure: Annotated[float, typer.Option(help="Pressure (GPa), with npt.")] = 0.0,
    final_pressure: Annotated[float | None, typer.Option(help="Pressure at the end (GPa).")] = None,
    thermostat_time: Annotated[float, typer.Option(help="Relaxation time of the thermostat (fs).")] = 100.0,
    barostat_time: Annotated[float, typer.Option(help="Time constant of the cell (fs).")] = 1000.0,
    velocities: Annotated[
        str, typer.Option(help="draw from Maxwell and Boltzmann, or keep those of the file.")
    ] = "draw",
    seed: Annotated[int, typer.Option(help="Of velocities and thermostat.")] = 0,
    log_interval: Annotated[int, typer.Option(help="Steps between rows of thermo.csv.")] = 10,
    frame_interval: Annotated[int, typer.Option(help="Steps between frames of the trajectory.")] = 100,
    checkpoint_interval: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
    trajectory_format: Annotated[str, typer.Option(help="extxyz or traj.")] = "extxyz",
    temperature_limit: Annotated[float | None, typer.Option(help="Temperature at which to stop (K).")] = None,
    drift_limit: Annotated[float, typer.Option(help="Largest drift of energy (meV/atom/ps).")] = 5.0,
    distance_limit: Annotated[float, typer.Option(help="Growth at which an atom counts as leaving (Å).")] = 20.0,
    outside_data: Annotated[
        str, typer.Option(help="Where atoms stay outside the model's training data: stop, warn or ignore.")
    ] = "stop",
    plots: Plots = True,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Run molecular dynamics at constant energy, temperature or pressure.

    Each structure gets a folder with trajectory, thermo.csv, checkpoint.npz, final.extxyz, thermo.png and result.json.
    The status is 0 where all runs did all their steps, 1 where one was stopped (its verdict says why) or failed, 2 for
    wrong usage and 130 after Ctrl-C; --resume then goes on from the checkpoint, to the last bit, and with more --steps
    makes a finished run longer.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.molecular_dynamics_options import MDOptions

        given: dict[str, Any] = {
            **{"ensemble": ensemble, "thermostat": thermostat, "cell": cell, "steps": steps, "timestep": timestep},
            **{"temperature": temperature, "final_temperature": final_temperature},
            **{"pressure": pressure, "final_pressure": final_pressure, "thermostat_time": thermostat_time},
            **{"barostat_time": barostat_time, "velocities": velocities, "seed": seed, "log_interval": log_interval},
            **{"frame_interval": frame_interval, "checkpoint_interval": checkpoint_interval},
            **{"trajectory_format": trajectory_format, "temperature_limit": temperature_limit},
            **{"drift_limit": drift_limit, "distance_limit": distance_limit, "outside_data": outside_data},
        }
        options = MDOptions(**given)
        settings = options.to_dict()
        if folder.resume and not options.ramped:
            wanted = {**settings, "plots": plots}
            reopen_shorter_runs(folder.output_dir or Path("md"), "md", wanted, lambda record: bool(record["ok"]))
    run_over_structures(Command("md", COLUMNS, _row, _compute, settings, plots=plots), files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.molecular_dynamics import molecular_dynamics
    from forcefield.workflows.molecular_dynamics_watch import INTERRUPTED

    def show(step: MDStep) -> None:
        task.show(f"{step.step}/{step.steps} steps  {step.temperature:.0f} K  {step.ns_per_day:.3g} ns/day")

    folder = task.folder
    result = molecular_dynamics(
        task.frame.atoms, task.engine, folder=folder.path, resume=folder.resumed, callback=show, **task.inputs
    )
    if result.verdict == INTERRUPTED:
        raise KeyboardInterrupt
    task.note([result.reason] if result.reason else [])
    _write_files(result, folder.path, plots=task.plots)
    return result.to_dict()


def _write_files(result: MDResult, folder: Path, *, plots: bool) -> None:
    from ase.io import write

    write(folder / "final.extxyz", result.atoms.copy(), format="extxyz")
    if plots and len(result.thermo["step"]) > 1:
        from forcefield.workflows.trajectory_analysis_plots import plot_thermo

        plot_thermo(result.thermo, folder / "thermo.png")


def _row(record: Mapping[str, Any]) -> list[str]:
    def mean(name: str, digits: int) -> str:
        average = record["averages"].get(name)
        if average is None:
            return "-"
        return f"{average['mean']:.{digits}f} ± {format_number(average['error'], digits)}"

    drift = record["drift"]
    return [
        str(record["n_atoms"]),
        str(record["steps"]),
        format_number(record["time_ps"], 2),
        mean("temperature_K", 1),
        mean("pressure_GPa", 3),
        format_number(None if drift is None else drift["slope"], 3, sign=True),
        format_number(record["ns_per_day"], 3),
    ]
