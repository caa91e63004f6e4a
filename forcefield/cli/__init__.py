"""The command line: `forcefield predict`, `relax`, `models` and `selftest`.

Importing this package loads neither torch nor ASE, so that `forcefield --help` answers at once; every command imports
what it needs when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from forcefield.cli.models import models
from forcefield.cli.predict import predict
from forcefield.cli.relax import relax
from forcefield.cli.selftest import selftest

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
app.command()(models)
app.command()(selftest)


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
