"""The file that labels are written to: whole frames with their origin, so that a killed run can be taken up again."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from ase.io import write

from forcefield.data.frames import Frame, atoms_from_frame

MARK = re.compile(rb'label_index=(\d+) label_hash=sha256-([0-9a-f]{16}) labelled_by=("(?:[^"\\]|\\.)*"|\S+)')
"""What the comment line of a labelled frame says of its origin."""


class Job(NamedTuple):
    """A frame to label, or why there is none, with its number, place in the input and fingerprint."""

    number: int
    place: str
    frame: Frame | None
    fault: str
    mark: str


class LabelFile:
    """The output: whole frames only, each with its origin.

    Args:
        path: extended XYZ file.
        labelled_by: what to call the calculator.
        resume: go on with an existing file.

    Raises:
        ValueError: the file exists and must not, or holds something else than an earlier part of the same work.
    """

    def __init__(self, path: Path, labelled_by: str, *, resume: bool) -> None:
        self.path, self.labelled_by = path, labelled_by
        self.failures = path.with_name(path.name + ".failures.jsonl")
        if path.exists() and not resume:
            raise ValueError(f"{path} exists; give another file, or resume to go on with it")
        self.known, end = scan_labelled(path, labelled_by) if path.exists() else ({}, 0)
        self.failures.unlink(missing_ok=True)  # failed frames are tried again
        self._file = path.open("ab")
        self._file.truncate(end)

    def __enter__(self) -> LabelFile:
        """The file is open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()

    def has(self, job: Job) -> bool:
        """Whether the frame is labelled already.

        Raises:
            ValueError: another structure has its number.
        """
        mark = self.known.get(job.number)
        if mark not in (None, job.mark):
            raise ValueError(
                f"{self.path} was made from another input: its frame number {job.number} is not that of {job.place}; "
                "give another output, or the same files in the same order as before"
            )
        return mark is not None

    def append(self, job: Job, frame: Frame) -> None:
        """Add a labelled frame, and hand it to the system at once."""
        atoms = atoms_from_frame(frame)
        atoms.info |= {"label_index": job.number, "label_hash": f"sha256-{job.mark}", "labelled_by": self.labelled_by}
        text = StringIO()
        write(text, atoms, format="extxyz")
        self._file.write(text.getvalue().encode())
        self._file.flush()

    def record(self, job: Job, reason: str) -> None:
        """Note a frame that could not be labelled."""
        entry = {"index": job.number, "place": job.place, "reason": reason}
        with self.failures.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def scan_labelled(path: Path, labelled_by: str) -> tuple[dict[int, str], int]:
    """Which frames a file of labels holds, and where its last whole frame ends.

    Args:
        path: extended XYZ file written by `label_frames`, possibly cut off anywhere.
        labelled_by: the calculator that must have labelled it.

    Returns:
        frame number -> fingerprint, and a position in bytes.

    Raises:
        ValueError: it holds something else, or labels of another calculator.
    """
    known: dict[int, str] = {}
    end = 0
    with path.open("rb") as file:
        while count := file.readline():
            comment = file.readline()
            whole = comment.endswith(b"\n")
            mark = MARK.search(comment)
            if not count.strip().isdigit() or (whole and mark is None):
                raise ValueError(f"{path} holds something that labelling has not written; give another output")
            if not whole or mark is None:
                break
            other = mark[3].decode().strip('"').replace('\\"', '"')
            if other != labelled_by:
                raise ValueError(f"{path} holds labels of {other}, not of {labelled_by}; give another output")
            rows = [file.readline() for _ in range(int(count))]
            if not rows[-1].endswith(b"\n"):
                break
            known[int(mark[1])] = mark[2].decode()
            end = file.tell()
    return known, end
