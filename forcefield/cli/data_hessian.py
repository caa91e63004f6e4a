"""`forcefield data hessian`: labels for a loss on second derivatives, from any ASE calculator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forcefield.cli.data_make import work_bar
from forcefield.cli.options import CalculatorName, Debug, Model
from forcefield.cli.report import fail, one_line_errors


def hessian(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Structures in any format of `forcefield data`, or stores.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npz", help="File to write.")],
    calculator: CalculatorName = None,
    model: Model = None,
    directions: Annotated[int, typer.Option(help="Random directions for each structure.")] = 2,
    strains: Annotated[
        int, typer.Option(help="Random strains of the cell besides, for calculators with stress (elastic constants).")
    ] = 0,
    displacement: Annotated[
        float, typer.Option(help="Step of the finite differences (Å, root mean square over components).")
    ] = 0.005,
    structures: Annotated[
        int | None, typer.Option(help="Take so many structures, evenly from all.  [default: all of them]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the directions.")] = 0,
    debug: Debug = False,
) -> None:
    """Label structures with products of the Hessian and random directions, two force calls each.

    The file goes into a training configuration as `hessian: {file: FILE.npz}`. Give structures at or near equilibrium;
    their labels are not needed.
    """
    with one_line_errors(debug=debug):
        if output.exists():
            fail(f"{output} exists; give another name or remove it.")
        if calculator is None and model is None:
            fail("neither --calculator nor --model says what labels the structures.")
        from forcefield.cli.io import load_calculator
        from forcefield.data.frames import atoms_from_frame
        from forcefield.data.readers import read_frames
        from forcefield.train.hessian_labels import label_hessians, write_hessian_labels

        precision = None if model is None else "float64"
        engine = load_calculator(calculator, model, None, precision)
        chosen = [atoms_from_frame(frame) for path in files for frame in read_frames(path)]
        if structures is not None and structures < len(chosen):
            chosen = [chosen[k * len(chosen) // structures] for k in range(structures)]
        with work_bar("Hessians", len(chosen)) as advance:
            labels = label_hessians(
                chosen,
                engine,
                directions=directions,
                strains=strains,
                displacement=displacement,
                seed=seed,
                progress=lambda _: advance(1, ""),
            )
        write_hessian_labels(output, labels)
    count, atoms = len(labels.n_atoms), int(labels.n_atoms.sum())
    typer.echo(f"{output}: {count} structures, {atoms} atoms, {directions + strains} directions each")
