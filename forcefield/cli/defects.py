"""`forcefield defects`: formation energies of neutral point defects in every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import (
    CalculatorChoice,
    Files,
    FolderOptions,
    MaxForce,
    Relaxation,
    Steps,
    Supercell,
    SupercellLength,
)
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

COLUMNS = ("supercell\natoms", "defects", "lowest", "formation\neV", "all")
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        metavar="ELEMENT=ENERGY",
        help="Energy of an element (eV/atom) instead of its computed ground state; repeatable.",
    ),
]


@expand_groups
def defects(
    files: Files,
    vacancy: Annotated[
        list[str] | None, typer.Option(metavar="ELEMENT", help="Element to remove, or all; repeatable.")
    ] = None,
    interstitial: Annotated[
        list[str] | None, typer.Option(metavar="ELEMENT", help="Element to put into voids; repeatable.")
    ] = None,
    substitution: Annotated[
        list[str] | None, typer.Option(metavar="OLD=NEW", help="Element to replace by another; repeatable.")
    ] = None,
    supercell_length: SupercellLength = 10.0,
    supercell: Supercell = None,
    reference: References = None,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 0.02,
    steps: Steps = 500,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute formation energies of neutral vacancies, interstitials and substitutions.

    Without any of the three, all vacancies are computed. Each structure gets a folder with result.json and
    defects.extxyz. The status is 0 where every defect got an energy, 1 where one did not or a structure failed, 2 for
    wrong usage and 130 after Ctrl-C; --resume then goes on with what is already relaxed.
    """
    asked = bool(vacancy or interstitial or substitution)
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.defects import DefectOptions

        given = parse_references(reference)
        options = DefectOptions(
            vacancies=tuple(vacancy or (() if asked else ("all",))),
            interstitials=tuple(interstitial or ()),
            substitutions=tuple(_parse_pair(text) for text in substitution or ()),
            supercell_length=supercell_length,
            supercell=supercell,
            relaxation=relaxation,
            fmax=fmax,
            steps=steps,
            references=tuple(sorted(given.items())),
        ).to_dict()
    command = Command("defects", COLUMNS, _row, _compute, options, {**options, "references": given})
    run_over_structures(command, files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from ase.io import write

    from forcefield.workflows.defects import defects as run

    inputs = {**task.inputs, "references": shared_references(task)}
    result = run(task.frame.atoms, task.engine, store=task.store, callback=task.show, **inputs)
    task.note([_describe(defect) for defect in result.defects])
    cells = [defect.atoms.copy() for defect in result.defects]
    for cell, defect in zip(cells, result.defects, strict=True):
        cell.info["defect"] = defect.name
    write(task.folder.path / "defects.extxyz", cells, format="extxyz")
    return result.to_dict()


def _describe(defect: Any) -> str:
    """Put a defect into one line."""
    limits = "".join(f", {name} {value:.3f}" for name, value in defect.limits.items())
    return f"{defect.name} {defect.verdict} {format_number(defect.formation_energy, 3)} eV{limits}"


def parse_references(texts: Sequence[str] | None) -> dict[str, float]:
    """Understand energies such as O=-4.93.

    Raises:
        ValueError: for anything else.
    """
    energies = {}
    for text in texts or ():
        symbol, _, value = text.partition("=")
        try:
            energies[symbol] = float(value)
        except ValueError:
            raise ValueError(f"--reference is {text!r}, but must be an element and eV/atom, as in O=-4.93.") from None
    return energies


def shared_references(task: Task) -> Any:
    """References that all structures of a process have in common, so that each element is computed once."""
    from forcefield.workflows.energetics_references import ElementReferences

    if "references" not in task.memory:
        task.memory["references"] = ElementReferences(task.engine, task.inputs["references"])
    references = task.memory["references"]
    references.callback = task.show
    return references


def _parse_pair(text: str) -> tuple[str, str]:
    """Understand a substitution such as Cu=Ag.

    Raises:
        ValueError: for anything else.
    """
    old, _, new = text.partition("=")
    if not old or not new:
        raise ValueError(f"--substitution is {text!r}, but must be two elements, as in Cu=Ag.")
    return old, new


def _row(record: Mapping[str, Any]) -> list[str]:
    with_energy = [item for item in record["defects"] if item["formation_energy"] is not None]
    lowest = min(with_energy, key=lambda item: item["formation_energy"]) if with_energy else None
    return [
        str(record["n_supercell"]),
        str(len(record["defects"])),
        "-" if lowest is None else lowest["name"],
        format_number(None if lowest is None else lowest["formation_energy"], 3),
        " ".join(f"{item['name']}:{format_number(item['formation_energy'], 3)}" for item in record["defects"]),
    ]
