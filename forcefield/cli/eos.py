"""`forcefield eos`: equation of state of every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping
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
from forcefield.cli.phonons import Relaxation, Steps, Symmetry
from forcefield.cli.report import ProgressLine, format_number, one_line_errors

if TYPE_CHECKING:
    from forcefield.cli.io import Frame

COLUMNS = ("atoms", "volume\nÅ³/atom", "energy\neV/atom", "bulk modulus\nGPa", "derivative", "residual\nmeV/atom")


def eos(
    files: Files,
    volume_range: Annotated[float, typer.Option(help="Largest relative change of the volume, both ways.")] = 0.06,
    n_volumes: Annotated[int, typer.Option(help="How many volumes.")] = 9,
    shape: Annotated[str, typer.Option(help="Shape of the cell at each volume: fixed or relaxed.")] = "fixed",
    equation: Annotated[str, typer.Option(help="birch-murnaghan or vinet.")] = "birch-murnaghan",
    relaxation: Relaxation = "cell",
    fmax: Annotated[float, typer.Option(help="Largest force the relaxations accept (eV/Å).")] = 1.0e-3,
    steps: Steps = 1000,
    symmetry: Symmetry = True,
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
    """Compute energy against volume, and equilibrium volume and bulk modulus from it.

    Each structure gets a folder with result.json and equation_of_state.png. A model runs in float64 unless --dtype says
    otherwise. The status is 0 where a minimum was found for all structures, 1 where not or one failed, 2 for wrong
    usage and 130 after Ctrl-C; --resume then goes on with the volumes already relaxed.
    """
    with one_line_errors(debug=debug):
        from forcefield.workflows.equation_of_state import EquationOptions

        settings: dict[str, Any] = {
            **{"volume_range": volume_range, "n_volumes": n_volumes, "shape": shape, "equation": equation},
            **{"relaxation": relaxation, "fmax": fmax, "steps": steps, "symmetry": symmetry},
        }
        options = EquationOptions(**settings).to_dict()
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.equation_of_state import equation_of_state

        def show(done: int, total: int) -> None:
            progress.detail(f"{frame.label}  volume {done + 1}/{total}")

        result = equation_of_state(frame.atoms, engine, store=open_store(folder), callback=show, **options)
        if plots:
            from forcefield.workflows.plots_elastic import plot_equation_of_state

            plot_equation_of_state(result, folder.path / "equation_of_state.png")
        return result.to_dict()

    command = Command("eos", COLUMNS, _row, compute, {**options, "plots": plots})
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


def _row(record: Mapping[str, Any]) -> list[str]:
    return [
        str(record["n_atoms"]),
        format_number(record["equilibrium_volume"], 3),
        format_number(record["equilibrium_energy"], 4),
        format_number(record["bulk_modulus"], 1),
        format_number(record["bulk_modulus_derivative"], 2),
        format_number(1000.0 * record["residual"], 3),
    ]
