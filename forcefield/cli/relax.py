"""`forcefield relax`: relax every structure of the files and write what came out as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import work_through
from forcefield.cli.groups import expand_groups
from forcefield.cli.html_report import Section, report_failures
from forcefield.cli.options import AsJson, CalculatorChoice, CellAxes, Debug, Files, Index, Resume, Workers
from forcefield.cli.relax_work import COLUMNS, NUMERIC, Batch, Outcome, Plan, summary
from forcefield.cli.report import INTERRUPTED, fail, one_line_errors, print_json, print_summary, print_table
from forcefield.cli.structures import refuse_plots_without_matplotlib

if TYPE_CHECKING:
    from forcefield.workflows import RelaxOptions


@dataclass(frozen=True)
class Relaxation:
    """When and how a structure counts as relaxed."""

    cell: Annotated[
        bool | None,
        typer.Option(
            "--cell/--fixed-cell",
            help="Relax the cell too, or keep it.  [default: relax that of crystals; slabs and molecules keep theirs]",
        ),
    ] = None
    cell_axes: CellAxes = "abc"
    fmax: Annotated[float, typer.Option(help="Largest force accepted (eV/Å).")] = 0.02
    smax: Annotated[float, typer.Option(help="Largest stress component left, for a relaxed cell (GPa).")] = 0.05
    steps: Annotated[int, typer.Option(help="Most steps for a structure.")] = 500
    optimizer: Annotated[
        str, typer.Option(help="FIRE, FIRE2, BFGS, LBFGS, BFGSLineSearch, LBFGSLineSearch or MDMin.")
    ] = "FIRE"
    pressure: Annotated[float, typer.Option(help="External pressure (GPa), with a relaxed cell.")] = 0.0
    symmetry: Annotated[bool, typer.Option("--symmetry/--no-symmetry", help="Keep the space group.")] = False

    def options(self) -> RelaxOptions:
        """As the workflow takes them.

        Raises:
            ValueError: if one of them is out of range.
        """
        from forcefield.workflows import RelaxOptions

        if self.cell is False and self.pressure != 0.0:
            fail(f"--pressure {self.pressure} came with --fixed-cell, but a pressure needs a cell that can change.")
        if self.cell is False and self.cell_axes != "abc":
            fail(f"--cell-axes {self.cell_axes} came with --fixed-cell. Leave one of them out.")
        return RelaxOptions(**{**vars(self), "cell": bool(self.cell)})


@dataclass(frozen=True)
class Batching:
    """Whether structures are relaxed together, and how."""

    batch: Annotated[
        bool, typer.Option("--batch/--one-by-one", help="Relax many structures at once (FIRE and LBFGS).")
    ] = False
    max_edges: Annotated[
        int | None, typer.Option(min=1, help="Neighbour pairs in a batch.  [default: by the device]")
    ] = None
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --batch: own, torch-sim or auto, which is own.  [default: auto]"),
    ] = None
    resume: Resume = False

    def check(self, workers: int, plots: bool | None) -> None:
        """End the command where options contradict each other."""
        if not self.batch and (self.max_edges is not None or self.engine is not None):
            fail("--max-edges and --engine belong to --batch.")
        if self.batch and plots:
            fail("--plots came with --batch, which keeps no steps to draw.")
        if self.batch and workers > 1:
            fail(f"--workers {workers} came with --batch, which relaxes all structures in one process. Use one.")


@expand_groups
def relax(
    files: Files,
    *,
    relaxation: Relaxation,
    output_dir: Annotated[Path, typer.Option(help="Folder for the results; made if needed.")] = Path("."),
    batching: Batching,
    workers: Workers = 1,
    index: Index = ":",
    plots: Annotated[
        bool | None,
        typer.Option(
            "--plots/--no-plots",
            help="Draw a figure of every relaxation.  [default: with --output-dir, where matplotlib is installed]",
        ),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
    choice: CalculatorChoice,
) -> None:
    """Relax structures to a minimum of energy, or of enthalpy at a pressure.

    For each structure NAME come NAME_relaxed in the input's format and as extxyz, NAME_relax.traj with every step and
    NAME_relax.json with the result, each as soon as it is ready; files of an earlier run are replaced. A folder given
    by --output-dir gets NAME_relax.png and report.html as well, a page about all of them. The status is 0 where all
    structures converged, 1 where one did not or failed, 2 for wrong usage and 130 after Ctrl-C, which keeps what was
    done. --workers shares the structures out over processes; Ctrl-C then drops those at work. --resume leaves out the
    structures whose files are there, unless structure, options or calculator have changed; the others begin anew.

    With --batch structures are evaluated together, which is several times faster for many small ones. There
    is no .traj then, and relax_batch.jsonl in the folder keeps what is done for --resume.
    """
    with one_line_errors(debug=debug):
        from forcefield.cli.io import OutputNames, parse_index, prepare_folder

        options = relaxation.options()
        batching.check(workers, plots)
        if plots is None:
            plots = not batching.batch and output_dir != Path(".") and find_spec("matplotlib") is not None
        refuse_plots_without_matplotlib(plots)
        parse_index(index)
        prepare_folder(output_dir)
        calculator = choice.load()
    resume = batching.resume and not batching.batch
    plan = Plan(options, output_dir, relaxation.cell is None, choice.name, resume, plots)
    work = Batch(plan, OutputNames(files))
    if batching.batch:
        interrupted = _together(work, calculator, files, index, batching, debug=debug)
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
    _report(work.finished, plan, as_json=as_json)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if not all(outcome.converged for outcome in work.finished):
        raise typer.Exit(1)


def _report(outcomes: Sequence[Outcome], plan: Plan, *, as_json: bool) -> None:
    """Show what became of the structures, and leave a page about it in a folder made for the results."""
    failures = [outcome.line for outcome in outcomes if "error" in outcome.record]
    if plan.folder != Path("."):
        table = COLUMNS, [outcome.row for outcome in outcomes]
        failures += report_failures(plan.folder, "forcefield relax", table, _sections(outcomes, plan), plan.calculator)
    if as_json:
        print_json([outcome.record for outcome in outcomes])
        return
    print_table(COLUMNS, [outcome.row for outcome in outcomes], numeric=NUMERIC)
    converged = sum(outcome.converged for outcome in outcomes)
    print_summary(f"{converged} of {len(outcomes)} converged; results are in {plan.folder}", failures)


def _sections(outcomes: Sequence[Outcome], plan: Plan) -> list[Section]:
    """What the page tells of each structure."""
    sections = []
    for outcome in outcomes:
        record = outcome.record
        failed = "error" in record
        about = {**record, "verdict": "failed" if failed else summary(record), "identity": record}
        sections.append(Section(outcome.row[0], about, None if failed else plan.folder))
    return sections


def _together(
    work: Batch, calculator: Any, files: Sequence[Path], index: str, batching: Batching, *, debug: bool
) -> bool:
    """Relax in a batch; whether Ctrl-C ended it early."""
    from forcefield.cli.relax_batch import STORE, relax_together

    with one_line_errors(debug=debug):
        if not batching.resume:
            (work.plan.folder / STORE).unlink(missing_ok=True)
        engine = batching.engine or "auto"
        return relax_together(files, index, work, calculator, engine=engine, max_edges=batching.max_edges, debug=debug)
