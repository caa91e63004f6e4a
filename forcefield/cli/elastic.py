"""`forcefield elastic`: elastic tensor, moduli and mechanical stability of every crystal of the files."""

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
from forcefield.cli.phonons import MaxForce, Relaxation, Steps, Symmetry
from forcefield.cli.report import ProgressLine, format_number, one_line_errors

if TYPE_CHECKING:
    from forcefield.cli.io import Frame

MODULI = {"bulk": "K\nGPa", "shear": "G\nGPa", "young": "E\nGPa", "poisson": "Poisson", "anisotropy": "anisotropy"}
COLUMNS = ("atoms", *MODULI.values(), "lowest\nGPa", "residual\n%")


def elastic(
    files: Files,
    strain: Annotated[
        list[float] | None, typer.Option(help="Size of the strains; repeatable.  [default: 0.0025 and 0.005]")
    ] = None,
    method: Annotated[str, typer.Option(help="stress, energy, or auto (stress where there is one).")] = "auto",
    relaxation: Relaxation = "cell",
    clamped: Annotated[bool, typer.Option("--clamped", help="Do not relax the atoms in the strained cells.")] = False,
    fmax: MaxForce = 1.0e-4,
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
    """Compute the elastic tensor of crystals, their moduli and whether they are mechanically stable.

    Each structure gets a folder with result.json and young_modulus.png. A model runs in float64 unless --dtype says
    otherwise. The status is 0 where all structures are stable, 1 where one is not or failed, 2 for wrong usage and 130
    after Ctrl-C; --resume then goes on with the strained cells already relaxed.
    """
    with one_line_errors(debug=debug):
        from forcefield.workflows.elastic import ElasticOptions

        settings: dict[str, Any] = {
            **{"strains": tuple(strain or (0.0025, 0.005)), "method": method, "relaxation": relaxation},
            **{"internal": not clamped, "fmax": fmax, "steps": steps, "symmetry": symmetry},
        }
        options = ElasticOptions(**settings).to_dict()
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.elastic import elastic_constants

        def show(done: int, total: int) -> None:
            progress.detail(f"{frame.label}  strain {done + 1}/{total}")

        result = elastic_constants(frame.atoms, engine, store=open_store(folder), callback=show, **options)
        if plots and result.stable:
            from forcefield.workflows.plots_elastic import plot_young_modulus

            plot_young_modulus(result, folder.path / "young_modulus.png")
        return result.to_dict()

    command = Command("elastic", COLUMNS, _row, compute, {**options, "plots": plots})
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
    averages = record["moduli"] or {}
    digits = {"poisson": 3, "anisotropy": 3}
    return [
        str(record["n_atoms"]),
        *[format_number(averages.get(name), digits.get(name, 1)) for name in MODULI],
        format_number(record["eigenvalues"][0], 1),
        format_number(100.0 * record["residual"], 2),
    ]
