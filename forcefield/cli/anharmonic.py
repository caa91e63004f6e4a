"""`forcefield qha`, `gruneisen` and `conductivity`: what phonons change with volume and with each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.folder import (
    Command,
    OutputDir,
    Plots,
    Resume,
    StructureFolder,
    load_engine,
    open_store,
    plots_wanted,
    run_over_structures,
)
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Files, Index, Model, Precision
from forcefield.cli.phonons import (
    Displacement,
    MaxForce,
    MaxTemperature,
    MeshLength,
    Method,
    Relaxation,
    Steps,
    Supercell,
    SupercellLength,
    Symmetry,
    TemperatureStep,
    Tolerance,
)
from forcefield.cli.report import ProgressLine, format_number, one_line_errors

if TYPE_CHECKING:
    from forcefield.cli.io import Frame

QHA_COLUMNS = (
    "300 K: volume\nÅ³/atom", "expansion\n1e-6/K", "bulk modulus\nGPa", "Cp\nkB/atom", "Grüneisen", "up to\nK"
)  # fmt: skip


def qha(
    files: Files,
    compression: Annotated[float, typer.Option(help="Smallest volume, as a relative change.")] = 0.03,
    expansion: Annotated[float, typer.Option(help="Largest volume, as a relative change.")] = 0.07,
    n_volumes: Annotated[int, typer.Option(help="How many volumes.")] = 7,
    shape: Annotated[str, typer.Option(help="Shape of the cell at each volume: fixed or relaxed.")] = "fixed",
    equation: Annotated[str, typer.Option(help="vinet or birch-murnaghan.")] = "vinet",
    pressure: Annotated[float, typer.Option(help="External pressure (GPa).")] = 0.0,
    supercell_length: SupercellLength = 15.0,
    supercell: Supercell = None,
    method: Method = "displacements",
    displacement: Displacement = 0.01,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-4,
    steps: Steps = 1000,
    symmetry: Symmetry = True,
    mesh_length: MeshLength = 60.0,
    t_max: MaxTemperature = 1000.0,
    t_step: TemperatureStep = 10.0,
    tolerance: Tolerance = 0.05,
    output_dir: OutputDir = None,
    resume: Resume = False,
    plots: Plots = True,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute thermal expansion, Gibbs energy and bulk modulus against temperature (quasi-harmonic).

    Each structure gets a folder with result.json and quasi_harmonic.png. The status is 0 where all temperatures were
    reached for all structures, 1 where not or one failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on
    with the forces already computed.
    """
    vibrations: dict[str, Any] = {
        **{"supercell_length": supercell_length, "supercell": supercell, "method": method, "steps": steps},
        **{"displacement": displacement, "relaxation": relaxation, "fmax": fmax, "symmetry": symmetry},
        **{"mesh_length": mesh_length, "t_max": t_max, "t_step": t_step, "tolerance": tolerance},
    }
    scan: dict[str, Any] = {
        **{"compression": compression, "expansion": expansion, "n_volumes": n_volumes, "shape": shape},
        **{"equation": equation, "pressure": pressure},
    }
    with one_line_errors(debug=debug):
        from forcefield.workflows.phonons_setup import PhononOptions
        from forcefield.workflows.qha import QuasiHarmonicOptions

        QuasiHarmonicOptions(**scan, phonons=PhononOptions(**vibrations))
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.qha import quasi_harmonic

        options: dict[str, Any] = {
            **scan,
            **vibrations,
            "store": open_store(folder),
            "callback": _show(frame, progress),
        }
        result = quasi_harmonic(frame.atoms, engine, **options)
        if plots:
            from forcefield.workflows.plots_phonons import plot_quasi_harmonic

            plot_quasi_harmonic(result, folder.path / "quasi_harmonic.png")
        return result.to_dict()

    command = Command("qha", QHA_COLUMNS, _qha_row, compute, {**scan, **vibrations, "plots": plots})
    _run(command, files, index, output_dir, resume, name, as_json, debug)


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


def gruneisen(
    files: Files,
    volume_change: Annotated[float, typer.Option(help="Relative change of the volume, both ways.")] = 0.01,
    supercell_length: SupercellLength = 15.0,
    supercell: Supercell = None,
    method: Method = "displacements",
    displacement: Displacement = 0.01,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-4,
    steps: Steps = 1000,
    symmetry: Symmetry = True,
    mesh_length: MeshLength = 60.0,
    t_max: MaxTemperature = 1000.0,
    t_step: TemperatureStep = 10.0,
    tolerance: Tolerance = 0.05,
    output_dir: OutputDir = None,
    resume: Resume = False,
    plots: Plots = True,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute Grüneisen parameters: how phonon frequencies answer to the volume.

    Each structure gets a folder with result.json and gruneisen.png. The status is 0 where no structure has imaginary
    modes, 1 where one has or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces
    already computed.
    """
    vibrations: dict[str, Any] = {
        **{"supercell_length": supercell_length, "supercell": supercell, "method": method, "steps": steps},
        **{"displacement": displacement, "relaxation": relaxation, "fmax": fmax, "symmetry": symmetry},
        **{"mesh_length": mesh_length, "t_max": t_max, "t_step": t_step, "tolerance": tolerance},
    }
    with one_line_errors(debug=debug):
        from forcefield.workflows.phonons_setup import PhononOptions

        PhononOptions(**vibrations)
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.gruneisen import gruneisen_parameters

        options: dict[str, Any] = {**vibrations, "store": open_store(folder), "callback": _show(frame, progress)}
        result = gruneisen_parameters(frame.atoms, engine, volume_change=volume_change, **options)
        if plots:
            from forcefield.workflows.plots_phonons import plot_gruneisen

            plot_gruneisen(result, folder.path / "gruneisen.png")
        return result.to_dict()

    options = {**vibrations, "volume_change": volume_change, "plots": plots}
    command = Command("gruneisen", ("mean at 300 K", "mean at highest T"), _gruneisen_row, compute, options)
    _run(command, files, index, output_dir, resume, name, as_json, debug)


def _gruneisen_row(record: Mapping[str, Any]) -> list[str]:
    row = _nearest(record["temperatures"], 300.0)
    return [format_number(None if row is None else record["mean"][row], 3), format_number(record["mean"][-1], 3)]


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
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-4,
    steps: Steps = 1000,
    symmetry: Symmetry = True,
    tolerance: Tolerance = 0.05,
    output_dir: OutputDir = None,
    resume: Resume = False,
    plots: Plots = True,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute the lattice thermal conductivity (phono3py, relaxation-time approximation).

    Each structure gets a folder with result.json and conductivity.png. The status is 0 where no structure has imaginary
    modes, 1 where one has or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces
    already computed.
    """
    with one_line_errors(debug=debug):
        from forcefield.workflows.conductivity import ConductivityOptions

        settings: dict[str, Any] = {
            **{"supercell_length": supercell_length, "supercell": supercell, "harmonic_length": harmonic_length},
            **{"cutoff": cutoff, "mesh_length": mesh_length, "t_min": t_min, "t_max": t_max, "t_step": t_step},
            **{"displacement": displacement, "relaxation": relaxation, "fmax": fmax, "steps": steps},
            **{"symmetry": symmetry, "tolerance": tolerance},
        }
        options = ConductivityOptions(**settings).to_dict()
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.conductivity import thermal_conductivity

        extra: dict[str, Any] = {"store": open_store(folder), "callback": _show(frame, progress)}
        result = thermal_conductivity(frame.atoms, engine, **options, **extra)
        if plots:
            from forcefield.workflows.plots_phonons import plot_conductivity

            plot_conductivity(result, folder.path / "conductivity.png")
        return result.to_dict()

    columns = ("supercells", "300 K: W/m/K")
    command = Command("conductivity", columns, _conductivity_row, compute, {**options, "plots": plots})
    _run(command, files, index, output_dir, resume, name, as_json, debug)


def _conductivity_row(record: Mapping[str, Any]) -> list[str]:
    row = _nearest(record["temperatures"], 300.0)
    mean = None if row is None else sum(record["conductivity"][row][:3]) / 3.0
    return [str(record["n_displacements"]), format_number(mean, 2)]


def _nearest(temperatures: list[float], wanted: float) -> int | None:
    """Find the row of a temperature, or None where none is within a kelvin."""
    row = min(range(len(temperatures)), key=lambda number: abs(temperatures[number] - wanted))
    return row if abs(temperatures[row] - wanted) < 1.0 else None


def _show(frame: Frame, progress: ProgressLine) -> Callable[[str], None]:
    return lambda text: progress.detail(f"{frame.label}  {text}")


def _run(
    command: Command,
    files: list[Path],
    index: str,
    output_dir: Path | None,
    resume: bool,
    name: str,
    as_json: bool,
    debug: bool,
) -> None:
    run_over_structures(
        command,
        files,
        index=index,
        output_dir=output_dir,
        resume=resume,
        calculator_name=name,
        as_json=as_json,
        debug=debug,
    )
