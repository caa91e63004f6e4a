"""`forcefield neb`: the barrier between two structures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import warnings_noted
from forcefield.cli.folder import RESULT
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import (
    AsJson,
    CalculatorChoice,
    Debug,
    OutputDir,
    Plots,
    Resume,
)
from forcefield.cli.report import (
    INTERRUPTED,
    ProgressLine,
    format_number,
    one_line_errors,
    print_json,
    print_summary,
    print_table,
)
from forcefield.cli.structures import refuse_plots_without_matplotlib

if TYPE_CHECKING:
    from ase import Atoms

    from forcefield.workflows.barrier import BarrierResult, NEBStep

COLUMNS = ("forward\neV", "reverse\neV", "reaction\neV", "images", "steps", "max force\neV/Å")
PATH = "path.extxyz"
SADDLE = "saddle.extxyz"
BAND = "band.json"


@expand_groups
def neb(
    initial: Annotated[Path, typer.Argument(metavar="INITIAL", help="Structure at the start (last frame).")],
    final: Annotated[Path, typer.Argument(metavar="FINAL", help="Structure at the end (last frame).")],
    n_images: Annotated[int, typer.Option(help="Images between the ends.")] = 5,
    climb: Annotated[bool, typer.Option("--climb/--no-climb", help="Let the highest image climb.")] = True,
    relax_ends: Annotated[bool, typer.Option("--relax-ends/--no-relax-ends", help="Relax both ends first.")] = True,
    mapping: Annotated[
        bool,
        typer.Option("--mapping/--no-mapping", help="Pair the atoms of both ends by distance, or keep their order."),
    ] = True,
    interpolation: Annotated[str, typer.Option(help="idpp or linear.")] = "idpp",
    optimizer: Annotated[str, typer.Option(help="FIRE or ode.")] = "FIRE",
    fmax: Annotated[float, typer.Option(help="Largest force accepted (eV/Å).")] = 0.03,
    steps: Annotated[int, typer.Option(help="Most steps.")] = 500,
    spring: Annotated[float, typer.Option(help="Stiffness of the springs (eV/Å²).")] = 0.5,
    output_dir: OutputDir = None,
    resume: Resume = False,
    plots: Plots = True,
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    choice: CalculatorChoice,
) -> None:
    """Find the path of least energy between two structures, and the barrier on it.

    The folder gets path.extxyz, saddle.extxyz, barrier.png, result.json and report.html, and at every step band.json,
    from which --resume goes on (with more --steps, if need be). A model runs in float64 unless --dtype says otherwise.
    The status is 0 where a barrier was found, 1 where not (the verdict says why), 2 for wrong usage and 130 after
    Ctrl-C.
    """
    root = output_dir or Path("neb")
    with one_line_errors(debug=debug):
        from forcefield.cli.io import prepare_folder
        from forcefield.workflows.barrier_checkpoint import SearchCheckpoint
        from forcefield.workflows.barrier_setup import NEBOptions

        settings: dict[str, Any] = {
            **{"n_images": n_images, "climb": climb, "relax_ends": relax_ends, "mapping": mapping, "steps": steps},
            **{"interpolation": interpolation, "optimizer": optimizer, "fmax": fmax, "spring": spring},
        }
        options = NEBOptions(**settings).to_dict()
        ends = (_last_frame(initial), _last_frame(final))
        refuse_plots_without_matplotlib(plots)
        choice = choice.with_precision("float64")
        engine = choice.load()
        prepare_folder(root)
        checkpoint = SearchCheckpoint(root / BAND, resume=resume, about={"calculator": choice.name})
    options["checkpoint"] = checkpoint
    record = _find_path(ends, engine, options, root, plots=plots, debug=debug)
    _conclude({"initial": str(initial), "final": str(final), "calculator": choice.name, **record}, root, as_json)


def _conclude(record: dict[str, Any], root: Path, as_json: bool) -> None:
    """Write result.json and the report, show the table or JSON, and end with the status."""
    from forcefield.cli.html_report import Section, report_failures
    from forcefield.cli.io import describe_error
    from forcefield.workflows.outcome import plain, write_result

    name = f"{record['initial']} - {record['final']}"
    files = [] if "error" in record else sorted(path.name for path in root.glob("*.png"))
    content = {**plain(record), "files": files}
    columns, rows = ("path", "verdict", *COLUMNS), [[name, record["verdict"], *_row(record)]]
    failures = [] if "error" not in record else [record["error"]]
    try:
        write_result(root / RESULT, content)
    except OSError as error:
        failures.append(f"{root / RESULT}: {describe_error(error)}")
    sections = [Section(name, content, root)]
    failures += report_failures(root, "forcefield neb", (columns, rows), sections, record["calculator"])
    if as_json:
        print_json([content])
    else:
        print_table(columns, rows, numeric=COLUMNS)
        print_summary(f"results are in {root}", failures)
        for warning in record.get("warnings", ()):
            typer.echo(f"warning: {warning}", err=True)
    if failures or not record["ok"]:
        raise typer.Exit(1)


def _last_frame(path: Path) -> Atoms:
    from forcefield.cli.io import read_frames

    try:
        return read_frames(path, "-1")[0].atoms
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _find_path(
    ends: tuple[Atoms, Atoms], engine: Any, options: Mapping[str, Any], folder: Path, *, plots: bool, debug: bool
) -> dict[str, Any]:
    """Compute and write a path, or say in the record why there is none."""
    from forcefield.cli.io import describe_error
    from forcefield.workflows.barrier import neb as find_path

    with ProgressLine(1) as progress:

        def show(step: NEBStep) -> None:
            progress.detail(f"step {step.step}  {step.max_force:.3f} eV/Å  barrier {step.barrier:.3f} eV")

        try:
            with warnings_noted("path", progress.note):
                result = find_path(*ends, engine, callback=show, **options)
            _write_files(result, folder, plots=plots)
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:  # whatever a calculator or a file system raises
            if debug:
                raise
            return {"ok": False, "verdict": "failed", "error": describe_error(error)}
    return result.to_dict()


def _write_files(result: BarrierResult, folder: Path, *, plots: bool) -> None:
    from ase.io import write

    write(folder / PATH, result.images, format="extxyz")
    write(folder / SADDLE, result.saddle, format="extxyz")
    if plots:
        from forcefield.workflows.barrier_plots import plot_barrier

        plot_barrier(result, folder / "barrier.png")


def _row(record: Mapping[str, Any]) -> list[str]:
    if "error" in record:
        return ["-"] * len(COLUMNS)
    energies = [format_number(record[name], 4) for name in ("forward", "reverse", "reaction_energy")]
    return [*energies, str(len(record["energies"])), str(record["steps"]), format_number(record["max_force"], 4)]
