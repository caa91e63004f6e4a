"""What `forcefield relax` does with each structure, in this process, in another or in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefield.cli.report import ProgressLine, format_number

if TYPE_CHECKING:
    from forcefield.cli.io import Frame, OutputNames
    from forcefield.cli.structures import Progress
    from forcefield.workflows import RelaxOptions, RelaxResult, RelaxStep
    from forcefield.workflows.relax_setup import Settled

NUMERIC = ("atoms", "steps", "energy\neV/atom", "max force\neV/Å", "pressure\nGPa", "volume\n%")
DONE_BEFORE = "done before, "  # begins what is said of a result that was there
COLUMNS = ("structure", "status", *NUMERIC, "space group")


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
        automatic_cell: relax the cell of crystals, and of no others.
        calculator: what to call the calculator in the records.
        resume: take what an earlier run finished from its files.
        plots: draw a figure of every relaxation.
    """

    options: RelaxOptions
    folder: Path
    automatic_cell: bool
    calculator: str
    resume: bool = False
    plots: bool = False

    def settle(self, frame: Frame) -> Settled:
        """Give the options of one structure, and what was chosen for it that the user may not expect.

        Raises:
            ValueError: for a pressure on a structure whose cell stays.
        """
        from forcefield.workflows.relax_setup import settle_cell

        return settle_cell(frame.atoms, self.options, automatic_cell=self.automatic_cell)

    def tell(self, frame: Frame, note: Callable[[str], None]) -> None:
        """Say what was chosen for a structure that the user may not expect."""
        notice = self.settle(frame).notice
        if notice is not None:
            note(f"{frame.label}: warning: {notice}")

    def write(
        self,
        frame: Frame,
        name: str,
        result: RelaxResult,
        others: Sequence[Path] = (),
        steps: Sequence[RelaxStep] = (),
        *,
        how: str = "",
    ) -> Outcome:
        """Write the files of a relaxed structure: first the structure, last the record, which marks it as done.

        Raises:
            OSError: if one cannot be written.
        """
        from forcefield.cli.io import write_json, write_structure

        written = write_structure(result.atoms, self.folder, f"{name}_relaxed", frame.path)
        figures = self._draw(name, result, steps)
        notice = self.settle(frame).notice
        record = {
            **frame.origin,
            **result.to_dict(),
            "verdict": result.verdict,
            "warnings": [] if notice is None else [notice],
            **self.identity(frame),
            "files": [path.name for path in (*written, *others, *figures)],
        }
        write_json(self.folder / f"{name}_relax.json", record)
        return _outcome(frame.label, record, how)

    def _draw(self, name: str, result: RelaxResult, steps: Sequence[RelaxStep]) -> list[Path]:
        """Draw the figure, if there is to be one and it has something to show."""
        if not self.plots or len(steps) < 2:
            return []
        from forcefield.workflows.plots_relax import plot_relaxation

        path = self.folder / f"{name}_relax.png"
        return [plot_relaxation(steps, result, path, fmax=self.options.fmax, smax=self.options.smax)]

    def identity(self, frame: Frame) -> dict[str, Any]:
        """Give the part of a record that two relaxations of the same result have in common.

        Raises:
            ValueError: for a pressure on a structure whose cell stays.
        """
        from forcefield import __version__

        about = {"calculator": self.calculator, "forcefield_version": __version__}
        return {**frame.identity(), "options": self.settle(frame).options.to_dict(), **about}

    def earlier(self, frame: Frame, name: str) -> Outcome | None:
        """Give what an earlier run of the same identity finished, if all of its files are there."""
        from forcefield.cli.folder import read_json

        record = read_json(self.folder / f"{name}_relax.json") if self.resume else None
        if record is None or record.get("reason") == "interrupted":
            return None
        same = all(record.get(part) == value for part, value in self.identity(frame).items())
        whole = same and all((self.folder / path).is_file() for path in record["files"])
        return _outcome(frame.label, record, DONE_BEFORE) if whole else None


@dataclass(frozen=True)
class Job:
    """One structure to relax, complete enough to be relaxed in another process."""

    plan: Plan
    frame: Frame
    name: str

    def run(self, engine: Any, progress: Progress, memory: dict[str, Any]) -> Outcome:
        """Relax the structure and write its files."""
        from forcefield.workflows import relax as relax_structure

        taken: list[RelaxStep] = []

        def show(step: RelaxStep) -> None:
            steps = self.plan.options.steps
            taken.append(step)
            progress.detail(f"{self.frame.label}  step {step.step}/{steps}  {step.max_force:.3f} eV/Å")

        self.plan.tell(self.frame, progress.note)
        trajectory = self.plan.folder / f"{self.name}_relax.traj"
        options = self.plan.settle(self.frame).options.to_dict()
        result = relax_structure(self.frame.atoms, engine, trajectory=trajectory, callback=show, **options)
        return self.plan.write(self.frame, self.name, result, [trajectory], taken)


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
        line, job = self.prepare(frame)
        if job is None:
            return line
        outcome = job.run(engine, progress, {})
        line = self.accept(frame.label, outcome)
        if outcome.record["reason"] == "interrupted":
            raise KeyboardInterrupt
        return line

    def prepare(self, frame: Frame) -> tuple[str, Job | None]:
        """Give the job of a structure, whose name no other has, or none and a line about one that is done."""
        self.outcomes[frame.label] = None
        name = self._name(frame)
        earlier = self.plan.earlier(frame, name)
        if earlier is not None:
            return self.accept(frame.label, earlier), None
        return "", Job(self.plan, frame, name)

    def accept(self, label: str, outcome: Outcome) -> str:
        """Keep what became of a structure."""
        self.outcomes[label] = outcome
        return outcome.line

    def finish(self, frame: Frame, result: RelaxResult, *, stored: bool) -> str:
        """Write the files of a structure that was relaxed in a batch, now or before, and say how it went."""
        how = DONE_BEFORE if stored else ""
        return self.accept(frame.label, self.plan.write(frame, self._name(frame), result, how=how))

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""
        row = [label, "failed", *["-"] * (len(COLUMNS) - 2)]
        record = {"source": label, "converged": False, "reason": "failed", "error": message}
        self.outcomes[label] = Outcome(False, row, record, f"{label}: {message}")

    def _name(self, frame: Frame) -> str:
        return self.names.name(frame.path, frame.number if frame.siblings > 1 else None)


def _outcome(label: str, record: dict[str, Any], how: str = "") -> Outcome:
    """Tell of a relaxation from its record."""
    return Outcome(record["converged"], _row(label, record), record, f"{label}: {how}{summary(record)}")


def summary(record: Mapping[str, Any]) -> str:
    """Say how a relaxation went."""
    energy = format_number(record["energy_per_atom"], 4)
    return f"{record['verdict']} after {record['steps']} steps, {energy} eV/atom"


def _row(label: str, record: Mapping[str, Any]) -> list[str]:
    groups = [record["spacegroup_before"], record["spacegroup_after"]]
    before, after = (None if group is None else f"{group['symbol']} ({group['number']})" for group in groups)
    change = None if record["volume_change"] is None else 100.0 * record["volume_change"]
    return [
        label,
        record["verdict"],
        str(record["n_atoms"]),
        str(record["steps"]),
        format_number(record["energy_per_atom"], 4),
        format_number(record["max_force"], 4),
        format_number(record["pressure"], 3),
        format_number(change, 2, sign=True),
        "-" if before is None or after is None else after if before == after else f"{before} -> {after}",
    ]
