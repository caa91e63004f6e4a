"""`forcefield eos`: equation of state of every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, MaxForce, Plots, RelaxingCrystal
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

COLUMNS = ("atoms", "volume\nÅ³/atom", "energy\neV/atom", "bulk modulus\nGPa", "derivative", "residual\nmeV/atom")


@dataclass(frozen=True)
class RelaxingVolumes(RelaxingCrystal):
    """Energies need no forces as small as their derivatives do."""

    fmax: MaxForce = 1.0e-3


@expand_groups
def eos(
    files: Files,
    volume_range: Annotated[float, typer.Option(help="Largest relative change of the volume, both ways.")] = 0.06,
    n_volumes: Annotated[int, typer.Option(help="How many volumes.")] = 9,
    shape: Annotated[str, typer.Option(help="Shape of the cell at each volume: fixed or relaxed.")] = "fixed",
    equation: Annotated[str, typer.Option(help="birch-murnaghan or vinet.")] = "birch-murnaghan",
    plots: Plots = True,
    *,
    relaxing: RelaxingVolumes,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute energy against volume, and equilibrium volume and bulk modulus from it.

    Each structure gets a folder with result.json and equation_of_state.png. A model runs in float64 unless --dtype says
    otherwise. The status is 0 where a minimum was found for all structures, 1 where not or one failed, 2 for wrong
    usage and 130 after Ctrl-C; --resume then goes on with the volumes already relaxed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.equation_of_state import EquationOptions

        options = EquationOptions(
            volume_range=volume_range,
            n_volumes=n_volumes,
            shape=shape,
            equation=equation,
            **asdict(relaxing),
        ).to_dict()
    command = Command("eos", COLUMNS, _row, _compute, options, plots=plots, precision="float64")
    run_over_structures(command, files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.equation_of_state import equation_of_state

    show = task.count("volume")
    result = equation_of_state(task.frame.atoms, task.engine, store=task.store, callback=show, **task.inputs)
    if task.plots:
        from forcefield.workflows.plots_elastic import plot_equation_of_state

        plot_equation_of_state(result, task.folder.path / "equation_of_state.png")
    return result.to_dict()


def _row(record: Mapping[str, Any]) -> list[str]:
    return [
        str(record["n_atoms"]),
        format_number(record["equilibrium_volume"], 3),
        format_number(record["equilibrium_energy"], 4),
        format_number(record["bulk_modulus"], 1),
        format_number(record["bulk_modulus_derivative"], 2),
        format_number(1000.0 * record["residual"], 3),
    ]
