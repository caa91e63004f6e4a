"""One folder a structure: what commands that compute a property of each structure have in common.

`OUTPUT/NAME/result.json` is written last, so its presence means that the structure is done. `--resume` then takes it
from there if structure, options and calculator are the same, and hands the workflow what an interrupted run left in the
folder. A command gives `run_over_structures` a function that computes one structure and one that makes a table row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.report import (
    INTERRUPTED,
    ProgressLine,
    fail,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)

if TYPE_CHECKING:
    from forcefield.cli.io import Frame, OutputNames
    from forcefield.workflows.force_store import ForceStore

RESULT = "result.json"
STATE = "state.json"  # what an unfinished folder belongs to
FORCES = "forces.jsonl"  # forces and structures computed so far

OutputDir = Annotated[
    Path | None,
    typer.Option(help="Folder for the results, one inside it for each structure.  [default: named as the command]"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip what is done and go on with what an interrupted run left.")
]
Plots = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw figures (needs matplotlib).")]


@dataclass(frozen=True)
class StructureFolder:
    """The folder of one structure.

    Attributes:
        path: the folder.
        identity: command, options, calculator and a hash of the structure; two runs of the same identity give the same.
        resumed: whether files of an interrupted run of the same identity may be used.
    """

    path: Path
    identity: Mapping[str, Any]
    resumed: bool

    def finished_record(self) -> dict[str, Any] | None:
        """Give the record of an earlier run of the same identity, or None."""
        record = _read_json(self.path / RESULT)
        return record if self.resumed and record is not None and record.get("identity") == self.identity else None


def open_folder(path: Path, identity: Mapping[str, Any], *, resume: bool) -> StructureFolder:
    """Make or enter the folder of a structure.

    Raises:
        ValueError: if it cannot be written to, or holds results of another command.
    """
    from forcefield.cli.io import prepare_folder
    from forcefield.workflows.outcome import write_result

    prepare_folder(path)
    earlier = _read_json(path / RESULT) or {}
    before = earlier.get("identity") or _read_json(path / STATE) or {}
    if before.get("command") not in (None, identity["command"]):
        raise ValueError(
            f"{path} holds results of `forcefield {before['command']}`; choose another --output-dir or remove them."
        )
    same = before == identity
    if not (resume and same):
        for name in (RESULT, *earlier.get("files", ())):
            (path / Path(name).name).unlink(missing_ok=True)
        write_result(path / STATE, identity)
    return StructureFolder(path, identity, resume and same)


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def open_store(folder: StructureFolder) -> ForceStore:
    """Open the file in which a workflow keeps its forces, emptied unless the run is resumed."""
    from forcefield.workflows.force_store import ForceStore

    return ForceStore(folder.path / FORCES, resume=folder.resumed)


def structure_hash(atoms: Any) -> str:
    """Hash numbers, positions, cell, periodicity and masses of a structure."""
    import numpy as np

    digest = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses()):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Command:
    """What tells one command over structures from another.

    Attributes:
        name: as on the command line; also the default output folder.
        columns: headings of the table after "structure" and "verdict".
        row: gives the texts for these columns from a record.
        compute: computes a structure; (frame, folder, progress) -> record for JSON with at least "ok" and "verdict".
        options: the options, for the record and for `--resume`.
    """

    name: str
    columns: Sequence[str]
    row: Callable[[Mapping[str, Any]], Sequence[str]]
    compute: Callable[[Frame, StructureFolder, ProgressLine], Mapping[str, Any]]
    options: Mapping[str, Any]


@dataclass
class _Outcomes:
    rows: list[Sequence[str]] = field(default_factory=list)
    records: list[Mapping[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def run_over_structures(
    command: Command,
    files: Sequence[Path],
    *,
    index: str,
    output_dir: Path | None,
    resume: bool,
    calculator_name: str,
    as_json: bool,
    debug: bool,
) -> None:
    """Compute every structure of every file into its folder, show a table, and end with the exit status.

    The status is 0 where all are ok, 1 where one is not or failed, 2 for wrong usage and 130 after Ctrl-C.
    """
    root = output_dir or Path(command.name)
    with one_line_errors(debug=debug):
        from forcefield.cli.io import OutputNames, parse_index, prepare_folder

        parse_index(index)
        prepare_folder(root)
    runner = _Runner(command, root, OutputNames(files), resume, calculator_name)
    interrupted = work_through(files, index, process=runner.process, refuse=runner.refuse, debug=debug)
    outcomes = runner.outcomes
    ok = sum(bool(record["ok"]) for record in outcomes.records)
    if as_json:
        print_json(outcomes.records)
    else:
        print_table(("structure", "verdict", *command.columns), outcomes.rows, numeric=command.columns)
        print_summary(f"{ok} of {len(outcomes.records)} without objection; results are in {root}", outcomes.failures)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if ok < len(outcomes.records):
        raise typer.Exit(1)


class _Runner:
    """Computes or skips one structure after the other and remembers what to show."""

    def __init__(self, command: Command, root: Path, names: OutputNames, resume: bool, calculator_name: str) -> None:
        self.command = command
        self.root = root
        self.names = names
        self.resume = resume
        self.calculator_name = calculator_name
        self.outcomes = _Outcomes()

    def process(self, frame: Frame, progress: ProgressLine) -> str:
        """Bring one structure to its record and say how it went."""
        name = self.names.name(frame.path, frame.number if frame.siblings > 1 else None)
        folder = open_folder(self.root / name, self._identity(frame), resume=self.resume)
        record, how = folder.finished_record(), "done before, "
        if record is None:
            progress.detail(frame.label)
            record, how = self._compute(frame, folder, progress), ""
        self.outcomes.records.append(record)
        self.outcomes.rows.append([frame.label, record["verdict"], *self.command.row(record)])
        return f"{frame.label}: {how}{record['verdict']}"

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        self.outcomes.rows.append([label, "failed", *["-"] * len(self.command.columns)])
        self.outcomes.records.append({"source": label, "ok": False, "verdict": "failed", "error": message})
        self.outcomes.failures.append(f"{label}: {message}")

    def _identity(self, frame: Frame) -> dict[str, Any]:
        from forcefield import __version__
        from forcefield.workflows.outcome import plain

        return {
            "command": self.command.name,
            "structure": structure_hash(frame.atoms),
            "options": plain(self.command.options),
            "calculator": self.calculator_name,
            "forcefield_version": __version__,
        }

    def _compute(self, frame: Frame, folder: StructureFolder, progress: ProgressLine) -> dict[str, Any]:
        from forcefield.workflows.outcome import plain, write_result

        computed = plain(self.command.compute(frame, folder, progress))
        own = (RESULT, STATE, FORCES)
        files = sorted(path.name for path in folder.path.iterdir() if path.is_file() and path.name not in own)
        source = {"source": str(frame.path), "frame": frame.number}
        record = {**source, **computed, "identity": dict(folder.identity), "files": files}
        write_result(folder.path / RESULT, record)
        for name in (STATE, FORCES):  # what only an unfinished structure needs
            (folder.path / name).unlink(missing_ok=True)
        return record


def load_engine(calculator: str | None, model: str | None, device: str | None, dtype: str | None) -> tuple[Any, str]:
    """Make the calculator of a command that takes finite differences, in float64 unless told otherwise, and name it.

    Raises:
        ValueError: if both a calculator and a model option came, or the calculator cannot be loaded.
    """
    from forcefield.cli.io import load_calculator

    precision = dtype if calculator is not None else dtype or "float64"
    name = calculator or f"{model or 'default'} {precision}"
    return load_calculator(calculator, model, device, precision), name


def plots_wanted(plots: bool) -> None:
    """Fail in one line where figures are to be drawn and matplotlib is missing."""
    if plots:
        from forcefield.workflows.outcome import require_package

        try:
            require_package("matplotlib")
        except ImportError as error:
            fail(f"{error} Or use --no-plots.")
