"""The steps of a recipe: the commands over structures, and a relaxation that hands its structures on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, CellAxes, Files, FolderOptions, MaxForce, Steps, Symmetry
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

RELAXED = "relaxed"  # folder of the structure handed on, named as the input
COLUMNS = ("atoms", "steps", "energy\neV/atom", "max force\neV/Å", "volume\n%")


@expand_groups
def relax(
    files: Files,
    cell: Annotated[bool | None, typer.Option("--cell/--no-cell", help="Relax the cell too.")] = None,
    cell_axes: CellAxes = "abc",
    fmax: MaxForce = 0.02,
    smax: Annotated[float, typer.Option(help="Largest stress component left, for a relaxed cell (GPa).")] = 0.05,
    steps: Steps = 500,
    optimizer: Annotated[str, typer.Option(help="One of ASE's.")] = "FIRE",
    pressure: Annotated[float, typer.Option(help="External pressure (GPa), with a relaxed cell.")] = 0.0,
    symmetry: Symmetry = False,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Relax each structure into its own folder."""
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows import RelaxOptions

        options = RelaxOptions(
            cell=bool(cell),
            cell_axes=cell_axes,
            fmax=fmax,
            smax=smax,
            steps=steps,
            optimizer=optimizer,
            pressure=pressure,
            symmetry=symmetry,
        ).to_dict()
    options["cell"] = cell
    run_over_structures(Command("relax", COLUMNS, _row, _compute, options), files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from ase.io import write

    from forcefield.workflows import relax as relax_structure
    from forcefield.workflows.relax_result import CONVERGED, INTERRUPTED

    result = relax_structure(
        task.frame.atoms, task.engine, callback=lambda step: task.show(f"step {step.step}"), **task.inputs
    )
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt
    place = task.folder.path / RELAXED
    place.mkdir(exist_ok=True)
    write(place / f"{task.folder.path.name}.extxyz", result.atoms, format="extxyz")
    warnings = [] if result.notice is None else [result.notice]
    return {**result.to_dict(), "ok": result.reason == CONVERGED, "verdict": result.verdict, "warnings": warnings}


def _row(record: Mapping[str, Any]) -> list[str]:
    change = record["volume_change"]
    return [
        str(record["n_atoms"]),
        str(record["steps"]),
        format_number(record["energy_per_atom"], 4),
        format_number(record["max_force"], 4),
        format_number(None if change is None else 100.0 * change, 2, sign=True),
    ]


STEPS = (
    "relax",
    "phonons",
    "elastic",
    "eos",
    "qha",
    "gruneisen",
    "conductivity",
    "md",
    "surfaces",
    "defects",
    "energetics",
    "adsorption",
)
"""Names of the steps."""


@cache
def step_app() -> typer.Typer:
    """The steps as an application of their own, whose arguments are a step's name and options."""
    from forcefield.cli.anharmonic import conductivity, gruneisen, qha
    from forcefield.cli.defects import defects
    from forcefield.cli.elastic import elastic
    from forcefield.cli.energetics import energetics
    from forcefield.cli.eos import eos
    from forcefield.cli.md import md
    from forcefield.cli.phonons import phonons
    from forcefield.cli.surfaces import adsorption, surfaces

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    commands = (
        relax,
        phonons,
        elastic,
        eos,
        qha,
        gruneisen,
        conductivity,
        md,
        surfaces,
        defects,
        energetics,
        adsorption,
    )
    for name, command in zip(STEPS, commands, strict=True):
        app.command(name)(command)
    return app
