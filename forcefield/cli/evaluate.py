"""`forcefield evaluate`: errors of a model or of any ASE calculator on labelled data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.data_make import SHOWN, work_bar
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Precision, ReadingOptions
from forcefield.cli.report import (
    INTERRUPTED,
    fail,
    format_number,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from forcefield.train.comparison import Comparison

UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "GPa", "atomic_energies": "eV"}
SHOWN_UNITS = {
    "energy": ("meV/atom", 1000.0),
    "forces": ("meV/Å", 1000.0),
    "stress": ("GPa", 1.0),
    "atomic_energies": ("meV", 1000.0),
}
TOTALS = ("unit", "values", "MAE", "RMSE", "median", "largest", "cosine", "slope")
CLASSES = ("frames", "atoms", "energy\nmeV/atom", "forces\nmeV/Å", "cosine", "slope", "stress\nGPa")
TITLES = {"by_kind": "kind", "by_size": "atoms in the frame", "by_force": "force eV/Å", "by_element": "element"}


@expand_groups
def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL DATA...",
            help="Installed model or model folder, and labelled files or store folders; with --calculator only DATA.",
        ),
    ],
    calculator: CalculatorName = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write all errors here as JSON.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for parity plots (PNG); made if needed.")] = None,
    shift_elements: Annotated[
        bool,
        typer.Option(
            "--shift-elements",
            help="Refit the element reference energies to the labels first: for another energy scale.",
        ),
    ] = False,
    index: Annotated[str, typer.Option(help="Frames of each file, as ASE writes them: 0, -1, 2:5, ::10.")] = ":",
    limit: Annotated[int | None, typer.Option(help="Only so many frames, drawn at random from all.")] = None,
    seed: Annotated[int, typer.Option(help="Another seed, other random frames.")] = 0,
    max_edges: Annotated[int, typer.Option(help="Size of a batch in neighbour pairs; memory grows with it.")] = 100_000,
    device: Device = None,
    dtype: Precision = None,
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    reading: ReadingOptions,
) -> None:
    """Compare a model, or any ASE calculator, with labelled data.

    Errors of energy per atom, force components, stress components and, where there are some, atomic energies; in total
    and by kind, size, force and element. Models of this package work in batches, other calculators frame by frame.
    The status is 1 where frames failed (they are reported and left out), 2 after an error and 130 after Ctrl-C.
    """
    if calculator is None and len(arguments) < 2:
        fail("give a MODEL and DATA, or DATA with --calculator module:Class.")
    paths = [Path(argument) for argument in (arguments[1:] if calculator is None else arguments)]
    faults: list[str] = []
    with one_line_errors(debug=debug):
        _check_outputs(output, plots)
        options = reading.read_options()
        engine = _engine(arguments[0], calculator, device, dtype)
        start = time.perf_counter()
        try:
            comparison = _compare(engine, paths, index, limit, seed, max_edges, options, faults)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        seconds = time.perf_counter() - start
        name, errors = calculator or arguments[0], _errors(comparison, shift_elements, plots)
        report = _assemble(name, paths, errors, faults, seconds, len(comparison.numbers))
        if output is not None:
            from forcefield.cli.io import write_json

            write_json(output, report)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if faults:
        raise typer.Exit(1)


def _assemble(
    name: str, paths: Sequence[Path], errors: dict[str, Any], faults: Sequence[str], seconds: float, n_atoms: int
) -> dict[str, Any]:
    """Errors with what was compared with what, and how fast."""
    return {
        "model": name,
        "data": [str(path) for path in paths],
        "units": UNITS,
        **errors,
        "failed": list(faults),
        "seconds": round(seconds, 2),
        "atoms_per_second": round(n_atoms / seconds, 1),
    }


def _check_outputs(output: Path | None, plots: Path | None) -> None:
    """Refuse what could not be written, before the work."""
    from importlib.util import find_spec

    from forcefield.cli.io import prepare_folder

    if plots is not None:
        if find_spec("matplotlib") is None:
            raise ValueError('--plots needs matplotlib: pip install "gnn-forcefield[plot]".')
        prepare_folder(plots)
    if output is not None:
        prepare_folder(output.parent)


def _engine(model: str, calculator: str | None, device: str | None, dtype: str | None) -> Any:
    """A potential on its device, or an ASE calculator."""
    if calculator is not None:
        from forcefield.cli.io import load_calculator

        return load_calculator(calculator, None, device, dtype)
    from forcefield.calculator import DTYPES, resolve_device
    from forcefield.models import load_model

    precision = dtype or "float32"
    if precision not in DTYPES:
        raise ValueError(f"--dtype is {precision!r}, but must be one of {', '.join(DTYPES)}.")
    return load_model(model, device=resolve_device(device or "auto"), dtype=DTYPES[precision]).potential


def _compare(
    engine: Any,
    paths: Sequence[Path],
    index: str,
    limit: int | None,
    seed: int,
    max_edges: int,
    options: Any,
    faults: list[str],
) -> Comparison:
    from forcefield.cli.io import parse_index
    from forcefield.train.comparison import compare
    from forcefield.train.evaluate import choose_frames, predict_data

    selection: Any = parse_index(index)
    chosen = choose_frames(paths, index=selection, limit=limit, seed=seed, options=options)
    known = None if any(numbers is None for numbers in chosen) else sum(len(n) for n in chosen if n is not None)
    with work_bar("frames", known) as advance:

        def predicted() -> Any:
            for path, numbers in zip(paths, chosen, strict=True):
                for one in predict_data(
                    engine, path, chosen=numbers, max_edges=max_edges, options=options, on_bad=faults.append
                ):
                    advance(1, path.name)
                    yield one

        try:
            return compare(predicted())
        except ValueError as error:
            raise ValueError(" ".join([str(error), *faults[:1]])) from error


def _errors(comparison: Comparison, shift: bool, plots: Path | None) -> dict[str, Any]:
    """Errors, shifts, doubts about the labels, and the paths of the plots."""
    from forcefield.train.breakdown import errors, shift_elements
    from forcefield.train.label_doubts import label_doubts

    found: dict[str, Any] = {"shifts": None, "doubts": label_doubts(comparison)}
    if shift:
        comparison, found["shifts"] = shift_elements(comparison)
    found |= errors(comparison)
    if plots is not None:
        from forcefield.train.plots import parity_plot

        names = [name for name in UNITS if name in found["all"]]
        found["plots"] = [
            str(parity_plot({name: comparison.pairs[name]}, plots / f"parity_{name}.png")) for name in names
        ]
        if names:
            pairs = {name: comparison.pairs[name] for name in names}
            found["plots"].append(str(parity_plot(pairs, plots / "parity.png")))
    return found


def _print_report(report: dict[str, Any]) -> None:
    rows = []
    for name, (unit, factor) in SHOWN_UNITS.items():
        values = report["all"].get(name)
        if values is not None:
            sizes = [format_number(factor * values[key], 2) for key in ("mae", "rmse", "median", "max")]
            extra = [format_number(values.get(key), 3) for key in ("cosine", "slope")]
            rows.append([name.replace("_", " "), unit, str(values["count"]), *sizes, *extra])
    if rows:
        print_table(["property", *TOTALS], rows, numeric=TOTALS)
    else:
        typer.echo("no label to compare with: the data have neither energy, forces nor stress")
    for key, title in TITLES.items():
        if len(report[key]) > 1:
            table = [[name, *_class_row(entry)] for name, entry in report[key].items()]
            print_table([f"MAE by {title}", *CLASSES], table, numeric=CLASSES)
    if report["shifts"] is not None:
        shifts = ", ".join(f"{symbol} {shift:+.3f}" for symbol, shift in report["shifts"].items())
        typer.echo(f"element energies were refitted to these labels before comparing (eV): {shifts}")
    for doubt in report["doubts"]:
        typer.echo(f"doubtful labels: {doubt}")
    print_summary(
        f"{report['all']['frames']} frames, {report['all']['atoms']} atoms in {report['seconds']:.1f} s "
        f"({report['atoms_per_second']:.0f} atoms/s), {len(report['failed'])} failed",
        report["failed"][:SHOWN],
    )


def _class_row(entry: dict[str, Any]) -> list[str]:
    """Cells of one class: mean absolute errors, and how the forces point."""

    def mean(name: str, digits: int) -> str:
        values = entry.get(name)
        return "-" if values is None else format_number(SHOWN_UNITS[name][1] * values["mae"], digits)

    forces = entry.get("forces", {})
    return [
        str(entry.get("frames", "-")),
        str(entry["atoms"]),
        mean("energy", 1),
        mean("forces", 1),
        format_number(forces.get("cosine"), 3),
        format_number(forces.get("slope"), 3),
        mean("stress", 3),
    ]
