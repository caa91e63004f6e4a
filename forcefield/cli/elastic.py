"""`forcefield elastic`: elastic tensor, moduli and mechanical stability of every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, Plots, RelaxingCrystal
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

MODULI = {"bulk": "K\nGPa", "shear": "G\nGPa", "young": "E\nGPa", "poisson": "Poisson", "anisotropy": "anisotropy"}
COLUMNS = ("atoms", *MODULI.values(), "lowest\nGPa", "residual\n%")


@expand_groups
def elastic(
    files: Files,
    strain: Annotated[
        list[float] | None, typer.Option(help="Size of the strains; repeatable.  [default: 0.0025 and 0.005]")
    ] = None,
    method: Annotated[str, typer.Option(help="stress, energy, or auto (stress where there is one).")] = "auto",
    clamped: Annotated[bool, typer.Option("--clamped", help="Do not relax the atoms in the strained cells.")] = False,
    plots: Plots = True,
    *,
    relaxing: RelaxingCrystal,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute the elastic tensor of crystals, their moduli and whether they are mechanically stable.

    Each structure gets a folder with result.json and young_modulus.png. A model runs in float64 unless --dtype says
    otherwise. The status is 0 where all structures are stable, 1 where one is not or failed, 2 for wrong usage and 130
    after Ctrl-C; --resume then goes on with the strained cells already relaxed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.elastic import ElasticOptions

        options = ElasticOptions(
            strains=tuple(strain or (0.0025, 0.005)),
            method=method,
            internal=not clamped,
            **asdict(relaxing),
        ).to_dict()
    command = Command("elastic", COLUMNS, _row, _compute, options, plots=plots, precision="float64")
    run_over_structures(command, files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.elastic import elastic_constants

    show = task.count("strain")
    result = elastic_constants(task.frame.atoms, task.engine, store=task.store, callback=show, **task.inputs)
    if task.plots and result.stable:
        from forcefield.workflows.plots_elastic import plot_young_modulus

        plot_young_modulus(result, task.folder.path / "young_modulus.png")
    return result.to_dict()


def _row(record: Mapping[str, Any]) -> list[str]:
    averages = record["moduli"] or {}
    digits = {"poisson": 3, "anisotropy": 3}
    return [
        str(record["n_atoms"]),
        *[format_number(averages.get(name), digits.get(name, 1)) for name in MODULI],
        format_number(record["eigenvalues"][0], 1),
        format_number(100.0 * record["residual"], 2),
    ]
