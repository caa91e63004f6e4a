"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Structures in any format that ASE reads: CIF, POSCAR, extxyz, xyz, traj, PDB, ..."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER", help="Installed model or model folder; see `forcefield models`.  [default: default]"
    ),
]
Device = Annotated[str | None, typer.Option(help="Where the model runs: auto, cpu, cuda or mps.  [default: auto]")]
Precision = Annotated[
    str | None, typer.Option("--dtype", help="Precision of the network: float32 or float64.  [default: float32]")
]
CalculatorName = Annotated[
    str | None,
    typer.Option(
        "--calculator",
        metavar="MODULE:CLASS",
        help="Use another ASE calculator instead of a model, such as ase.calculators.emt:EMT.",
    ),
]
Index = Annotated[
    str, typer.Option(help="Frames to take from each file, as ASE writes them: 0, -1, 2:5 or : for all of them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error instead of one line.")]
