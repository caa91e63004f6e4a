"""`forcefield energetics`: cohesive and formation energies of structures, and the hull of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.defects import References, parse_references, shared_references
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, MaxForce, Relaxation, Steps
from forcefield.cli.report import fail, format_number, one_line_errors, print_table
from forcefield.cli.structures import Command, Task, compute_structures

COLUMNS = ("formula", "energy\neV/atom", "cohesive\neV/atom", "formation\neV/atom")
HULL_COLUMNS = ("phase", "formula", "formation\neV/atom", "above hull\neV/atom", "decomposes into")


@expand_groups
def energetics(
    files: Files,
    hull: Annotated[
        bool, typer.Option("--hull", help="Also the energy above the hull of all structures and their elements.")
    ] = False,
    reference: References = None,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-3,
    steps: Steps = 1000,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute cohesive energies against free atoms and formation energies against elements of the same calculator.

    Each structure gets a folder with result.json; --hull adds hull.json beside them. The status is 0 where all
    structures were computed, 1 where one failed, 2 for wrong usage and 130 after Ctrl-C; --resume skips what is done.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.energetics import EnergeticsOptions
        from forcefield.workflows.outcome import require_package

        if hull:
            require_package("pymatgen")
        given = parse_references(reference)
        options = EnergeticsOptions(
            relaxation=relaxation, fmax=fmax, steps=steps, references=tuple(sorted(given.items()))
        ).to_dict()
    command = Command("energetics", COLUMNS, _row, _compute, options, {**options, "references": given})
    outcomes = compute_structures(command, files, choice, folder)
    computed = [record for record in outcomes.records if "error" not in record]
    if hull and computed:  # where some structures failed, the others still have a hull
        _show_hull(computed, folder.output_dir or Path(command.name), folder.as_json)
    outcomes.end()


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.energetics import energetics as run

    inputs = {**task.inputs, "references": shared_references(task)}
    result = run(task.frame.atoms, task.engine, store=task.store, callback=task.show, **inputs)
    return result.to_dict()


def _show_hull(records: Sequence[Mapping[str, Any]], folder: Path, as_json: bool) -> None:
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
