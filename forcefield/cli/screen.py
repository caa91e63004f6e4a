"""`forcefield screen`: one task for very many structures, on several processes, into one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, FolderOptions
from forcefield.cli.report import INTERRUPTED, ProgressLine, one_line_errors, print_json, print_summary

if TYPE_CHECKING:
    from forcefield.screening import ScreeningProgress, ScreeningResult

STREAMED = {".extxyz": "extxyz", ".xyz": "extxyz", ".traj": "traj"}  # formats that ASE reads frame by frame
SHOWN_FAILURES = 20
STRUCTURES = "structures.extxyz"


@expand_groups
def screen(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|FILE...", help="Folders, of which every file is taken, and files in any format that ASE reads."
        ),
    ],
    task: Annotated[
        str, typer.Option(help="predict, relax, eos, elastic, or a function of your own as MODULE:FUNCTION.")
    ] = "relax",
    entries: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the task, such as fmax=0.01. Repeat for more."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume, do structures again that failed.")
    ] = False,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Do one task with very many structures, and write one table of the results.

    The folder gets results.csv (and results.parquet with pyarrow), screening.jsonl with every value, and the structures
    that the task made as structures.extxyz. Structures are read as room comes up, so that memory does not grow with
    their number. A structure that fails, or that kills its process, is listed with the reason and stops no other.

    The status is 0 where all structures are as they should be, 1 where one is not or failed, 2 for wrong usage and 130
    after Ctrl-C; --resume then goes on with what is missing. Without it everything is done anew, and the records of
    before are kept as screening.jsonl.before.
    """
    from forcefield.screening import screen as run_screening

    output = folder.output_dir or Path("screening")
    with one_line_errors(debug=folder.debug):
        function = _find(task)
        options = _options(entries or [])
        factory, name = _calculator(function, choice)
        files = list_files(paths, besides=output)
        _make_ready(output, folder)
    with ProgressLine(len(files)) as progress, one_line_errors(debug=folder.debug):
        result = run_screening(
            read_structures(files, folder.index, expect=progress.expect),
            function,
            None if folder.workers == 1 else folder.workers,
            options=options,
            calculator=factory,
            output=output,
            retry_failed=retry_failed,
            calculator_name=name,
            callback=_teller(progress),
        )
        _write_structures(result)
    _report(result, as_json=folder.as_json)
    if result.interrupted:
        raise typer.Exit(INTERRUPTED)
    if result.n_ok < result.n_structures:
        raise typer.Exit(1)


def _find(task: str) -> Any:
    """The task by its name, or the function behind MODULE:FUNCTION."""
    from forcefield.cli.io import find_factory
    from forcefield.screening.tasks import find_task

    if ":" in task:
        try:
            return find_factory(task)
        except ValueError as error:
            raise ValueError(str(error).replace("--calculator", "--task")) from error
    find_task(task)
    return task


def _calculator(task: Any, choice: CalculatorChoice) -> tuple[Callable[[], Any], str]:
    """What makes the calculator in each worker, made once here to see that it can be, and its name for the journal."""
    from forcefield.screening.tasks import find_task

    if isinstance(task, str):
        choice = choice.with_precision(find_task(task).precision)
    choice.load()
    return choice.load, choice.name


def _make_ready(output: Path, folder: FolderOptions) -> None:
    """Prepare the output folder; records of an earlier screening that is not to go on are put aside."""
    from forcefield.cli.io import parse_index, prepare_folder
    from forcefield.screening.run import JOURNAL

    parse_index(folder.index)
    prepare_folder(output)
    journal = output / JOURNAL
    if journal.exists() and not folder.resume:
        aside = journal.replace(journal.with_name(f"{JOURNAL}.before"))
        note = f"note: {aside} keeps the records of an earlier screening; with --resume it would have gone on"
        typer.echo(note, err=True)


def _options(entries: Sequence[str]) -> dict[str, Any]:
    """Understand KEY=VALUE: values are JSON where they can be (0.01, true, null, [1, 2]), else texts.

    Raises:
        ValueError: for an entry without a key or a value.
    """
    import json

    options: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not (key and equals and text):
            raise ValueError(f"--set is {entry!r}, but must be KEY=VALUE, such as fmax=0.01.")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        options[key] = tuple(value) if isinstance(value, list) else value
    return options


def list_files(paths: Sequence[Path], *, besides: Path) -> list[Path]:
    """Every file of the folders, below them too, in the order of their names; hidden ones are left out.

    Args:
        paths: folders and files.
        besides: a folder that is left out, since the results go there.

    Raises:
        ValueError: if a folder holds no file.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            files[path] = None
            continue
        before = len(files)
        for root, folders, names in os.walk(path):
            folders[:] = sorted(
                f for f in folders if not f.startswith(".") and Path(root, f).resolve() != besides.resolve()
            )
            files.update({Path(root, name): None for name in sorted(names) if not name.startswith(".")})
        if len(files) == before:
            raise ValueError(f"{path} holds no files.")
    return list(files)


def read_structures(files: Sequence[Path], index: str, *, expect: Callable[[int], None]) -> Iterator[tuple[str, Any]]:
    """Read structures as they are asked for, as `forcefield.screen` takes them; of a large extxyz frame by frame.

    Args:
        files: in any format that ASE reads.
        index: frames to take from each, in ASE's notation.
        expect: told how many structures more than files there are.

    Yields:
        Name and structure, or name and error where a file cannot be read.
    """
    from forcefield.cli.io import read_frames

    for path in files:
        try:
            if path.suffix.lower() in STREAMED and index == ":" and path.is_file():
                yield from _stream(path, expect)
                continue
            frames = read_frames(path, index)
        except ValueError as error:
            yield str(path), error
            continue
        expect(len(frames) - 1)
        for frame in frames:
            yield frame.label, frame.atoms


def _stream(path: Path, expect: Callable[[int], None]) -> Iterator[tuple[str, Any]]:
    """Frames of a file one after the other; the names are those of `read_frames`.

    Raises:
        ValueError: in one line, where the file cannot be read.
    """
    from itertools import chain

    from ase.io import iread

    from forcefield.cli.io import Frame, describe_error

    frames = iread(str(path), index=":", format=STREAMED[path.suffix.lower()], do_not_split_by_at_sign=True)
    try:
        first = next(frames, None)
        second = next(frames, None)
        if first is None:
            raise ValueError("no structure in it.")
        if second is None:
            yield str(path), first
            return
        for number, atoms in enumerate(chain((first, second), frames)):
            expect(min(number, 1))
            yield Frame(atoms, path, number, 2).label, atoms
    except ValueError:
        raise
    except Exception as error:  # readers raise anything at all when a file is not what its name says
        raise ValueError(f"ASE cannot read it ({describe_error(error)}).") from error


def _teller(progress: ProgressLine) -> Callable[[ScreeningProgress], None]:
    def tell(state: ScreeningProgress) -> None:
        how = "done before, " if state.known else ""
        why = "" if state.error is None else f": {state.error}"
        also = f" ({state.note})" if isinstance(state.note, str) else ""
        for text in () if state.known else state.warnings:
            progress.note(f"{state.label}: warning: {text}")
        progress.done(f"{state.label}: {how}{state.verdict}{why}{also}")
        progress.detail(f"{state.running} at work")

    return tell


def _write_structures(result: ScreeningResult) -> None:
    """Write the structures that the task made, if any, one after the other."""
    from ase.io import write

    from forcefield.screening.table import replace_whole

    structures = result.structures()
    first = next(structures, None)
    if first is None:
        return
    with replace_whole(result.folder / STRUCTURES) as partial:
        write(partial, first, format="extxyz")
        with partial.open("a", encoding="utf-8") as stream:
            for atoms in structures:
                write(stream, atoms, format="extxyz")


def _report(result: ScreeningResult, *, as_json: bool) -> None:
    """Print counts and failures, or every row as JSON."""
    if as_json:
        print_json(list(result.rows()))
        return
    failures = [f"{label}: {reason}" for label, reason in result.failures()]
    hidden = len(failures) - SHOWN_FAILURES
    shown = failures[:SHOWN_FAILURES] + ([f"{hidden} more, see {result.table}"] if hidden > 0 else [])
    known = f", {result.n_known} of them before" if result.n_known else ""
    print_summary(
        f"{result.n_done} of {result.n_structures} done{known}; {result.n_ok} without objection, {result.n_failed} "
        f"failed; the table is {result.parquet or result.table}",
        shown,
    )
    for note in result.notes:
        typer.echo(note)
