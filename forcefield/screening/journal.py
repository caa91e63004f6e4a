"""Records on disk as they come in, one JSON line each, so that a run killed at any time goes on where it was.

The first line says what the file belongs to: task, options, calculator. A line cut short by a kill is dropped when the
file is opened again. In memory there is only the place of each record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

FORMAT = 1
MARK = "forcefield_screening"


class Journal:
    """Records of one task with one set of options.

    Args:
        path: the file; made if needed.
        identity: what a record depends on beside the structure, as JSON knows it.
        retry_failed: forget records of structures that failed.

    Raises:
        ValueError: if the file belongs to another task, other options or another calculator, or is no such file.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any], *, retry_failed: bool = False) -> None:
        self.path = Path(path)
        self._places: dict[bytes, int] = {}
        header = {MARK: FORMAT, **json.loads(json.dumps(identity))}
        self._file = self.path.open("a+b")
        try:
            self._drop_partial_line()
            if self._file.tell() == 0:
                self._write(header)
            else:
                self._read(header, retry_failed)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        """Leave the file open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """Count the structures that are known."""
        return len(self._places)

    def _drop_partial_line(self) -> None:
        """Cut off what a kill left of the last line, and go to the end."""
        size = self._file.seek(0, 2)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)
        self._file.seek(0, 2)

    def _read(self, expected: Mapping[str, Any], retry_failed: bool) -> None:
        self._file.seek(0)
        self._check_header(self._file.readline(), expected)
        place = self._file.tell()
        for line in self._file:
            record = json.loads(line)
            if record["key"] and not (retry_failed and record["error"] is not None):
                self._places[bytes.fromhex(record["key"])] = place
            place += len(line)

    def _check_header(self, line: bytes, expected: Mapping[str, Any]) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or MARK not in found:
            raise ValueError(f"{self.path} is no file of a screening; name another folder.")
        different = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        if different:
            changes = ", ".join(f"{name} {found.get(name)} (now {expected.get(name)})" for name in different)
            raise ValueError(f"{self.path} belongs to another screening: {changes}. Name another folder.")

    def _write(self, record: Mapping[str, Any]) -> int:
        place = self._file.seek(0, 2)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        return place

    def add(self, key: str, record: Mapping[str, Any]) -> int:
        """Write a record down.

        Args:
            key: of the structure, hexadecimal; an empty one is not remembered for a later run.
            record: what JSON knows.

        Returns:
            The place of the record.

        Raises:
            OSError: if that fails, for example because the disk is full.
        """
        place = self._write({"key": key, **record})
        if key:
            self._places[bytes.fromhex(key)] = place
        return place

    def find(self, key: str) -> int | None:
        """Place of the record of a structure; None where it is not done."""
        return self._places.get(bytes.fromhex(key)) if key else None

    def read(self, place: int) -> dict[str, Any]:
        """The record at a place."""
        return read_record(self._file, place)


def read_record(stream: Any, place: int) -> dict[str, Any]:
    """Read the record that starts at a place of an open journal."""
    stream.seek(place)
    record: dict[str, Any] = json.loads(stream.readline())
    return record
