"""`forcefield predict`: energy, forces and stress of every structure of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import AsJson, CalculatorChoice, Debug, Files, Index, Workers
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
    from forcefield.cli.structures import Progress

NUMERIC = ("atoms", "energy\neV", "energy\neV/atom", "max force\neV/Å", "pressure\nGPa")
COLUMNS = ("structure", "formula", *NUMERIC)
CONFIDENCE = ("training data", "force error\neV/Å")
OUTPUT_SUFFIXES = (".extxyz", ".xyz", ".traj", ".json")


@expand_groups
def predict(
    files: Files,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write structures with results here: .extxyz, .xyz, .traj, or .json."),
    ] = None,
    workers: Workers = 1,
    index: Index = ":",
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    choice: CalculatorChoice,
) -> None:
    """Compute energy, forces and stress of structures as they are.

    The table shows the largest force, the pressure (minus a third of the trace of the stress), and for a model that has
    the data whether the structure is inside its training data and the mean force error to expect. All forces (eV/Å) and
    stress components (GPa, Voigt order xx yy zz yz xz xy) are in the JSON; structure files hold the stress in eV/Å³.
    The status is 0 where all structures were computed, 1 where one failed, 2 for wrong usage and 130 after Ctrl-C.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import parse_index

        parse_index(index)
        writer = ResultWriter(output)
        engine = choice.load()
    batch = Batch(writer)
    if workers > 1:
        from forcefield.cli.processes import work_in_processes

        interrupted = work_in_processes(files, index, batch, choice, workers=workers, debug=debug)
        batch.write_rest()
    else:
        interrupted = work_through(
            files,
            index,
            process=lambda frame, progress: batch.process(frame, progress, engine),
            refuse=batch.refuse,
            debug=debug,
        )
    with one_line_errors(debug=debug):
        writer.close(batch.records)
    _report(batch, judges=getattr(engine, "has_confidence", False), as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if batch.failures:
        raise typer.Exit(1)


def _report(batch: Batch, *, judges: bool, as_json: bool) -> None:
    """Show what came out; the confidence has its columns where the calculator has one."""
    records = batch.records
    if as_json:
        print_json(records)
        return
    columns = (*COLUMNS, *CONFIDENCE) if judges else COLUMNS
    rows = [_row(label, record, len(columns)) for label, record in batch.finished.items()]
    print_table(columns, rows, numeric=(*NUMERIC, CONFIDENCE[1]))
    print_summary(f"{len(records) - len(batch.failures)} of {len(records)} computed", batch.failures)


def _row(label: str, record: Mapping[str, Any], n_columns: int) -> list[str]:
    if "error" in record:
        return [label, "failed", *["-"] * (n_columns - 2)]
    confidence = record.get("confidence")
    return [
        label,
        record["formula"],
        str(record["n_atoms"]),
        format_number(record["energy"], 4),
        format_number(record["energy_per_atom"], 4),
        format_number(record["max_force"], 4),
        format_number(record["pressure"], 3),
        *([confidence["verdict"], format_number(confidence["mean_force_error"], 3)] if confidence else []),
    ]


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


@dataclass(frozen=True)
class Job:
    """One structure to compute, complete enough to be computed in another process."""

    frame: Frame

    def run(self, engine: Any, progress: Progress, memory: dict[str, Any]) -> tuple[Atoms, dict[str, Any]]:
        """Compute the structure: a copy with its results attached, and the record."""
        progress.detail(self.frame.label)
        atoms = compute(self.frame.atoms, engine)
        record = {"source": str(self.frame.path), "frame": self.frame.number, **describe(atoms)}
        if getattr(engine, "has_confidence", False):
            record["confidence"] = engine.get_confidence(self.frame.atoms).to_dict()
        return atoms, record


@dataclass
class Batch:
    """Structures and their records, in the order of the files, in which they are also written.

    Attributes:
        writer: of the output file.
        results: record of each structure by its label; None while it is under way.
    """

    writer: ResultWriter
    results: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _unwritten: dict[str, Atoms | None] = field(default_factory=dict)

    @property
    def finished(self) -> dict[str, dict[str, Any]]:
        """Record of each structure that was computed or failed."""
        return {label: record for label, record in self.results.items() if record is not None}

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records alone."""
        return list(self.finished.values())

    @property
    def failures(self) -> list[str]:
        """Label and reason of those that failed."""
        return [f"{label}: {record['error']}" for label, record in self.finished.items() if "error" in record]

    def process(self, frame: Frame, progress: ProgressLine, engine: Any) -> str:
        """Compute one structure in this process and say what came out."""
        _, job = self.prepare(frame)
        return self.accept(frame.label, job.run(engine, progress, {}))

    def prepare(self, frame: Frame) -> tuple[str, Job]:
        """Give the job of a structure, whose results are written when those before it are."""
        self.results[frame.label] = self._unwritten[frame.label] = None
        return "", Job(frame)

    def accept(self, label: str, result: tuple[Atoms, dict[str, Any]]) -> str:
        """Keep what was computed, and write what can be written."""
        self._unwritten[label], self.results[label] = result
        self._write_ready()
        return f"{label}: {result[1]['energy_per_atom']:.4f} eV/atom"

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        self.results[label] = {"source": label, "error": message}
        self._unwritten.pop(label, None)
        self._write_ready()

    def write_rest(self) -> None:
        """Write what waits for structures that were given up."""
        self._unwritten = {label: atoms for label, atoms in self._unwritten.items() if atoms is not None}
        self._write_ready()

    def _write_ready(self) -> None:
        """Write structures up to the first that is under way; one that cannot be written has failed."""
        from forcefield.cli.io import describe_error

        while self._unwritten:
            label, atoms = next(iter(self._unwritten.items()))
            if atoms is None:
                return
            del self._unwritten[label]
            try:
                self.writer.add(atoms)
            except OSError as error:
                self.results[label] = {"source": label, "error": describe_error(error)}


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
