"""`forcefield phonons`: bands, density of states, thermodynamics and stability of every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, Plots, SupercellLength, Vibrations
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

if TYPE_CHECKING:
    from forcefield.workflows.phonons_result import PhononResult

FREQUENCIES = ("lowest\nTHz", "highest\nTHz", "zero point\nmeV/atom")
COLUMNS = ("atoms", "supercell\natoms", "displacements", *FREQUENCIES, "Cv 300 K\nkB/atom")


@dataclass(frozen=True)
class PhononVibrations(Vibrations):
    """Phonons alone can afford a larger supercell."""

    supercell_length: SupercellLength = 20.0


@expand_groups
def phonons(
    files: Files,
    vibrations: PhononVibrations,
    born: Annotated[
        Path | None, typer.Option(metavar="FILE", help="BORN file (phonopy's format) for the LO-TO splitting.")
    ] = None,
    follow_imaginary: Annotated[
        bool, typer.Option("--follow-imaginary", help="Follow imaginary modes down to a stable structure.")
    ] = False,
    plots: Plots = True,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute phonons of crystals: bands, density of states, thermodynamics, imaginary modes.

    Each structure gets a folder with result.json, phonopy.yaml (with force constants), bands.png, thermal.png and
    (where imaginary modes were followed to a minimum) stable_structure.extxyz. A model runs in float64 unless --dtype
    says otherwise. The status is 0 where all structures are stable (or became so by --follow-imaginary), 1 where one is
    not or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces already computed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.phonons_setup import PhononOptions

        options = PhononOptions(**asdict(vibrations), follow_imaginary=follow_imaginary).to_dict()
        if born is not None and not born.is_file():
            raise ValueError(f"--born is {born}, but there is no such file.")
        charges = None if born is None else born.read_text(encoding="utf-8")
    identity, inputs = {**options, "born": charges}, {**options, "born": born}
    needs: dict[str, Any] = {"precision": "float64", "packages": ("phonopy", "seekpath")}
    command = Command("phonons", COLUMNS, _row, _compute, identity, inputs, plots=plots, **needs)
    run_over_structures(command, files, choice, folder)


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.phonons import phonons as compute_phonons

    show = task.count("displacement")
    result = compute_phonons(task.frame.atoms, task.engine, store=task.store, callback=show, **task.inputs)
    _write_files(result, task.folder.path, plots=task.plots)
    return result.to_dict()


def _write_files(result: PhononResult, folder: Path, *, plots: bool) -> None:
    from ase.io import write

    result.phonopy.save(folder / "phonopy.yaml", settings={"force_constants": True})
    if result.stable_structure is not None:
        write(folder / "stable_structure.extxyz", result.stable_structure, format="extxyz")
    if plots:
        from forcefield.workflows.plots_phonons import plot_bands, plot_thermal

        plot_bands(result, folder / "bands.png")
        plot_thermal(result, folder / "thermal.png")


def _row(record: Mapping[str, Any]) -> list[str]:
    from forcefield.units import KELVIN

    thermal = record["thermal"]
    points = zip(thermal["temperatures"], thermal["heat_capacity"], strict=True)
    at_300 = min(points, key=lambda point: abs(point[0] - 300.0))
    return [
        str(len(record["atoms"]["symbols"])),
        str(record["supercell_atoms"]),
        str(record["n_displacements"]),
        format_number(round(record["lowest_frequency"], 2) + 0.0, 2),
        format_number(record["highest_frequency"], 2),
        format_number(1000.0 * record["zero_point_energy"], 2),
        format_number(at_300[1] / KELVIN if abs(at_300[0] - 300.0) < 1.0 else None, 3),
    ]
