"""`forcefield import`: weights published with another package, converted to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forcefield.cli.options import Debug
from forcefield.cli.report import one_line_errors


def import_weights(
    source: Annotated[str, typer.Argument(help="Package that the weights come from: nequix or sevennet.")],
    file: Annotated[Path, typer.Argument(help="Weight file as published: .nqx or .npz of Nequix, .pth of SevenNet.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Model folder to write.")],
    labels: Annotated[
        str | None, typer.Option(help="What the weights were trained on, for the card.  [default: what is known]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Convert published weights of another package to a model folder.

    The folder is a model like any other: give it to --model, to GNNCalculator, to LAMMPS or to finetune.
    """
    with one_line_errors(debug=debug):
        from forcefield.importers import import_model
        from forcefield.models import read_config

        folder = import_model(source, file, output, labels=labels)
        config = read_config(folder)
    typer.echo(
        f"{folder}: network {config['network']}, {config['parameters']:,} parameters, {len(config['elements'])} "
        f"elements, cutoff {config['cutoff']:g} Å; licence of the weights: {config['licence']}"
    )
    for limit in config["limits"]:
        typer.echo(f"note: {limit}")
