"""What `forcefield relax` does with each structure, in this process, in another or in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefield.cli.report import ProgressLine, format_number

if TYPE_CHECKING:
    from forcefield.cli.io import Frame, OutputNames
    from forcefield.cli.structures import Progress
    from forcefield.workflows import RelaxOptions, RelaxResult, RelaxStep

NUMERIC = ("atoms", "steps", "energy\neV/atom", "max force\neV/Å", "pressure\nGPa", "volume\n%")
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
