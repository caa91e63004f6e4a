"""`forcefield data`: stores for training from files of any sort, and a report on what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.data_hessian import hessian
from forcefield.cli.data_make import label, sample
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import AsJson, Debug, ReadingOptions
from forcefield.cli.report import make_console, one_line_errors, print_json, print_table

app = typer.Typer(
    help="Make, check and label data for training.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(sample)
app.command()(label)
app.command()(hessian)
DataFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="Extended XYZ, ASE database or trajectory, MPtrj JSON, vasprun.xml, list of ComputedStructureEntry, "
        "compact .npz, anything else that ASE reads, or a store folder; .gz, .bz2 and .xz too.",
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        help="Format of all files, if it is not to be found out: extxyz, ase-db, traj, mptrj, entries, vasprun, "
        "compact, store, or one of ASE's names.",
    ),
]


@app.command()
@expand_groups
def build(
    files: DataFiles,
    output: Annotated[Path, typer.Option("--output", "-o", help="Store folder to make; must not exist.")],
    cutoff: Annotated[float, typer.Option(help="Radius of the stored neighbour lists (Å): the model's cutoff.")] = 5.0,
    validation: Annotated[
        float, typer.Option(help="Share of materials to set aside; makes OUTPUT/train and OUTPUT/validation.")
    ] = 0.0,
    split_by: Annotated[
        str, typer.Option(help="What a split keeps together: material (or formula if it has no name), formula, file.")
    ] = "material",
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave broken frames out instead of stopping.")] = False,
    format: Format = None,
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Write labelled frames into a store with neighbour lists, streamed: no file is read into memory as a whole."""
    with one_line_errors(debug=debug):
        from forcefield.data.build import SplitOptions, build_stores

        split = SplitOptions(validation=validation, seed=seed, split_by=split_by)
        with _progress(files) as (count_bytes, advance):
            report = build_stores(
                files,
                output,
                cutoff=cutoff,
                split=split,
                skip_bad=skip_bad,
                format=format,
                options=reading.read_options(count_bytes),
                progress=advance,
            )
    if as_json:
        print_json(report.as_dict())
        return
    total = sum(report.frames)
    rows = [
        [store, str(frames), str(atoms), f"{frames / total:.1%}"]
        for store, frames, atoms in zip(report.stores, report.frames, report.atoms, strict=True)
    ]
    print_table(["store", "frames", "atoms", "share"], rows, numeric=["frames", "atoms", "share"])
    found = [[label, key, unit, str(count)] for label, key, unit, count in report.keys]
    print_table(["label", "key", "unit", "frames"], found, numeric=["frames"])
    missing = [f"{label} of {total - n}" for label, n in report.labelled.items() if 0 < n < total]
    if missing:
        typer.echo(f"masked where missing: {', '.join(missing)} frames")
    if report.only_in_validation:
        typer.echo(
            f"warning: no training frame has {', '.join(report.only_in_validation)}, which validation frames have, and "
            "training will refuse them. Frames without a material's name stay together by their formula; take another "
            "--seed or share, or give the frames a `material` (or the files by --split-by file)",
            err=True,
        )
    _print_broken(report.skipped, report.faults)


@app.command()
@expand_groups
def inspect(
    files: DataFiles,
    format: Format = None,
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Show what is in files or stores: labels, ranges, duplicates, outliers, and whether the stress is right."""
    with one_line_errors(debug=debug):
        from forcefield.data.inspection import inspect_data

        with _progress(files) as (count_bytes, advance):
            report = inspect_data(files, format=format, options=reading.read_options(count_bytes), progress=advance)
    if as_json:
        print_json(report)
    else:
        _print_report(report)


@contextmanager
def _progress(files: Sequence[Path]) -> Iterator[tuple[Any, Any]]:
    """A bar over the bytes of the files in a terminal, with the number of frames; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[frames]} frames"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    sizes = [path.stat().st_size for path in files if path.is_file()]
    with bar:
        task = bar.add_task("reading", total=sum(sizes) or None, frames=0)

        def count_bytes(number: int) -> None:
            bar.advance(task, number)

        def advance(file: str, frames: int) -> None:
            if frames % 20 == 0:
                bar.update(task, description=Path(file).name, frames=frames)

        yield count_bytes, advance


def _print_broken(count: int, faults: Sequence[str], *, shown: int = 20) -> None:
    if not count:
        return
    typer.echo(f"{count} broken {'frame was' if count == 1 else 'frames were'} left out:")
    for fault in faults[:shown]:
        typer.echo(f"  {fault}")
    if count > shown:
        typer.echo(f"  ... and {count - shown} more")


def _print_report(report: dict[str, Any]) -> None:
    materials = report["materials"]
    kinds = ", ".join(f"{name or 'unnamed'} {count}" for name, count in list(report["kinds"].items())[:12])
    elements = ", ".join(f"{symbol} {count}" for symbol, count in report["elements"].items())
    doubles = report["duplicates"]
    print_table(
        ["data", ""],
        [
            ["frames", str(report["frames"])],
            ["atoms", str(report["atoms"])],
            [f"elements ({len(report['elements'])})", f"{elements} (frames with each)"],
            ["kinds", kinds],
            ["materials", f"{materials['named']} named; {materials['frames_without_name']} frames without a name"],
            ["duplicates", f"{doubles['frames']}, of which {doubles['with_another_energy']} with another energy"],
            ["stress", report["stress_sign"]["message"]],
        ],
    )
    labels = []
    for name, entry in report["labels"].items():
        keys = "; ".join(f"{key['key']} ({key['unit']}) {key['frames']}" for key in entry["keys"])
        labels.append([name, str(entry["frames"]), str(entry["missing"]), keys or "-"])
    print_table(["label", "frames", "missing", "key (unit) frames"], labels, numeric=["frames", "missing"])
    names = ["minimum", "low", "median", "high", "maximum"]
    ranges = [
        [name, entry["unit"], *(f"{entry[column]:.5g}" for column in names)]
        for name, entry in report["ranges"].items()
        if entry is not None
    ]
    columns = ["property", "unit", "minimum", "1 %", "median", "99 %", "maximum"]
    print_table(columns, ranges, numeric=columns[2:])
    if report["outliers"]:
        rows = [
            [o["property"], o["frame"], f"{o['value']:.5g} {o['unit']}", f"{o['z']:+.1f}", str(o["frames_beyond"])]
            for o in report["outliers"]
        ]
        print_table(["outlier", "frame", "value", "robust z", "frames beyond"], rows, numeric=["robust z"])
    _print_broken(report["broken"]["frames"], report["broken"]["first"])
