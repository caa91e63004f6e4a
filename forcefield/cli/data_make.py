"""`forcefield data sample` and `label`: structures to label, made from others, and labels from any calculator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.options import CalculatorName, Debug, Device, Model, Precision
from forcefield.cli.report import INTERRUPTED, make_console, one_line_errors, print_summary, print_table

if TYPE_CHECKING:
    from forcefield.data.label import Tally
    from forcefield.data.readers.entry import Entry
    from forcefield.data.sample_file import SampleFile
    from forcefield.data.sampling import SamplePlan

SourceFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Structures in any file that `forcefield data build` reads, or a store folder."
    ),
]
LABELS = ("energy", "stress", "virial", "forces", "atomic_energies", "magmoms")
SHOWN = 20


def sample(
    files: SourceFiles,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to make; must not exist.")],
    seed: Annotated[int, typer.Option(help="Another seed, other frames.")] = 0,
    rattled: Annotated[int, typer.Option(help="Frames of each structure with displaced atoms.")] = 0,
    strained: Annotated[int, typer.Option(help="Frames with a strained cell (all six components).")] = 0,
    volume: Annotated[int, typer.Option(help="Compressed and expanded frames.")] = 0,
    supercell: Annotated[int, typer.Option(help="Rattled supercells.")] = 0,
    vacancy: Annotated[int, typer.Option(help="Cells with one or two atoms missing.")] = 0,
    slab: Annotated[int, typer.Option(help="Slabs along random low Miller indices.")] = 0,
    substituted: Annotated[int, typer.Option(help="Frames with other elements, similar ones or any.")] = 0,
    hot: Annotated[
        int,
        typer.Option(help="Snapshots of molecular dynamics at 500, 1000, 2000 and 4000 K in turn, four of each run."),
    ] = 0,
    relaxation: Annotated[
        int, typer.Option(help="Steps of relaxations of distorted structures, up to four of each.")
    ] = 0,
    max_atoms: Annotated[int, typer.Option(help="Most atoms of supercells, vacancies, slabs and hot frames.")] = 64,
    shortest: Annotated[
        float, typer.Option(help="Shortest distance accepted, in units of the sum of covalent radii.")
    ] = 0.6,
    elements: Annotated[
        str | None,
        typer.Option(
            metavar="SYMBOLS", help="Elements that substitution may bring in: Li,Na,K.  [default: 84 elements]"
        ),
    ] = None,
    calculator: CalculatorName = None,
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    debug: Debug = False,
) -> None:
    """Make structures to label from others: rattled, strained, slabs, other elements and more, all seeded.

    A frame depends on its structure, kind, number and the seed, not on the order of the files. Each carries its kind,
    material and parent. A model or calculator moves the atoms of hot and relaxation frames; it labels nothing. What
    cannot be made of a structure (a slab of a molecule) is left out and reported; the status is 1 where nothing could
    be made, or a structure could not be read. Killed at any moment, the same command goes on.
    """
    with one_line_errors(debug=debug):
        from forcefield.data.sampling import ELEMENTS, SamplePlan

        plan = SamplePlan(
            rattled=rattled,
            strained=strained,
            volume=volume,
            supercell=supercell,
            vacancy=vacancy,
            slab=slab,
            substituted=substituted,
            hot=hot,
            relaxation=relaxation,
            max_atoms=max_atoms,
            shortest=shortest,
            elements=ELEMENTS if elements is None else _atomic_numbers(elements),
        )
        engine, name = _mover(plan, calculator, model, device, dtype)
        try:
            file = _write_samples(files, output, plan, seed, engine, name)
        except KeyboardInterrupt:
            typer.echo(f"stopped; the same command goes on with {output}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    _print_samples(file)
    if file.faults or not file.counts:
        raise typer.Exit(1)


def _print_samples(file: SampleFile) -> None:
    """How many frames of each kind there are, and what could not be made."""
    from forcefield.data.sampling import KINDS

    rows = [[kind, str(file.counts[kind])] for kind in KINDS if file.counts[kind]]
    print_table(["kind", "frames"], rows, numeric=["frames"])
    for (kind, reason), number in sorted(file.refused.items()):
        typer.echo(f"no {kind} of {number} structure{'s' if number > 1 else ''}: {reason}")
    earlier = f", {file.taken_up} of which were done before" if file.taken_up else ""
    print_summary(
        f"{file.counts.total()} frames of {file.structures} structures{earlier} in {file.output}", file.faults[:SHOWN]
    )


def _mover(
    plan: SamplePlan, calculator: str | None, model: str | None, device: str | None, dtype: str | None
) -> tuple[Any, str]:
    """What moves the atoms of a plan that needs it, and its name."""
    if not (plan.hot or plan.relaxation):
        return None, ""
    if calculator is None:
        return model_calculator(model, device, dtype), _model_name(model, dtype)
    from forcefield.cli.io import load_calculator

    return load_calculator(calculator, None, None, None), calculator


def _atomic_numbers(symbols: str) -> tuple[int, ...]:
    from ase.data import atomic_numbers

    names = [name for name in symbols.replace(",", " ").split() if name]
    unknown = [name for name in names if name not in atomic_numbers]
    if unknown or not names:
        raise ValueError(f"--elements is {symbols!r}, but must be symbols such as Li,Na,K (unknown: {unknown}).")
    return tuple(atomic_numbers[name] for name in names)


def _write_samples(
    files: Sequence[Path], output: Path, plan: SamplePlan, seed: int, calculator: Any, calculator_name: str
) -> SampleFile:
    """Sample every structure; the file appears when all are done."""
    from dataclasses import asdict

    from forcefield.data.frames import atoms_from_frame
    from forcefield.data.sample_file import SampleFile
    from forcefield.data.sampling import sample as sample_structure

    settings = {**asdict(plan), "seed": seed, "calculator": calculator_name}
    with SampleFile(output, settings) as file, work_bar("structures", None) as advance:
        for number, (place, frame, fault) in enumerate(structures(files)):
            if not file.has(number, place):
                if frame is None:
                    file.fail(place, fault)
                    continue
                atoms = atoms_from_frame(frame)
                atoms.info["source"] = place
                refused: list[tuple[str, str]] = []
                tell = partial(_keep, refused)
                made = list(sample_structure(atoms, plan, seed=seed, calculator=calculator, on_refused=tell))
                file.add(place, made, refused)
            advance(1, f"{file.counts.total()} frames")
    return file


def _keep(refused: list[tuple[str, str]], kind: str, reason: str) -> None:
    refused.append((kind, reason))


def structures(files: Sequence[Path]) -> Iterator[Entry]:
    """Frames of files without their labels, whatever these are called, with file and place."""
    from forcefield.data.labels import ReadOptions
    from forcefield.data.readers import read_entries_of

    without_labels = ReadOptions(keys=dict.fromkeys(LABELS, "(not wanted)"))
    for path in files:
        for entry in read_entries_of(path, options=without_labels):
            yield entry._replace(place=f"{path} {entry.place}")


def label(
    files: SourceFiles,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to make or to go on with.")],
    calculator: CalculatorName = None,
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    workers: Annotated[int, typer.Option(help="Processes, each with one thread.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with OUTPUT where it exists, or refuse to.")
    ] = True,
    debug: Debug = False,
) -> None:
    """Compute energies, forces, stresses and atomic energies of structures with a model or any ASE calculator.

    Killed at any moment, the same command goes on where it was. Frames that fail are recorded in
    OUTPUT.failures.jsonl with place and reason, and tried again by the same command. The status is 1 where frames
    failed, 2 after an error and 130 after Ctrl-C, which keeps what is done.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import load_calculator
        from forcefield.data.label import label_frames

        load_calculator(calculator, model, device, dtype)  # an error in a name shows before any work
        factory = (
            partial(model_calculator, model, device, dtype)
            if calculator is None
            else partial(load_calculator, calculator, None, None, None)
        )
        total = sum(1 for _ in structures(files))
        name = calculator or _model_name(model, dtype)
        with work_bar("frames", total) as advance:
            told = 0

            def progress(tally: Tally) -> None:
                nonlocal told
                failed = f"{len(tally.failures)} failed" if tally.failures else ""
                advance(tally.done - told, failed)
                told = tally.done

            try:
                tally = label_frames(
                    structures(files),
                    output,
                    factory=factory,
                    labelled_by=name,
                    workers=workers,
                    resume=resume,
                    progress=progress,
                )
            except KeyboardInterrupt:
                typer.echo(f"stopped; the same command goes on with {output}", err=True)
                raise typer.Exit(INTERRUPTED) from None
    failures = [reason for _, reason in tally.failures[:SHOWN]]
    earlier = f", {tally.skipped} were there already" if tally.skipped else ""
    print_summary(f"{tally.written} of {total} frames labelled{earlier}; they are in {output}", failures)
    if tally.failures:
        if len(tally.failures) > SHOWN:
            typer.echo(f"... and {len(tally.failures) - SHOWN} more in {output}.failures.jsonl")
        raise typer.Exit(1)


def model_calculator(model: str | None, device: str | None, dtype: str | None) -> Any:
    """A calculator whose results do not depend on what it computed before, to the last digit: no Verlet list."""
    from forcefield.calculator import GNNCalculator

    given = {name: value for name, value in (("model", model), ("device", device), ("dtype", dtype)) if value}
    return GNNCalculator(**given, skin=0.0, check_overlaps=False)  # type: ignore[arg-type]


def _model_name(model: str | None, dtype: str | None) -> str:
    from forcefield.models import model_folder

    return f"forcefield {model_folder(model or 'default').resolve().name} {dtype or 'float32'}"


@contextmanager
def work_bar(description: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar with the time left, in a terminal; yields what to tell about steps done and a detail to show."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(description, total=total, detail="")
        yield lambda steps, detail: bar.update(task, advance=steps, detail=detail)
