"""`forcefield relax`: relax every structure of the files and write what came out as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.options import AsJson, CalculatorName, Debug, Device, Files, Index, Model, Precision
from forcefield.cli.report import (
    INTERRUPTED,
    ProgressLine,
    fail,
    format_number,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from forcefield.cli.io import Frame, OutputNames
    from forcefield.workflows import RelaxOptions, RelaxResult, RelaxStep

NUMERIC = ("atoms", "steps", "energy\neV/atom", "max force\neV/Å", "pressure\nGPa", "volume\n%")
COLUMNS = ("structure", "status", *NUMERIC, "space group")


def relax(
    files: Files,
    cell: Annotated[
        bool | None,
        typer.Option(
            "--cell/--fixed-cell",
            help="Relax the cell too, or keep it.  [default: relax it where periodic along three axes]",
        ),
    ] = None,
    fmax: Annotated[float, typer.Option(help="Largest force accepted (eV/Å).")] = 0.02,
    smax: Annotated[float, typer.Option(help="Largest stress component left, for a relaxed cell (GPa).")] = 0.05,
    steps: Annotated[int, typer.Option(help="Most steps for a structure.")] = 500,
    optimizer: Annotated[
        str, typer.Option(help="FIRE, FIRE2, BFGS, LBFGS, BFGSLineSearch, LBFGSLineSearch or MDMin.")
    ] = "FIRE",
    pressure: Annotated[float, typer.Option(help="External pressure (GPa), with a relaxed cell.")] = 0.0,
    symmetry: Annotated[bool, typer.Option("--symmetry/--no-symmetry", help="Keep the space group.")] = False,
    output_dir: Annotated[Path, typer.Option(help="Folder for the results; made if needed.")] = Path("."),
    index: Index = ":",
    model: Model = None,
    device: Device = None,
    dtype: Precision = None,
    calculator: CalculatorName = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Relax structures to a minimum of energy, or of enthalpy at a pressure.

    For each structure NAME come NAME_relaxed in the input's format and as extxyz, NAME_relax.traj with every step and
    NAME_relax.json with the result, each as soon as it is ready; files of an earlier run are replaced. The status is 0
    where all structures converged, 1 where one did not or failed, 2 for wrong usage and 130 after Ctrl-C, which keeps
    what was done.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import OutputNames, load_calculator, parse_index, prepare_folder
        from forcefield.workflows import RelaxOptions

        options = RelaxOptions(
            cell=bool(cell),
            fmax=fmax,
            smax=smax,
            steps=steps,
            optimizer=optimizer,
            pressure=pressure,
            symmetry=symmetry,
        )
        if cell is False and pressure != 0.0:
            fail(f"--pressure {pressure} came with --fixed-cell, but a pressure needs a cell that can change.")
        parse_index(index)
        prepare_folder(output_dir)
        engine = load_calculator(calculator, model, device, dtype)
    name = calculator or model or "default"
    batch = Batch(engine, options, output_dir, OutputNames(files), automatic_cell=cell is None, name=name)
    interrupted = work_through(files, index, process=batch.process, refuse=batch.refuse, debug=debug)
    if as_json:
        print_json([outcome.record for outcome in batch.outcomes])
    else:
        print_table(COLUMNS, [outcome.row for outcome in batch.outcomes], numeric=NUMERIC)
        converged = sum(outcome.converged for outcome in batch.outcomes)
        print_summary(f"{converged} of {len(batch.outcomes)} converged; results are in {output_dir}", batch.failures)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not all(outcome.converged for outcome in batch.outcomes):
        raise typer.Exit(1)


@dataclass(frozen=True)
class Outcome:
    """What became of one structure: whether it converged, a line for the table, a record for JSON."""

    converged: bool
    row: Sequence[str]
    record: dict[str, Any]


class Batch:
    """Structures relaxed one after the other with the same calculator and options.

    Args:
        engine: the ASE calculator.
        options: options of the relaxations.
        folder: where results go.
        names: names of the results.
        automatic_cell: relax the cell of structures periodic along three axes, and of no others.
        name: what to call the calculator in the records.
    """

    def __init__(
        self,
        engine: Any,
        options: RelaxOptions,
        folder: Path,
        names: OutputNames,
        *,
        automatic_cell: bool,
        name: str,
    ) -> None:
        self.engine = engine
        self.options = options
        self.folder = folder
        self.names = names
        self.automatic_cell = automatic_cell
        self.name = name
        self.outcomes: list[Outcome] = []
        self.failures: list[str] = []

    def process(self, frame: Frame, progress: ProgressLine) -> str:
        """Relax one structure, write its files, and say how it went.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once everything is written.
        """
        from forcefield.cli.io import write_json, write_structure

        name = self.names.name(frame.path, frame.number if frame.siblings > 1 else None)
        result = self._relax(frame, name, progress)
        written = write_structure(result.atoms, self.folder, f"{name}_relaxed", frame.path)
        record = self._record(frame, result, [*written, self.folder / f"{name}_relax.traj"])
        write_json(self.folder / f"{name}_relax.json", record)
        self.outcomes.append(Outcome(result.converged, _row(frame.label, result), record))
        if result.reason == "interrupted":
            raise KeyboardInterrupt
        return f"{frame.label}: {result.reason} after {result.steps} steps, {result.energy_per_atom:.4f} eV/atom"

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        row = [label, "failed", *["-"] * (len(COLUMNS) - 2)]
        record = {"source": label, "converged": False, "reason": "failed", "error": message}
        self.outcomes.append(Outcome(False, row, record))
        self.failures.append(f"{label}: {message}")

    def _relax(self, frame: Frame, name: str, progress: ProgressLine) -> RelaxResult:
        from forcefield.workflows import relax as relax_structure

        def show(step: RelaxStep) -> None:
            progress.detail(f"{frame.label}  step {step.step}/{self.options.steps}  {step.max_force:.3f} eV/Å")

        options = self.options.to_dict()
        if self.automatic_cell:
            options["cell"] = bool(frame.atoms.pbc.all())
            if not options["cell"] and options["pressure"] != 0.0:
                raise ValueError("a pressure needs a structure that is periodic along three axes.")
        return relax_structure(
            frame.atoms, self.engine, trajectory=self.folder / f"{name}_relax.traj", callback=show, **options
        )

    def _record(self, frame: Frame, result: RelaxResult, files: Sequence[Path]) -> dict[str, Any]:
        from forcefield import __version__

        cell = bool(frame.atoms.pbc.all()) if self.automatic_cell else self.options.cell
        return {
            "source": str(frame.path),
            "frame": frame.number,
            **result.to_dict(),
            "options": {**self.options.to_dict(), "cell": cell},
            "calculator": self.name,
            "files": [path.name for path in files],
            "forcefield_version": __version__,
        }


def _row(label: str, result: RelaxResult) -> list[str]:
    before, after = result.spacegroup_before, result.spacegroup_after
    change = None if result.volume_change is None else 100.0 * result.volume_change
    return [
        label,
        result.reason,
        str(len(result.atoms)),
        str(result.steps),
        format_number(result.energy_per_atom, 4),
        format_number(result.max_force, 4),
        format_number(result.pressure, 3),
        format_number(change, 2, sign=True),
        "-" if before is None or after is None else str(after) if before == after else f"{before} -> {after}",
    ]
