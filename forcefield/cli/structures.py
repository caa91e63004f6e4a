"""Commands that compute a property of every structure of the files, each into its own folder.

Such a command gives `run_over_structures` a `Command`: a function that computes one structure and one that makes its
row of the table. Resuming, several processes, the table, JSON, the report and the exit status are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.folder import StructureFolder, finish_folder, open_folder, open_store
from forcefield.cli.options import CalculatorChoice, FolderOptions
from forcefield.cli.report import INTERRUPTED, fail, one_line_errors, print_json, print_summary, print_table

if TYPE_CHECKING:
    from forcefield.cli.report import ProgressLine
    from forcefield.workflows.force_store import ForceStore


_rehearsal: ContextVar[bool] = ContextVar("rehearsal", default=False)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Within this, commands check their options and load their calculator, but neither compute nor write anything."""
    token = _rehearsal.set(True)
    try:
        yield
    finally:
        _rehearsal.reset(token)


class Subject(Protocol):
    """What a command computes one after the other: a `Frame`, or a whole file; see there."""

    @property
    def label(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def number(self) -> int: ...
    @property
    def siblings(self) -> int: ...
    @property
    def origin(self) -> dict[str, Any]: ...

    def identity(self) -> dict[str, Any]:
        """Tell it from others, for `--resume`."""


class Names(Protocol):
    """Names the folders of the results: `OutputNames`."""

    def name(self, path: Path, number: int | None = None) -> str:
        """Give a name that was not given before."""


class Progress(Protocol):
    """Where a task says how it goes: a `ProgressLine`, or a list of notes in another process."""

    def detail(self, text: str) -> None:
        """Show what goes on at the moment."""

    def note(self, text: str) -> None:
        """Leave a line."""


@dataclass(frozen=True)
class Task:
    """One structure to compute.

    Attributes:
        frame: the structure, a `Frame` unless the command works on something else.
        folder: its folder.
        engine: the ASE calculator.
        inputs: of the command.
        plots: whether to draw figures.
        progress: where to say how it goes.
        memory: what tasks of one process have in common.
    """

    frame: Any
    folder: StructureFolder
    engine: Any
    inputs: Mapping[str, Any]
    plots: bool
    progress: Progress
    memory: dict[str, Any]

    @property
    def store(self) -> ForceStore:
        """Forces kept from an interrupted run, if resumed."""
        return open_store(self.folder)

    def show(self, text: str) -> None:
        """Show what goes on at the moment."""
        self.progress.detail(f"{self.frame.label}  {text}")

    def count(self, what: str) -> Callable[..., None]:
        """Give a callback that shows which of how many is computed, and its number of atoms where it is told."""

        def show(done: int, total: int, n_atoms: int | None = None) -> None:
            self.show(f"{what} {done + 1}/{total}" + ("" if n_atoms is None else f"  {n_atoms} atoms"))

        return show

    def note(self, texts: Sequence[str]) -> None:
        """Leave lines, such as the warnings of a result."""
        for text in texts:
            self.progress.note(f"{self.frame.label}: {text}")


@dataclass(frozen=True)
class Command:
    """What tells one command over structures from another.

    Attributes:
        name: as on the command line; also the default output folder.
        columns: headings of the table after the subject and "verdict".
        row: gives the texts for these columns from a record.
        compute: computes a structure and gives its record for JSON, with at least "ok" and "verdict"; a function of a
            module, so that other processes find it.
        identity: the options as JSON knows them, for the record and for `--resume`.
        inputs: what `compute` needs; the identity if not given.
        plots: whether to draw figures; None for a command that has none.
        precision: precision of a model where the user gave none.
        subject: what the command works on, the first heading of the table.
        packages: optional packages that every structure needs.
    """

    name: str
    columns: Sequence[str]
    row: Callable[[Mapping[str, Any]], Sequence[str]]
    compute: Callable[[Task], Mapping[str, Any]]
    identity: Mapping[str, Any]
    inputs: Mapping[str, Any] | None = None
    plots: bool | None = None
    precision: str = "float32"
    subject: str = "structure"
    packages: Sequence[str] = ()


@dataclass(frozen=True)
class Job:
    """One structure of a command, complete enough to be computed in another process."""

    compute: Callable[[Task], Mapping[str, Any]]
    frame: Subject
    folder: StructureFolder
    inputs: Mapping[str, Any]
    plots: bool

    def run(self, engine: Any, progress: Progress, memory: dict[str, Any]) -> dict[str, Any]:
        """Compute the structure and write its record."""
        task = Task(self.frame, self.folder, engine, self.inputs, self.plots, progress, memory)
        record = self.compute(task)
        task.note([f"warning: {text}" for text in record.get("warnings", ())])
        return finish_folder(self.folder, {**self.frame.origin, **record})


def run_over_structures(
    command: Command, files: Sequence[Path], choice: CalculatorChoice, options: FolderOptions
) -> list[dict[str, Any]]:
    """Compute every structure of every file into its folder, show a table, and end with the exit status.

    The status is 0 where all are ok, 1 where one is not or failed, 2 for wrong usage and 130 after Ctrl-C.

    Returns:
        The records in the order of the structures, where the status is 0.
    """
    outcomes = compute_structures(command, files, choice, options)
    outcomes.end()
    return outcomes.records


def compute_structures(
    command: Command, files: Sequence[Path], choice: CalculatorChoice, options: FolderOptions
) -> Outcomes:
    """As `run_over_structures`, but leave the exit status to the caller: `Outcomes.end`."""
    root = options.output_dir or Path(command.name)
    choice = choice.with_precision(command.precision)
    with one_line_errors(debug=options.debug):
        from forcefield.cli.io import OutputNames, parse_index, prepare_folder
        from forcefield.workflows.outcome import require_package

        parse_index(options.index)
        for package in command.packages:
            require_package(package)
        refuse_plots_without_matplotlib(command.plots)
        engine = choice.load()
        if _rehearsal.get():
            return Outcomes([], [], interrupted=False)
        prepare_folder(root)
    runner = Runner(command, root, OutputNames(files), options.resume, choice.name)
    if options.workers == 1:
        memory: dict[str, Any] = {}
        runner.interrupted = work_through(
            files,
            options.index,
            process=lambda frame, progress: runner.process(frame, progress, engine, memory),
            refuse=runner.refuse,
            debug=options.debug,
        )
    else:
        from forcefield.cli.processes import work_in_processes

        runner.interrupted = work_in_processes(
            files, options.index, runner, choice, workers=options.workers, debug=options.debug
        )
    return runner.show(as_json=options.as_json)


def refuse_plots_without_matplotlib(plots: bool | None) -> None:
    """Raise `ImportError` where figures are to be drawn and matplotlib is missing."""
    if plots:
        from forcefield.workflows.outcome import require_package

        try:
            require_package("matplotlib")
        except ImportError as error:
            fail(f"{error} Or use --no-plots.")


@dataclass
class Outcomes:
    """What became of the structures.

    Attributes:
        records: one for each structure, in the order of the files.
        failures: label and reason of those that failed, and of the report if it could not be written.
        interrupted: whether Ctrl-C ended the run.
    """

    records: list[dict[str, Any]]
    failures: list[str]
    interrupted: bool

    def end(self) -> None:
        """Leave with the exit status, unless all is well."""
        if self.interrupted:
            raise typer.Exit(INTERRUPTED)
        if self.failures or not all(record["ok"] for record in self.records):
            raise typer.Exit(1)


@dataclass
class Runner:
    """Computes or skips one structure after the other and remembers what to show."""

    command: Command
    root: Path
    names: Names
    resume: bool
    calculator_name: str
    interrupted: bool = False
    labels: list[str] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)

    def process(self, frame: Subject, progress: ProgressLine, engine: Any, memory: dict[str, Any]) -> str:
        """Bring one structure to its record in this process and say how it went."""
        done, job = self.prepare(frame)
        if job is None:
            return done
        progress.detail(frame.label)
        return self.accept(frame.label, job.run(engine, progress, memory))

    def prepare(self, frame: Subject) -> tuple[str, Job | None]:
        """Open the folder of a structure: a line about one that is done, or the job that is left to do."""
        self.labels.append(frame.label)
        name = self.names.name(frame.path, frame.number if frame.siblings > 1 else None)
        folder = open_folder(self.root / name, self._identity(frame), resume=self.resume)
        self.folders[frame.label] = folder.path
        record = folder.finished_record()
        if record is not None:
            return self.accept(frame.label, record, "done before, "), None
        inputs = self.command.identity if self.command.inputs is None else self.command.inputs
        return "", Job(self.command.compute, frame, folder, inputs, bool(self.command.plots))

    def accept(self, label: str, record: dict[str, Any], how: str = "") -> str:
        """Keep the record of a structure and put it into a line."""
        self.records[label] = record
        return f"{label}: {how}{record['verdict']}"

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        if label not in self.labels:
            self.labels.append(label)
        self.records[label] = {"source": label, "ok": False, "verdict": "failed", "error": message}

    def show(self, *, as_json: bool) -> Outcomes:
        """Print table or JSON, and write the report."""
        from forcefield.cli.html_report import Section, report_failures

        shown = [label for label in self.labels if label in self.records]
        records = [self.records[label] for label in shown]
        failures = [f"{label}: {self.records[label]['error']}" for label in shown if "error" in self.records[label]]
        columns = (self.command.subject, "verdict", *self.command.columns)
        rows = [self._row(label, self.records[label]) for label in shown]
        sections = [Section(label, self.records[label], self.folders.get(label)) for label in shown]
        title = f"forcefield {self.command.name}"
        failures += report_failures(self.root, title, (columns, rows), sections, self.calculator_name)
        if as_json:
            print_json(records)
        else:
            ok = sum(bool(record["ok"]) for record in records)
            print_table(columns, rows, numeric=self.command.columns)
            early = ", interrupted before the others (--resume goes on)" if self.interrupted else ""
            print_summary(f"{ok} of {len(records)} without objection{early}; results are in {self.root}", failures)
        return Outcomes(records, failures, self.interrupted)

    def _row(self, label: str, record: Mapping[str, Any]) -> list[str]:
        if "error" in record:
            return [label, "failed", *["-"] * len(self.command.columns)]
        return [label, record["verdict"], *self.command.row(record)]

    def _identity(self, frame: Subject) -> dict[str, Any]:
        from forcefield import __version__
        from forcefield.workflows.outcome import plain

        plots = {} if self.command.plots is None else {"plots": self.command.plots}
        return {
            "command": self.command.name,
            **frame.identity(),
            "options": plain({**self.command.identity, **plots}),
            "calculator": self.calculator_name,
            "forcefield_version": __version__,
        }
