"""`forcefield phonons`: bands, density of states, thermodynamics and stability of every crystal of the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.folder import (
    Command,
    OutputDir,
    Plots,
    Resume,
    StructureFolder,
    load_engine,
    open_store,
    plots_wanted,
    run_over_structures,
)
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Files, Index, Model, Precision
from forcefield.cli.report import ProgressLine, format_number, one_line_errors

if TYPE_CHECKING:
    from forcefield.cli.io import Frame
    from forcefield.workflows.phonons_result import PhononResult

FREQUENCIES = ("lowest\nTHz", "highest\nTHz", "zero point\nmeV/atom")
COLUMNS = ("atoms", "supercell\natoms", "displacements", *FREQUENCIES, "Cv 300 K\nkB/atom")

SupercellLength = Annotated[float, typer.Option(help="Shortest length of a supercell vector (Å).")]
Supercell = Annotated[
    tuple[int, int, int] | None, typer.Option(metavar="N N N", help="Multiples of the cell's vectors instead.")
]
Method = Annotated[str, typer.Option(help="displacements, or hessian for a calculator that has one.")]
Displacement = Annotated[float, typer.Option(help="Displacement of an atom (Å).")]
Relaxation = Annotated[str, typer.Option(help="Relaxation before: cell, positions or none.")]
MaxForce = Annotated[float, typer.Option(help="Largest force the relaxation accepts (eV/Å).")]
Steps = Annotated[int, typer.Option(help="Most steps of a relaxation.")]
Symmetry = Annotated[bool, typer.Option("--symmetry/--no-symmetry", help="Keep the space group in the relaxation.")]
MeshLength = Annotated[float, typer.Option(help="Density of the q-point mesh, as the length of a supercell (Å).")]
MaxTemperature = Annotated[float, typer.Option("--t-max", help="Highest temperature (K).")]
TemperatureStep = Annotated[float, typer.Option("--t-step", help="Step of temperature (K).")]
Tolerance = Annotated[float, typer.Option(help="Size of an imaginary frequency that counts (THz).")]


def phonons(
    files: Files,
    supercell_length: SupercellLength = 20.0,
    supercell: Supercell = None,
    method: Method = "displacements",
    displacement: Displacement = 0.01,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 1.0e-4,
    steps: Steps = 1000,
    symmetry: Symmetry = True,
    mesh_length: MeshLength = 60.0,
    t_max: MaxTemperature = 1000.0,
    t_step: TemperatureStep = 10.0,
    tolerance: Tolerance = 0.05,
    born: Annotated[
        Path | None, typer.Option(metavar="FILE", help="BORN file (phonopy's format) for the LO-TO splitting.")
    ] = None,
    follow_imaginary: Annotated[
        bool, typer.Option("--follow-imaginary", help="Follow imaginary modes down to a stable structure.")
    ] = False,
    output_dir: OutputDir = None,
    resume: Resume = False,
    plots: Plots = True,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute phonons of crystals: bands, density of states, thermodynamics, imaginary modes.

    Each structure gets a folder with result.json, phonopy.yaml (with force constants), bands.png, thermal.png and
    (where imaginary modes were followed to a minimum) stable_structure.extxyz. A model runs in float64 unless --dtype
    says otherwise. The status is 0 where all structures are stable (or became so by --follow-imaginary), 1 where one is
    not or failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes on with the forces already computed.
    """
    with one_line_errors(debug=debug):
        from forcefield.workflows.phonons_setup import PhononOptions

        settings: dict[str, Any] = {
            **{"supercell_length": supercell_length, "supercell": supercell, "method": method, "steps": steps},
            **{"displacement": displacement, "relaxation": relaxation, "fmax": fmax, "symmetry": symmetry},
            **{"mesh_length": mesh_length, "t_max": t_max, "t_step": t_step, "tolerance": tolerance},
            "follow_imaginary": follow_imaginary,
        }
        options = PhononOptions(**settings).to_dict()
        plots_wanted(plots)
        engine, name = load_engine(calculator, model, device, dtype)

    def compute(frame: Frame, folder: StructureFolder, progress: ProgressLine) -> Mapping[str, Any]:
        from forcefield.workflows.phonons import phonons as compute_phonons

        def show(done: int, total: int, n_atoms: int) -> None:
            progress.detail(f"{frame.label}  displacement {done + 1}/{total}  {n_atoms} atoms")

        store = open_store(folder)
        result = compute_phonons(frame.atoms, engine, born=born, store=store, callback=show, **options)
        _write_files(result, folder.path, plots=plots)
        return result.to_dict()

    charges = None if born is None or not born.is_file() else born.read_text(encoding="utf-8")
    command = Command("phonons", COLUMNS, _row, compute, {**options, "born": charges, "plots": plots})
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
