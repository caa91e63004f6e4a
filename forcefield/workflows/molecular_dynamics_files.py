"""What a run leaves behind: log, trajectory and checkpoint, cut back to the checkpoint when a run goes on."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.io.trajectory import Trajectory
from numpy.typing import NDArray

from forcefield.neighbours import SkinList
from forcefield.workflows.outcome import write_whole

Array = NDArray[np.float64]

LOG = "thermo.csv"
CHECKPOINT = "checkpoint.npz"
COLUMNS = (
    "step",
    "time_ps",
    "temperature_K",
    "potential_eV",
    "kinetic_eV",
    "total_eV",
    "conserved_eV",
    "pressure_GPa",
    "volume_A3",
)


class Recorder:
    """Keeps rows and frames: in files where there is a folder, else in memory.

    Args:
        folder: where to; None keeps the frames in `frames`.
        trajectory_format: "extxyz" or "traj".
    """

    def __init__(self, folder: Path | None, trajectory_format: str) -> None:
        self.folder = folder
        self.rows: list[tuple[float, ...]] = []
        self.frames: list[Atoms] = []
        self.n_frames = 0
        self.trajectory = None if folder is None else folder / f"trajectory.{trajectory_format}"

    def start(self) -> None:
        """Begin anew: empty files."""
        if self.folder is None or self.trajectory is None:
            return
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        self.trajectory.unlink(missing_ok=True)
        (self.folder / LOG).write_text(",".join(COLUMNS) + "\n", encoding="utf-8")

    def add_row(self, row: tuple[float, ...]) -> None:
        """Keep a row of the log; what is unknown (a pressure, a volume) is not a number and written as nothing."""
        self.rows.append(row)
        if self.folder is not None:
            with (self.folder / LOG).open("a", encoding="utf-8") as stream:
                stream.write(",".join(_number(value) for value in row) + "\n")

    def add_frame(self, atoms: Atoms, *, step: int, time_fs: float) -> None:
        """Keep a frame with its energy, forces and momenta."""
        frame = atoms.copy()
        frame.info = {"step": step, "time_fs": time_fs}
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(apply_constraint=False)}
        frame.calc = SinglePointCalculator(frame, **results)
        self.n_frames += 1
        if self.trajectory is None:
            self.frames.append(frame)
        elif self.trajectory.suffix == ".traj":
            with Trajectory(str(self.trajectory), "a") as stream:
                stream.write(frame)
        else:
            write(self.trajectory, frame, format="extxyz", append=True)

    def sizes(self) -> dict[str, int]:
        """Say how much there is, for the checkpoint."""
        size = self.trajectory.stat().st_size if self.trajectory is not None and self.trajectory.exists() else 0
        return {"rows": len(self.rows), "frames": self.n_frames, "trajectory_bytes": size}

    def cut_back(self, sizes: Mapping[str, int]) -> None:
        """Drop what came after a checkpoint.

        Raises:
            ValueError: if log or trajectory hold less than at the checkpoint.
        """
        assert self.folder is not None and self.trajectory is not None
        self.rows = read_log(self.folder / LOG)[: sizes["rows"]]
        enough = self.trajectory.exists() and self.trajectory.stat().st_size >= sizes["trajectory_bytes"]
        if len(self.rows) < sizes["rows"] or not enough:
            raise ValueError(f"{self.folder} holds less than at its checkpoint; start again without resume.")
        text = "".join(",".join(_number(value) for value in row) + "\n" for row in self.rows)
        write_whole(self.folder / LOG, ",".join(COLUMNS) + "\n" + text)
        self.n_frames = sizes["frames"]
        if self.trajectory.suffix == ".traj":
            _keep_frames(self.trajectory, sizes["frames"])
        else:
            os.truncate(self.trajectory, sizes["trajectory_bytes"])


def _number(value: float) -> str:
    """Write a number so that it reads back to the last bit."""
    if isinstance(value, int):
        return str(value)
    return "" if np.isnan(value) else repr(float(value))


def _keep_frames(path: Path, count: int) -> None:
    """Copy the first frames of a .traj file into its place."""
    partial = path.with_name(path.name + ".partial")
    with Trajectory(str(path)) as old, Trajectory(str(partial), "w") as new:
        for number in range(count):
            new.write(old[number])
    os.replace(partial, path)


def read_log(path: Path) -> list[tuple[float, ...]]:
    """Read a log of molecular dynamics; a last line cut short by a kill is dropped.

    Raises:
        ValueError: if it is no such log.
        OSError: if it cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ValueError(f"{path} is no log of molecular dynamics; its first line must be {','.join(COLUMNS)}.")
    rows: list[tuple[float, ...]] = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise ValueError(f"Line {number} of {path} has {len(line)} entries, but {len(COLUMNS)} are needed.")
        rows.append((int(line[0]), *[float(text) if text else float("nan") for text in line[1:]]))
    return rows


def read_thermo(path: str | Path) -> dict[str, Array]:
    """Read a log as one array a column, named as in its first line.

    Raises:
        ValueError: if it is no log of molecular dynamics.
        OSError: if it cannot be read.
    """
    return columns_of(read_log(Path(path)))


def columns_of(rows: list[tuple[float, ...]]) -> dict[str, Array]:
    """Turn rows of the log into one array a column."""
    table = np.array(rows, dtype=float).reshape(len(rows), len(COLUMNS))
    return {name: table[:, column] for column, name in enumerate(COLUMNS)}


def write_checkpoint(folder: Path, arrays: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        folder: where to.
        arrays: numbers that must come back to the last bit.
        notes: everything else, as JSON knows it.

    Raises:
        OSError: if it cannot be written.
    """
    partial = folder / (CHECKPOINT + ".partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, notes=np.array(json.dumps(notes)), **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, folder / CHECKPOINT)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Read the arrays and notes of a checkpoint; None where there is none.

    Raises:
        ValueError: if it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        notes = json.loads(str(arrays.pop("notes")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"The checkpoint {path} is damaged ({error}); start again without resume.") from error
    return arrays, notes


def forget_history(calculator: Any) -> None:
    """Make a calculator's next result depend on the structure alone, not on neighbour lists of earlier ones.

    A run goes through this at every checkpoint, so that one taken up there gives the same numbers as one that went on.
    """
    calculator.reset()
    neighbours = getattr(calculator, "_neighbours", None)
    if isinstance(neighbours, SkinList):
        calculator._neighbours = SkinList(neighbours.cutoff, neighbours.skin)


def read_trajectory(path: str | Path) -> list[Atoms]:
    """Read all frames of a trajectory that ASE knows.

    Raises:
        ValueError: in one line, if it cannot be read or is empty.
    """
    try:
        frames = read(str(path), index=":")
    except Exception as error:  # readers raise anything at all when a file is not what its name says
        raise ValueError(f"{path} cannot be read as a trajectory ({type(error).__name__}: {error}).") from error
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"{path} holds no frames.")
    return frames
