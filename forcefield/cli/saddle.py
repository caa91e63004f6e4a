"""`forcefield saddle`: a saddle point near every structure of the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.folder import reopen_shorter_runs
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

if TYPE_CHECKING:
    from forcefield.workflows.barrier_saddle import SaddleStep

COLUMNS = ("barrier\neV", "curvature\neV/Å²", "steps", "max force\neV/Å")
SADDLE = "saddle.extxyz"
DIMER = "dimer.json"


@expand_groups
def saddle(
    files: Files,
    moving: Annotated[
        list[int] | None, typer.Option(help="Index of an atom that the first kick moves; may be given again.")
    ] = None,
    fmax: Annotated[float, typer.Option(help="Largest force accepted (eV/Å).")] = 0.02,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 500,
    kick: Annotated[float, typer.Option(help="Length of the first kick (Å).")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the first kick.")] = 0,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Climb from each structure to a saddle point nearby, by the dimer method.

    Each structure gets a folder with saddle.extxyz, result.json and, at every step, dimer.json, from which --resume
    goes on (with more --steps, if need be). A model runs in float64 unless --dtype says otherwise. The status is 0
    where all saddles were found, 1 where one was not, 2 for wrong usage, 130 after Ctrl-C.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.barrier_saddle import SaddleOptions

        options = SaddleOptions(fmax=fmax, steps=steps, kick=kick, seed=seed).to_dict()
        identity, inputs = {**options, "moving": moving}, {**options, "moving": moving or None}
        if folder.resume:
            root = folder.output_dir or Path("saddle")
            reopen_shorter_runs(root, "saddle", identity, lambda record: not record["ok"])
    command = Command("saddle", COLUMNS, _row, _compute, identity, inputs, precision="float64")
    run_over_structures(command, files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from ase.io import write

    from forcefield.workflows.barrier_checkpoint import SearchCheckpoint
    from forcefield.workflows.barrier_saddle import saddle as find_saddle

    def show(step: SaddleStep) -> None:
        task.show(f"step {step.step}  {step.max_force:.3f} eV/Å  curvature {step.curvature:.3f} eV/Å²")

    folder = task.folder
    checkpoint = SearchCheckpoint(folder.path / DIMER, resume=folder.resumed)
    result = find_saddle(task.frame.atoms, task.engine, checkpoint=checkpoint, callback=show, **task.inputs)
    write(folder.path / SADDLE, result.atoms, format="extxyz")
    return result.to_dict()


def _row(record: Mapping[str, Any]) -> list[str]:
    numbers = [format_number(record["barrier"], 4), format_number(record["curvature"], 3)]
    return [*numbers, str(record["steps"]), format_number(record["max_force"], 4)]
