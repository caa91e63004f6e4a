"""`forcefield analyse`: distances, diffusion and vibrations of trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.folder import RESULT
from forcefield.cli.html_report import Section, report_failures
from forcefield.cli.options import AsJson, Debug, OutputDir, Plots
from forcefield.cli.report import format_number, one_line_errors, print_json, print_summary, print_table
from forcefield.cli.structures import refuse_plots_without_matplotlib

if TYPE_CHECKING:
    from forcefield.workflows.trajectory_analysis import TrajectoryResult

COLUMNS = ("frames", "interval\nfs", "nearest peak\nÅ", "diffusion\n1e-5 cm²/s", "mean frequency\nTHz")
THERMO = "thermo.csv"  # the log that `forcefield md` puts beside a trajectory


def analyse(
    trajectories: Annotated[
        list[Path], typer.Argument(metavar="TRAJECTORY...", help="Trajectories in any format that ASE reads.")
    ],
    interval: Annotated[
        float | None, typer.Option(help="Time between frames (fs).  [default: as the frames say]")
    ] = None,
    skip: Annotated[int, typer.Option(help="Leave out this many frames at the start.")] = 0,
    cutoff: Annotated[float | None, typer.Option(help="Largest distance (Å).  [default: 5 to 10, by the cell]")] = None,
    bins: Annotated[int, typer.Option(help="Number of distances.")] = 200,
    blocks: Annotated[int, typer.Option(help="Pieces that the error of diffusion comes from, 2 to 10.")] = 5,
    output_dir: OutputDir = None,
    plots: Plots = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute radial distributions, diffusion and vibrations from trajectories.

    Each trajectory gets a folder, OUTPUT/NAME, with result.json, distances.png, displacements.png, vibrations.png
    (where it holds velocities) and, with the log of `forcefield md` beside it, thermo.png and averages with errors;
    OUTPUT/report.html shows all of them. The status is 0 where all went well, 1 where one failed and 2 for wrong usage.
    """
    root = output_dir or Path("analyse")
    with one_line_errors(debug=debug):
        from forcefield.cli.io import prepare_folder

        if skip < 0:
            raise ValueError(f"--skip is {skip}, but must be 0 or more.")
        refuse_plots_without_matplotlib(plots)
        prepare_folder(root)
    options = {"interval": interval, "cutoff": cutoff, "bins": bins, "blocks": blocks}
    rows, sections, failures = [], [], []
    for path, name in zip(trajectories, _names(trajectories), strict=True):
        try:
            record = _analyse(path, root / name, skip, options, plots=plots)
        except (ValueError, OSError) as error:
            if debug:
                raise
            from forcefield.cli.io import describe_error

            failures.append(f"{path}: {describe_error(error)}")
            record = {"source": str(path), "ok": False, "verdict": "failed", "error": describe_error(error)}
            sections.append(Section(str(path), record, None))
            rows.append([str(path), "failed", *["-"] * len(COLUMNS)])
        else:
            sections.append(Section(str(path), record, root / name))
            rows.append([str(path), record["verdict"], *_row(record)])
    summary = f"{len(rows) - len(failures)} of {len(rows)} without objection; results are in {root}"
    columns = ("trajectory", "verdict", *COLUMNS)
    failures += report_failures(root, "forcefield analyse", (columns, rows), sections, "none")
    if as_json:
        print_json([section.record for section in sections])
    else:
        print_table(columns, rows, numeric=COLUMNS)
        print_summary(summary, failures)
    if failures:
        raise typer.Exit(1)


def _names(paths: Sequence[Path]) -> list[str]:
    """Name the folders of the results by file, or by the folder of a trajectory that `forcefield md` wrote."""
    from forcefield.cli.io import OutputNames

    shown = [path.resolve().parent if path.stem == "trajectory" else path for path in paths]
    names = OutputNames(shown)
    return [names.name(path) for path in shown]


def _analyse(path: Path, folder: Path, skip: int, options: dict[str, Any], *, plots: bool) -> dict[str, Any]:
    from forcefield.cli.io import prepare_folder
    from forcefield.workflows.molecular_dynamics_files import read_thermo, read_trajectory
    from forcefield.workflows.molecular_dynamics_result import average_columns
    from forcefield.workflows.outcome import plain, write_result
    from forcefield.workflows.trajectory_analysis import analyse_trajectory

    if not path.is_file():
        raise ValueError("no such file.")
    result = analyse_trajectory(read_trajectory(path)[skip:], **options)
    prepare_folder(folder)
    log = path.with_name(THERMO)
    thermo = read_thermo(log) if log.exists() else None
    averages = average_columns(thermo) if thermo is not None else {}
    if plots:
        _draw(result, thermo, folder)
    files = sorted(path.name for path in folder.glob("*.png")) if plots else []
    record = {"source": str(path), **result.to_dict(), "averages": averages, "skip": skip, "options": options}
    record["files"] = files
    content: dict[str, Any] = plain(record)
    write_result(folder / RESULT, content)
    return content


def _draw(result: TrajectoryResult, thermo: dict[str, Any] | None, folder: Path) -> None:
    from forcefield.workflows import trajectory_analysis_plots as plots

    plots.plot_distributions(result, folder / "distances.png")
    plots.plot_displacements(result, folder / "displacements.png")
    if result.spectrum is not None:
        plots.plot_vibrations(result, folder / "vibrations.png")
    if thermo is not None and len(thermo["step"]) > 1:
        plots.plot_thermo(thermo, folder / "thermo.png")


def _row(record: dict[str, Any]) -> list[str]:
    overall = record["distributions"][0]
    peak = overall["distances"][max(range(len(overall["density"])), key=overall["density"].__getitem__)]
    diffusion, spectrum = record["diffusion"].get("all"), record["spectrum"]
    frequency = None
    if spectrum is not None:
        weights = spectrum["density"]
        frequency = sum(f * w for f, w in zip(spectrum["frequencies"], weights, strict=True)) / sum(weights)
    shown = "-"
    if diffusion is not None:
        shown = f"{1e5 * diffusion['coefficient']:.3g} ± {1e5 * diffusion['error']:.2g}"
    interval = format_number(record["interval"], 2)
    return [str(record["n_frames"]), interval, format_number(peak, 2), shown, format_number(frequency, 2)]
