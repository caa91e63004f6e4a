"""`forcefield relax`: relax every structure of the files and write what came out as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import AsJson, CalculatorChoice, Debug, Files, Index
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


@expand_groups
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
    batch: Annotated[
        bool, typer.Option("--batch/--one-by-one", help="Relax many structures at once (FIRE and LBFGS).")
    ] = False,
    max_edges: Annotated[
        int | None, typer.Option(min=1, help="Neighbour pairs in a batch.  [default: by the device]")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --batch: own, torch-sim or auto, which is own.  [default: auto]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --batch: go on with an interrupted run.")] = False,
    index: Index = ":",
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    choice: CalculatorChoice,
) -> None:
    """Relax structures to a minimum of energy, or of enthalpy at a pressure.

    For each structure NAME come NAME_relaxed in the input's format and as extxyz, NAME_relax.traj with every step and
    NAME_relax.json with the result, each as soon as it is ready; files of an earlier run are replaced. The status is 0
    where all structures converged, 1 where one did not or failed, 2 for wrong usage and 130 after Ctrl-C, which keeps
    what was done.

    With --batch structures are evaluated together, which is several times faster for many small ones. There
    is no .traj then, and relax_batch.jsonl in the folder keeps what is done for --resume.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import OutputNames, parse_index, prepare_folder
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
        if not batch and (resume or max_edges is not None or engine is not None):
            fail("--resume, --max-edges and --engine belong to --batch.")
        parse_index(index)
        prepare_folder(output_dir)
        calculator = choice.load()
    name = choice.calculator or choice.model or "default"
    work = Batch(calculator, options, output_dir, OutputNames(files), automatic_cell=cell is None, name=name)
    if batch:
        interrupted = _together(
            work, files, index, max_edges=max_edges, engine=engine or "auto", resume=resume, debug=debug
        )
    else:
        interrupted = work_through(files, index, process=work.process, refuse=work.refuse, debug=debug)
    _report(work, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not all(outcome.converged for outcome in work.outcomes):
        raise typer.Exit(1)


def _report(work: Batch, *, as_json: bool) -> None:
    """Show what became of the structures."""
    if as_json:
        print_json([outcome.record for outcome in work.outcomes])
        return
    print_table(COLUMNS, [outcome.row for outcome in work.outcomes], numeric=NUMERIC)
    converged = sum(outcome.converged for outcome in work.outcomes)
    print_summary(f"{converged} of {len(work.outcomes)} converged; results are in {work.folder}", work.failures)


def _together(
    work: Batch,
    files: Sequence[Path],
    index: str,
    *,
    max_edges: int | None,
    engine: str,
    resume: bool,
    debug: bool,
) -> bool:
    """Relax in a batch; whether Ctrl-C ended it early."""
    from forcefield.cli.relax_batch import STORE, relax_together

    store = work.folder / STORE
    with one_line_errors(debug=debug):
        if not resume:
            store.unlink(missing_ok=True)
        return relax_together(
            files,
            index,
            calculator=work.engine,
            engine=engine,
            options=work.options,
            automatic_cell=work.automatic_cell,
            max_edges=max_edges,
            store=store,
            finish=work.finish,
            refuse=work.refuse,
            debug=debug,
        )


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
        name = self._name(frame)
        result = self._relax(frame, name, progress)
        line = self._write(frame, name, result, [self.folder / f"{name}_relax.traj"])
        if result.reason == "interrupted":
            raise KeyboardInterrupt
        return line

    def finish(self, frame: Frame, result: RelaxResult) -> str:
        """Write the files of a structure that was relaxed in a batch, and say how it went."""
        return self._write(frame, self._name(frame), result, [])

    def _name(self, frame: Frame) -> str:
        return self.names.name(frame.path, frame.number if frame.siblings > 1 else None)

    def _write(self, frame: Frame, name: str, result: RelaxResult, others: Sequence[Path]) -> str:
        from forcefield.cli.io import write_json, write_structure

        written = write_structure(result.atoms, self.folder, f"{name}_relaxed", frame.path)
        record = self._record(frame, result, [*written, *others])
        write_json(self.folder / f"{name}_relax.json", record)
        self.outcomes.append(Outcome(result.converged, _row(frame.label, result), record))
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
