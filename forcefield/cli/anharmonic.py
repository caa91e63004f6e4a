"""`forcefield qha`, `gruneisen` and `conductivity`: what phonons change with volume and with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import (
    CalculatorChoice,
    Displacement,
    Files,
    FolderOptions,
    MaxTemperature,
    Plots,
    RelaxingCrystal,
    Supercell,
    SupercellLength,
    Tolerance,
    Vibrations,
)
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

PHONONS: dict[str, Any] = {"precision": "float64", "packages": ("phonopy",)}  # what `Command` must know of these
QHA_COLUMNS = (
    "300 K: volume\nÅ³/atom", "expansion\n1e-6/K", "bulk modulus\nGPa", "Cp\nkB/atom", "Grüneisen", "up to\nK"
)  # fmt: skip


@expand_groups
def qha(
    files: Files,
    vibrations: Vibrations,
    compression: Annotated[float, typer.Option(help="Smallest volume, as a relative change.")] = 0.03,
    expansion: Annotated[float, typer.Option(help="Largest volume, as a relative change.")] = 0.07,
    n_volumes: Annotated[int, typer.Option(help="How many volumes.")] = 7,
    shape: Annotated[str, typer.Option(help="Shape of the cell at each volume: fixed or relaxed.")] = "fixed",
    equation: Annotated[str, typer.Option(help="vinet or birch-murnaghan.")] = "vinet",
    pressure: Annotated[float, typer.Option(help="External pressure (GPa).")] = 0.0,
    plots: Plots = True,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute thermal expansion, Gibbs energy and bulk modulus against temperature (quasi-harmonic).

    Each structure gets a folder with result.json and quasi_harmonic.png. The status is 0 where all temperatures were
    reached for all structures, 1 where not or one failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on
    with the forces already computed.
    """
    scan: dict[str, Any] = {
        **{"compression": compression, "expansion": expansion, "n_volumes": n_volumes, "shape": shape},
        **{"equation": equation, "pressure": pressure},
    }
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.phonons_setup import PhononOptions
        from forcefield.workflows.qha import QuasiHarmonicOptions

        QuasiHarmonicOptions(**scan, phonons=PhononOptions(**asdict(vibrations)))
    options = {**scan, **asdict(vibrations)}
    command = Command("qha", QHA_COLUMNS, _qha_row, _compute_qha, options, plots=plots, **PHONONS)
    run_over_structures(command, files, choice, folder)


def _compute_qha(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.qha import quasi_harmonic

    result = quasi_harmonic(task.frame.atoms, task.engine, store=task.store, callback=task.show, **task.inputs)
    if task.plots:
        from forcefield.workflows.plots_phonons import plot_quasi_harmonic

        plot_quasi_harmonic(result, task.folder.path / "quasi_harmonic.png")
    return result.to_dict()


def _qha_row(record: Mapping[str, Any]) -> list[str]:
    from forcefield.units import KELVIN

    row = _nearest(record["temperatures"], 300.0)
    if row is None:
        return ["-"] * 5 + [format_number(record["temperatures"][-1], 0)]
    return [
        format_number(record["volume"][row], 3),
        format_number(1.0e6 * record["thermal_expansion"][row], 1),
        format_number(record["bulk_modulus"][row], 1),
        format_number(record["heat_capacity_p"][row] / KELVIN, 3),
        format_number(record["gruneisen"][row], 2),
        format_number(record["temperatures"][-1], 0),
    ]


@expand_groups
def gruneisen(
    files: Files,
    vibrations: Vibrations,
    volume_change: Annotated[float, typer.Option(help="Relative change of the volume, both ways.")] = 0.01,
    plots: Plots = True,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute Grüneisen parameters: how phonon frequencies answer to the volume.

    Each structure gets a folder with result.json and gruneisen.png. The status is 0 where no structure has imaginary
    modes, 1 where one has or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces
    already computed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.phonons_setup import PhononOptions

        PhononOptions(**asdict(vibrations))
    options = {**asdict(vibrations), "volume_change": volume_change}
    columns = ("mean at 300 K", "mean at highest T")
    command = Command("gruneisen", columns, _gruneisen_row, _compute_gruneisen, options, plots=plots, **PHONONS)
    run_over_structures(command, files, choice, folder)


def _compute_gruneisen(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.gruneisen import gruneisen_parameters

    result = gruneisen_parameters(task.frame.atoms, task.engine, store=task.store, callback=task.show, **task.inputs)
    if task.plots:
        from forcefield.workflows.plots_phonons import plot_gruneisen

        plot_gruneisen(result, task.folder.path / "gruneisen.png")
    return result.to_dict()


def _gruneisen_row(record: Mapping[str, Any]) -> list[str]:
    row = _nearest(record["temperatures"], 300.0)
    return [format_number(None if row is None else record["mean"][row], 3), format_number(record["mean"][-1], 3)]


@expand_groups
def conductivity(
    files: Files,
    supercell_length: SupercellLength = 10.0,
    supercell: Supercell = None,
    harmonic_length: Annotated[
        float, typer.Option(help="Shortest length of the supercell for the harmonic part (Å).")
    ] = 15.0,
    cutoff: Annotated[
        float | None, typer.Option(help="Largest distance of the two displaced atoms (Å).  [default: none]")
    ] = None,
    mesh_length: Annotated[float, typer.Option(help="Density of the q-point mesh (Å).")] = 40.0,
    t_min: Annotated[float, typer.Option(help="Lowest temperature (K).")] = 100.0,
    t_max: MaxTemperature = 1000.0,
    t_step: Annotated[float, typer.Option(help="Step of temperature (K).")] = 50.0,
    displacement: Displacement = 0.03,
    tolerance: Tolerance = 0.05,
    plots: Plots = True,
    *,
    relaxing: RelaxingCrystal,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute the lattice thermal conductivity (phono3py, relaxation-time approximation).

    Each structure gets a folder with result.json and conductivity.png. The status is 0 where no structure has imaginary
    modes, 1 where one has or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces
    already computed.
    """
    settings: dict[str, Any] = {
        **{"supercell_length": supercell_length, "supercell": supercell, "harmonic_length": harmonic_length},
        **{"cutoff": cutoff, "mesh_length": mesh_length, "t_min": t_min, "t_max": t_max, "t_step": t_step},
        **{"displacement": displacement, "tolerance": tolerance, **asdict(relaxing)},
    }
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.conductivity import ConductivityOptions

        options = ConductivityOptions(**settings).to_dict()
    columns = ("supercells", "300 K: W/m/K")
    needs = {**PHONONS, "packages": ("phono3py",)}
    command = Command("conductivity", columns, _conductivity_row, _compute_conductivity, options, plots=plots, **needs)
    run_over_structures(command, files, choice, folder)


def _compute_conductivity(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.conductivity import thermal_conductivity

    result = thermal_conductivity(task.frame.atoms, task.engine, store=task.store, callback=task.show, **task.inputs)
    if task.plots:
        from forcefield.workflows.plots_phonons import plot_conductivity

        plot_conductivity(result, task.folder.path / "conductivity.png")
    return result.to_dict()


def _conductivity_row(record: Mapping[str, Any]) -> list[str]:
    row = _nearest(record["temperatures"], 300.0)
    mean = None if row is None or not record["ok"] else sum(record["conductivity"][row][:3]) / 3.0
    return [str(record["n_displacements"]), format_number(mean, 2)]


def _nearest(temperatures: list[float], wanted: float) -> int | None:
    """Find the row of a temperature, or None where none is within a kelvin."""
    row = min(range(len(temperatures)), key=lambda number: abs(temperatures[number] - wanted))
    return row if abs(temperatures[row] - wanted) < 1.0 else None
