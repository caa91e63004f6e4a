"""`forcefield predict`: energy, forces and stress of every structure of the files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Files, Index, Model, Precision
from forcefield.cli.report import (
    INTERRUPTED,
    ProgressLine,
    format_number,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from ase import Atoms

    from forcefield.cli.io import Frame

NUMERIC = ("atoms", "energy\neV", "energy\neV/atom", "max force\neV/Å", "pressure\nGPa")
COLUMNS = ("structure", "formula", *NUMERIC)
CONFIDENCE = ("training data", "force error\neV/Å")
OUTPUT_SUFFIXES = (".extxyz", ".xyz", ".traj", ".json")


def predict(
    files: Files,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write structures with results here: .extxyz, .xyz, .traj, or .json."),
    ] = None,
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute energy, forces and stress of structures as they are.

    The table shows the largest force, the pressure (minus a third of the trace of the stress), and for a model that has
    the data whether the structure is inside its training data and the mean force error to expect. All forces (eV/Å) and
    stress components (GPa, Voigt order xx yy zz yz xz xy) are in the JSON; structure files hold the stress in eV/Å³.
    The status is 0 where all structures were computed, 1 where one failed, 2 for wrong usage and 130 after Ctrl-C.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import load_calculator, parse_index

        parse_index(index)
        writer = ResultWriter(output)
        engine = load_calculator(calculator, model, device, dtype)
    batch = Batch(engine, writer)
    interrupted = work_through(files, index, process=batch.process, refuse=batch.refuse, debug=debug)
    with one_line_errors(debug=debug):
        writer.close(batch.records)
    if as_json:
        print_json(batch.records)
    else:
        print_table(batch.columns, batch.rows, numeric=(*NUMERIC, CONFIDENCE[1]))
        print_summary(f"{len(batch.rows) - len(batch.failures)} of {len(batch.rows)} computed", batch.failures)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if batch.failures:
        raise typer.Exit(1)


class ResultWriter:
    """Write each structure with its results as soon as it is there; JSON at the end.

    Args:
        path: the output file, whose suffix is the format; None writes nothing.

    Raises:
        ValueError: for a suffix that is not known, or a file that cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path is None:
            return
        if path.suffix.lower() not in OUTPUT_SUFFIXES:
            raise ValueError(f"--output {path} must end in {', '.join(OUTPUT_SUFFIXES)}.")
        try:
            path.write_bytes(b"")
        except OSError as error:
            raise ValueError(f"Cannot write to {path} ({error.strerror or error}).") from error

    def add(self, atoms: Atoms) -> None:
        """Append a structure that has its results attached."""
        if self.path is None or self.path.suffix.lower() == ".json":
            return
        if self.path.suffix.lower() == ".traj":
            from ase.io.trajectory import Trajectory

            with Trajectory(str(self.path), "a") as trajectory:
                trajectory.write(atoms)
        else:
            from ase.io import write

            write(self.path, atoms, format="extxyz", append=True)

    def close(self, records: Sequence[dict[str, Any]]) -> None:
        """Write the records, where the output is JSON."""
        from forcefield.cli.io import write_json

        if self.path is not None and self.path.suffix.lower() == ".json":
            write_json(self.path, records)


class Batch:
    """Structures computed one after the other with the same calculator."""

    def __init__(self, engine: Any, writer: ResultWriter) -> None:
        self.engine = engine
        self.writer = writer
        self.rows: list[Sequence[str]] = []
        self.records: list[dict[str, Any]] = []
        self.judges: bool = getattr(engine, "has_confidence", False)
        self.columns = (*COLUMNS, *CONFIDENCE) if self.judges else COLUMNS
        self.failures: list[str] = []

    def process(self, frame: Frame, progress: ProgressLine) -> str:
        """Compute one structure and say what came out."""
        progress.detail(frame.label)
        atoms = compute(frame.atoms, self.engine)
        self.writer.add(atoms)
        record = {"source": str(frame.path), "frame": frame.number, **describe(atoms)}
        cells: list[str] = []
        if self.judges:
            confidence = self.engine.get_confidence(frame.atoms).to_dict()
            record["confidence"] = confidence
            cells = [confidence["verdict"], format_number(confidence["mean_force_error"], 3)]
        self.records.append(record)
        self.rows.append(
            [
                frame.label,
                record["formula"],
                str(record["n_atoms"]),
                format_number(record["energy"], 4),
                format_number(record["energy_per_atom"], 4),
                format_number(record["max_force"], 4),
                format_number(record["pressure"], 3),
                *cells,
            ]
        )
        return f"{frame.label}: {record['energy_per_atom']:.4f} eV/atom"

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        self.failures.append(f"{label}: {message}")
        self.rows.append([label, "failed", *["-"] * (len(self.columns) - 2)])
        self.records.append({"source": label, "error": message})


def compute(atoms: Atoms, calculator: Any) -> Atoms:
    """Compute a structure and attach energy (eV), forces (eV/Å) and, where it has a meaning, stress (eV/Å³) to a copy.

    Raises:
        ValueError: for a structure that cannot be computed, or results that are not finite.
    """
    import numpy as np
    from ase.calculators.calculator import PropertyNotImplementedError
    from ase.calculators.singlepoint import SinglePointCalculator

    from forcefield.structures import as_atoms, check_structure

    work = as_atoms(atoms)
    check_structure(work)
    work.calc = calculator
    results: dict[str, Any] = {
        "energy": work.get_potential_energy(),
        "forces": work.get_forces(apply_constraint=False),
    }
    if work.pbc.any() and work.cell.rank == 3:
        with suppress(PropertyNotImplementedError):  # a calculator without stress for this structure: none is reported
            results["stress"] = work.get_stress(apply_constraint=False)
    for name, value in results.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the calculator gave a {name} that is not finite.")
    work.calc = SinglePointCalculator(work, **results)
    return work


def describe(atoms: Atoms) -> dict[str, Any]:
    """Give the results attached to a structure as plain numbers: eV, eV/Å, GPa."""
    import numpy as np

    from forcefield.units import GPA

    energy, forces = float(atoms.calc.results["energy"]), atoms.calc.results["forces"]
    stress = atoms.calc.results.get("stress")
    return {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "energy": energy,
        "energy_per_atom": energy / len(atoms),
        "max_force": float(np.linalg.norm(forces, axis=1).max()),
        "pressure": None if stress is None else -float(stress[:3].mean()) / GPA,
        "stress": None if stress is None else (stress / GPA).tolist(),
        "forces": forces.tolist(),
    }
