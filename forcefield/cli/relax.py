"""`forcefield relax`: relax every structure of the files and write what came out as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
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
    fail,
    format_number,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from forcefield.cli.io import Frame, OutputNames
    from forcefield.cli.structures import Progress
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
    workers: Workers = 1,
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
    what was done. --workers shares the structures out over processes; Ctrl-C then drops those at work.

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
        if batch and workers > 1:
            fail(f"--workers {workers} came with --batch, which relaxes all structures in one process. Use one.")
        parse_index(index)
        prepare_folder(output_dir)
        calculator = choice.load()
    name = choice.calculator or choice.model or "default"
    plan = Plan(options, output_dir, automatic_cell=cell is None, calculator=name)
    work = Batch(plan, OutputNames(files))
    if batch:
        interrupted = _together(
            work, calculator, files, index, max_edges=max_edges, engine=engine or "auto", resume=resume, debug=debug
        )
    elif workers > 1:
        from forcefield.cli.processes import work_in_processes

        interrupted = work_in_processes(files, index, work, choice, workers=workers, debug=debug)
    else:
        interrupted = work_through(
            files,
            index,
            process=lambda frame, progress: work.process(frame, progress, calculator),
            refuse=work.refuse,
            debug=debug,
        )
    outcomes = work.finished
    _report(outcomes, output_dir, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not all(outcome.converged for outcome in outcomes):
        raise typer.Exit(1)


def _report(outcomes: Sequence[Outcome], folder: Path, *, as_json: bool) -> None:
    """Show what became of the structures."""
    if as_json:
        print_json([outcome.record for outcome in outcomes])
        return
    print_table(COLUMNS, [outcome.row for outcome in outcomes], numeric=NUMERIC)
    converged = sum(outcome.converged for outcome in outcomes)
    failures = [outcome.line for outcome in outcomes if "error" in outcome.record]
    print_summary(f"{converged} of {len(outcomes)} converged; results are in {folder}", failures)


def _together(
    work: Batch,
    calculator: Any,
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

    store = work.plan.folder / STORE
    with one_line_errors(debug=debug):
        if not resume:
            store.unlink(missing_ok=True)
        return relax_together(
            files,
            index,
            calculator=calculator,
            engine=engine,
            options=work.plan.options,
            automatic_cell=work.plan.automatic_cell,
            max_edges=max_edges,
            store=store,
            finish=work.finish,
            refuse=work.refuse,
            debug=debug,
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one structure: whether it converged, a row of the table, a record for JSON, a line about it."""

    converged: bool
    row: Sequence[str]
    record: dict[str, Any]
    line: str


@dataclass(frozen=True)
class Plan:
    """What all structures have in common.

    Attributes:
        options: options of the relaxations.
        folder: where results go.
        automatic_cell: relax the cell of structures periodic along three axes, and of no others.
        calculator: what to call the calculator in the records.
    """

    options: RelaxOptions
    folder: Path
    automatic_cell: bool
    calculator: str

    def options_for(self, frame: Frame) -> dict[str, Any]:
        """Give the options of one structure.

        Raises:
            ValueError: for a pressure on a structure whose cell stays.
        """
        options = self.options.to_dict()
        if self.automatic_cell:
            options["cell"] = bool(frame.atoms.pbc.all())
            if not options["cell"] and options["pressure"] != 0.0:
                raise ValueError("a pressure needs a structure that is periodic along three axes.")
        return options

    def write(self, frame: Frame, name: str, result: RelaxResult, others: Sequence[Path] = ()) -> Outcome:
        """Write the files of a relaxed structure.

        Raises:
            OSError: if one cannot be written.
        """
        from forcefield import __version__
        from forcefield.cli.io import write_json, write_structure

        written = write_structure(result.atoms, self.folder, f"{name}_relaxed", frame.path)
        record = {
            "source": str(frame.path),
            "frame": frame.number,
            **result.to_dict(),
            "options": self.options_for(frame),
            "calculator": self.calculator,
            "files": [path.name for path in (*written, *others)],
            "forcefield_version": __version__,
        }
        write_json(self.folder / f"{name}_relax.json", record)
        line = f"{frame.label}: {result.verdict} after {result.steps} steps, {result.energy_per_atom:.4f} eV/atom"
        return Outcome(result.converged, _row(frame.label, result), record, line)


@dataclass(frozen=True)
class Job:
    """One structure to relax, complete enough to be relaxed in another process."""

    plan: Plan
    frame: Frame
    name: str

    def run(self, engine: Any, progress: Progress, memory: dict[str, Any]) -> Outcome:
        """Relax the structure and write its files."""
        from forcefield.workflows import relax as relax_structure

        def show(step: RelaxStep) -> None:
            steps = self.plan.options.steps
            progress.detail(f"{self.frame.label}  step {step.step}/{steps}  {step.max_force:.3f} eV/Å")

        trajectory = self.plan.folder / f"{self.name}_relax.traj"
        options = self.plan.options_for(self.frame)
        result = relax_structure(self.frame.atoms, engine, trajectory=trajectory, callback=show, **options)
        return self.plan.write(self.frame, self.name, result, [trajectory])


@dataclass
class Batch:
    """Structures relaxed with the same options, and what became of them in the order of the files.

    Attributes:
        plan: what they have in common.
        names: names of the results.
        outcomes: of each structure by its label; None while it is under way.
    """

    plan: Plan
    names: OutputNames
    outcomes: dict[str, Outcome | None] = field(default_factory=dict)

    @property
    def finished(self) -> list[Outcome]:
        """What became of the structures."""
        return [outcome for outcome in self.outcomes.values() if outcome is not None]

    def process(self, frame: Frame, progress: ProgressLine, engine: Any) -> str:
        """Relax one structure in this process, write its files, and say how it went.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once everything is written.
        """
        _, job = self.prepare(frame)
        outcome = job.run(engine, progress, {})
        line = self.accept(frame.label, outcome)
        if outcome.record["reason"] == "interrupted":
            raise KeyboardInterrupt
        return line

    def prepare(self, frame: Frame) -> tuple[str, Job]:
        """Give the job of a structure, whose name no other has."""
        self.outcomes[frame.label] = None
        return "", Job(self.plan, frame, self._name(frame))

    def accept(self, label: str, outcome: Outcome) -> str:
        """Keep what became of a structure."""
        self.outcomes[label] = outcome
        return outcome.line

    def finish(self, frame: Frame, result: RelaxResult) -> str:
        """Write the files of a structure that was relaxed in a batch, and say how it went."""
        return self.accept(frame.label, self.plan.write(frame, self._name(frame), result))

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        row = [label, "failed", *["-"] * (len(COLUMNS) - 2)]
        record = {"source": label, "converged": False, "reason": "failed", "error": message}
        self.outcomes[label] = Outcome(False, row, record, f"{label}: {message}")

    def _name(self, frame: Frame) -> str:
        return self.names.name(frame.path, frame.number if frame.siblings > 1 else None)


def _row(label: str, result: RelaxResult) -> list[str]:
    before, after = result.spacegroup_before, result.spacegroup_after
    change = None if result.volume_change is None else 100.0 * result.volume_change
    return [
        label,
        result.verdict,
        str(len(result.atoms)),
        str(result.steps),
        format_number(result.energy_per_atom, 4),
        format_number(result.max_force, 4),
        format_number(result.pressure, 3),
        format_number(change, 2, sign=True),
        "-" if before is None or after is None else str(after) if before == after else f"{before} -> {after}",
    ]
