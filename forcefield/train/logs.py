"""What a run leaves behind while it goes: log.jsonl, train.csv, validation.csv, TensorBoard, and whoever watches."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

LOG = "log.jsonl"
TABLES = {"train": "train.csv", "validation": "validation.csv"}
COUNTERS = ("step", "epoch", "minutes", "atoms_seen", "lr", "skipped")
LABELS = ("energy", "forces", "stress", "atomic_energies")
COLUMNS = {
    "train": (*COUNTERS, "loss", "norm", *LABELS, "hessian"),
    "validation": (
        *COUNTERS,
        "score",
        "frames",
        *(f"{name}_{kind}" for name in LABELS for kind in ("mae", "rmse", "median")),
    ),
}


class Watcher(Protocol):
    """Someone who is told what happens, such as a progress bar."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def event(self, entry: Mapping[str, Any]) -> None:
        """A line of the log."""

    def progress(self, share: float, seconds: float, step: int) -> None:
        """After every step: share of the run done, seconds of work, steps."""


class Silent:
    """Watches and says nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def event(self, entry: Mapping[str, Any]) -> None:
        """Ignore."""

    def progress(self, share: float, seconds: float, step: int) -> None:
        """Ignore."""


class Logs:
    """Log files of a run, without the lines that a killed run wrote after its last checkpoint.

    Args:
        folder: output folder.
        step: steps that the run has done; later lines are removed.
        tensorboard: write TensorBoard files too.
        watcher: told everything.
        columns: of the tables, for each event that has one; those of a potential's training if not given.

    Raises:
        ValueError: TensorBoard is asked for but not installed.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        *,
        tensorboard: bool,
        watcher: Watcher,
        columns: Mapping[str, Sequence[str]] = COLUMNS,
    ) -> None:
        self.folder = folder
        self.columns = columns
        self.watcher = watcher
        self.board = _summary_writer(folder / "tensorboard", step) if tensorboard else None
        _keep_lines(folder / LOG, lambda line: int(json.loads(line)["step"]) <= step)
        for name in TABLES.values():
            _keep_lines(folder / name, lambda line: not line[:1].isdigit() or int(line.split(",")[0]) <= step)

    def write(self, event: str, entry: Mapping[str, Any]) -> None:
        """Add one line to the logs; flushed at once."""
        line = {"event": event, **entry}
        _append(self.folder / LOG, json.dumps({key: _rounded(value) for key, value in line.items()}) + "\n")
        if event in TABLES:
            self._write_row(event, entry)
        if self.board is not None:
            for key, value in entry.items():
                if isinstance(value, (int, float)) and key != "step":
                    self.board.add_scalar(f"{event}/{key}", value, entry["step"])
            self.board.flush()
        self.watcher.event(line)

    def _write_row(self, event: str, entry: Mapping[str, Any]) -> None:
        path = self.folder / TABLES[event]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        if not path.is_file() or path.stat().st_size == 0:
            table.writerow(self.columns[event])
        table.writerow([_rounded(entry.get(name, "")) for name in self.columns[event]])
        _append(path, text.getvalue())

    def close(self) -> None:
        """Finish TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _rounded(value: Any) -> Any:
    """Eight digits are enough for people and plots."""
    return float(f"{value:.8g}") if isinstance(value, float) else value


def _keep_lines(path: Path, wanted: Callable[[str], bool]) -> None:
    """Drop whole lines that are not wanted, and a last one that was cut short."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    kept = "".join(line for line in lines if wanted(line))
    if kept != text:
        partial = path.with_name(path.name + ".partial")
        partial.write_text(kept, encoding="utf-8")
        os.replace(partial, path)


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            'tensorboard is true but TensorBoard is not installed: pip install "gnn-forcefield[tensorboard]", '
            "or set it to false"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
