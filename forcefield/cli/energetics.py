"""`forcefield energetics`: cohesive and formation energies of structures, and the hull of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.defects import References, parse_references, share_references
from forcefield.cli.folder import (
    Command,
    OutputDir,
    Resume,
    StructureFolder,
    open_store,
    run_over_structures,
)
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Files, Index, Model, Precision
from forcefield.cli.phonons import Relaxation
from forcefield.cli.report import ProgressLine, fail, format_number, one_line_errors, print_table
from forcefield.cli.surfaces import MaxForce, Steps, choose_engine, note_warnings

if TYPE_CHECKING:
    from forcefield.cli.io import Frame

COLUMNS = ("formula", "energy\neV/atom", "cohesive\neV/atom", "formation\neV/atom")
HULL_COLUMNS = ("phase", "formula", "formation\neV/atom", "above hull\neV/atom", "decomposes into")


def energetics(
    files: Files,
    hull: Annotated[
        bool, typer.Option("--hull", help="Also the energy above the hull of all structures and their elements.")
    ] = False,
    reference: References = None,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-3,
    steps: Steps = 1000,
    output_dir: OutputDir = None,
    resume: Resume = False,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute cohesive energies against free atoms and formation energies against elements of the same calculator.

    Each structure gets a folder with result.json; --hull adds hull.json beside them. The status is 0 where all
    structures were computed, 1 where one failed, 2 for wrong usage and 130 after Ctrl-C; --resume skips what is done.
    """
    with one_line_errors(debug=debug):
        from forcefield.workflows.energetics import EnergeticsOptions
        from forcefield.workflows.outcome import require_package

        if hull:
            require_package("pymatgen")
        settings: dict[str, Any] = {"relaxation": relaxation, "fmax": fmax, "steps": steps}
        given = parse_references(reference)
        options = EnergeticsOptions(**settings, references=tuple(sorted(given.items()))).to_dict()
        engine, name = choose_engine(calculator, model, device, dtype)
    shared = share_references(engine, given)
    records: list[Mapping[str, Any]] = []

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.energetics import energetics as run

        def show(what: str) -> None:
            progress.detail(f"{frame.label}  {what}")

        shared.callback = show
        result = run(frame.atoms, engine, store=open_store(folder), references=shared, callback=show, **settings)
        note_warnings(progress, frame, result.warnings)
        return result.to_dict()

    def row(record: Mapping[str, Any]) -> list[str]:
        records.append(record)
        return _row(record)

    command = Command("energetics", COLUMNS, row, compute, options)
    try:
        run_over_structures(
            command,
            files,
            index=index,
            output_dir=output_dir,
            resume=resume,
            calculator_name=name,
            as_json=as_json,
            debug=debug,
        )
    finally:  # where some structures failed, the others still have a hull
        if hull and records:
            _show_hull(records, output_dir or Path(command.name), as_json)


def _show_hull(records: list[Mapping[str, Any]], folder: Path, as_json: bool) -> None:
    """Construct the hull of the structures and their elements, write it, and show it as a table."""
    from forcefield.cli.io import describe_error
    from forcefield.workflows.energetics_hull import HullEntry
    from forcefield.workflows.energetics_hull import hull as construct
    from forcefield.workflows.outcome import write_result

    entries, elements = [], {}
    for record in records:
        label = record["source"] if record["frame"] == 0 else f"{record['source']} #{record['frame']}"
        entries.append(HullEntry(label, record["composition"], record["energy"]))
        for symbol, state in record["references"].items():
            elements[symbol] = HullEntry(f"{symbol} ({state['label']})", {symbol: 1}, state["energy"])
    try:
        points = construct([*entries, *elements.values()])
        write_result(folder / "hull.json", [{**vars(point), "stable": point.stable} for point in points])
    except (ValueError, OSError) as error:
        fail(describe_error(error))
    if as_json:
        return
    rows = []
    for point in points:
        parts = " + ".join(f"{100.0 * share:.0f} % {phase}" for phase, share in point.decomposition.items())
        numbers = [format_number(point.formation_energy, 4), format_number(point.above_hull, 4)]
        rows.append([point.name, point.formula, *numbers, "-" if point.stable else parts])
    print_table(HULL_COLUMNS, rows, numeric=HULL_COLUMNS[2:4])


def _row(record: Mapping[str, Any]) -> list[str]:
    return [
        record["formula"],
        format_number(record["energy_per_atom"], 4),
        format_number(record["cohesive_energy"], 4),
        format_number(record["formation_energy"], 4),
    ]
