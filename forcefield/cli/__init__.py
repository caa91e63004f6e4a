"""The command line: one module a command, or a few that belong together.

Importing this package loads neither torch nor ASE, so that `forcefield --help` answers at once; every command imports
what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from forcefield.cli.analyse import analyse
from forcefield.cli.anharmonic import conductivity, gruneisen, qha
from forcefield.cli.confidence import confidence
from forcefield.cli.data import app as data
from forcefield.cli.defects import defects
from forcefield.cli.elastic import elastic
from forcefield.cli.energetics import energetics
from forcefield.cli.eos import eos
from forcefield.cli.evaluate import evaluate
from forcefield.cli.export import app as export
from forcefield.cli.finetune import finetune
from forcefield.cli.importing import import_weights
from forcefield.cli.md import md
from forcefield.cli.models import models
from forcefield.cli.neb import neb
from forcefield.cli.phonons import phonons
from forcefield.cli.predict import predict
from forcefield.cli.recipe import run
from forcefield.cli.relax import relax
from forcefield.cli.saddle import saddle
from forcefield.cli.screen import screen
from forcefield.cli.selftest import selftest
from forcefield.cli.surfaces import adsorption, surfaces
from forcefield.cli.train import train

app = typer.Typer(
    name="forcefield",
    help="Energies, forces, stresses and relaxations of crystals, slabs and molecules with a trained graph network.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command()(relax)
app.command()(phonons)
app.command()(elastic)
app.command()(eos)
app.command()(qha)
app.command()(gruneisen)
app.command()(conductivity)
app.command()(md)
app.command()(analyse)
app.command()(neb)
app.command()(saddle)
app.command()(surfaces)
app.command()(adsorption)
app.command()(defects)
app.command()(energetics)
app.command()(run)
app.command()(screen)
app.command()(evaluate)
app.command()(confidence)
app.command()(models)
app.command("import")(import_weights)
app.command()(selftest)
app.add_typer(data, name="data")
app.add_typer(export, name="export")
app.command()(train)
app.command()(finetune)


def _show_version(wanted: bool) -> None:
    if wanted:
        from forcefield import __version__

        typer.echo(f"forcefield {__version__}")
        raise typer.Exit


@app.callback()
def _application(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Energies, forces, stresses and relaxations of crystals, slabs and molecules with a trained graph network."""


def main() -> None:
    """Run the command line (the entry point `forcefield`)."""
    app()
