"""`forcefield analyse`: distances, diffusion and vibrations of trajectories."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.batch import Failed, work_through_items
from forcefield.cli.options import AsJson, Debug, OutputDir, Plots, Resume
from forcefield.cli.report import ProgressLine, format_number, one_line_errors
from forcefield.cli.structures import Command, Runner, Task, refuse_plots_without_matplotlib

if TYPE_CHECKING:
    from forcefield.workflows.trajectory_analysis import TrajectoryResult

COLUMNS = ("frames", "interval\nfs", "nearest peak\nÅ", "diffusion\n1e-5 cm²/s", "mean frequency\nTHz")
THERMO = "thermo.csv"  # the log that `forcefield md` puts beside a trajectory


@dataclass(frozen=True)
class TrajectoryFile:
    """One trajectory, read where it is analysed; the other attributes are those of a `Frame`."""

    path: Path
    number: int = 0
    siblings: int = 1

    @property
    def label(self) -> str:
        """Name it for people."""
        return str(self.path)

    @property
    def origin(self) -> dict[str, Any]:
        """Say where it came from, for a record."""
        return {"source": str(self.path)}

    @property
    def log(self) -> Path | None:
        """The log of `forcefield md` beside it, if there is one."""
        path = self.path.with_name(THERMO)
        return path if path.is_file() else None

    def identity(self) -> dict[str, Any]:
        """Tell it and its log from others, for `--resume`, by their contents."""
        hashes = {"trajectory": _hash(self.path)}
        return hashes if self.log is None else {**hashes, "log": _hash(self.log)}


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
    resume: Resume = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the trajectories.")] = 1,
    plots: Plots = True,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compute radial distributions, diffusion and vibrations from trajectories.

    Each trajectory gets a folder, OUTPUT/NAME, with result.json, distances.png, displacements.png, vibrations.png
    (where it holds velocities) and, with the log of `forcefield md` beside it, thermo.png and averages with errors;
    OUTPUT/report.html shows all of them. The status is 0 where all went well, 1 where one failed, 2 for wrong usage and
    130 after Ctrl-C; --resume then leaves out what is done, unless trajectory, log or options have changed.
    """
    root = output_dir or Path("analyse")
    with one_line_errors(debug=debug):
        from forcefield.cli.io import prepare_folder

        if skip < 0:
            raise ValueError(f"--skip is {skip}, but must be 0 or more.")
        refuse_plots_without_matplotlib(plots)
        prepare_folder(root)
    options = {"interval": interval, "cutoff": cutoff, "bins": bins, "blocks": blocks}
    command = Command("analyse", COLUMNS, _row, _compute, {**options, "skip": skip}, plots=plots, subject="trajectory")
    files = list(dict.fromkeys(trajectories))
    runner = Runner(command, root, _Names(files), resume, "none")

    def items(progress: ProgressLine, failed: Failed) -> Iterator[TrajectoryFile]:
        for path in files:
            if path.is_file():
                yield TrajectoryFile(path)
            else:
                failed(str(path), ValueError("no such file."))

    if workers == 1:
        runner.interrupted = work_through_items(
            items,
            len(files),
            process=lambda item, progress: runner.process(item, progress, None, {}),
            refuse=runner.refuse,
            debug=debug,
        )
    else:
        from forcefield.cli.processes import share_out

        runner.interrupted = share_out(items, len(files), runner, None, workers=workers, debug=debug)
    runner.show(as_json=as_json).end()


class _Names:
    """Names the folders of the results by file, or by the folder of a trajectory that `forcefield md` wrote."""

    def __init__(self, paths: Sequence[Path]) -> None:
        from forcefield.cli.io import OutputNames

        self._shown = {path: path.resolve().parent if path.stem == "trajectory" else path for path in paths}
        self._names = OutputNames(list(self._shown.values()))

    def name(self, path: Path, number: int | None = None) -> str:
        """Give a name that was not given before."""
        return self._names.name(self._shown[path], number)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()[:16]


def _compute(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.molecular_dynamics_files import read_thermo, read_trajectory
    from forcefield.workflows.molecular_dynamics_result import average_columns
    from forcefield.workflows.trajectory_analysis import analyse_trajectory

    trajectory: TrajectoryFile = task.frame
    options = dict(task.inputs)
    skip = options.pop("skip")
    result = analyse_trajectory(read_trajectory(trajectory.path)[skip:], **options)
    thermo = None if trajectory.log is None else read_thermo(trajectory.log)
    if task.plots:
        _draw(result, thermo, task.folder.path)
    averages = average_columns(thermo) if thermo is not None else {}
    return {**result.to_dict(), "averages": averages, "skip": skip, "options": options}


def _draw(result: TrajectoryResult, thermo: dict[str, Any] | None, folder: Path) -> None:
    from forcefield.workflows import trajectory_analysis_plots as plots

    plots.plot_distributions(result, folder / "distances.png")
    plots.plot_displacements(result, folder / "displacements.png")
    if result.spectrum is not None:
        plots.plot_vibrations(result, folder / "vibrations.png")
    if thermo is not None and len(thermo["step"]) > 1:
        plots.plot_thermo(thermo, folder / "thermo.png")


def _row(record: Mapping[str, Any]) -> list[str]:
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
