"""The file that sampled frames are written to, structure by structure, so that a killed run can be taken up again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import ase
from ase.io import write


class SampleFile:
    """Frames in ``OUTPUT.partial``, with a journal of the structures that are done beside it, until all are.

    Args:
        output: extended XYZ file to make.
        settings: what the frames depend on besides the structures, as plain values.

    Attributes:
        counts: frames of each kind.
        structures: structures that could be read.
        refused: structures of which a kind could not be made, by kind and reason.
        faults: places that could not be read, with the reason.
        taken_up: structures that an earlier run had done.

    Raises:
        ValueError: the output exists, or what an earlier run left belongs to other settings.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        if output.exists():
            raise ValueError(f"{output} exists; give another file, or remove it.")
        self.output = output
        self.partial = output.with_name(output.name + ".partial")
        self.journal = output.with_name(output.name + ".partial.jsonl")
        self.counts: Counter[str] = Counter()
        self.structures = 0
        self.refused: Counter[tuple[str, str]] = Counter()
        self.faults: list[str] = []
        self._settings = dict(settings)
        entries, *self._lengths = self._earlier(json.loads(json.dumps(self._settings)))
        self._places = [entry["place"] for entry in entries]
        self.taken_up = len(entries)
        for entry in entries:
            self._count(entry)

    def _earlier(self, settings: dict[str, Any]) -> tuple[list[dict[str, Any]], int, int]:
        """Structures done, and the lengths in bytes of what is whole of the journal and of the frames."""
        if not self.journal.exists():
            return [], 0, 0
        lines = [line for line in self.journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        head, *entries = [json.loads(line) for line in lines] or [{"settings": settings}]
        changed = sorted(name for name in settings if head["settings"].get(name) != settings[name])
        if changed:
            raise ValueError(
                f"{self.partial} was begun with other {', '.join(changed)}; give another output, the settings of that "
                f"run to go on with it, or remove it and {self.journal.name}"
            )
        end = entries[-1]["end"] if entries else 0
        if end and (not self.partial.exists() or self.partial.stat().st_size < end):
            return [], 0, 0  # somebody removed the frames
        return entries, sum(map(len, lines)), end

    def has(self, number: int, place: str) -> bool:
        """Whether a structure is done already.

        Raises:
            ValueError: the run before had another structure there.
        """
        if number >= self.taken_up:
            return False
        if self._places[number] != place:
            raise ValueError(
                f"{self.partial} was begun with other files: {self._places[number]} came where {place} is now; give "
                "another output, or the same files in the same order"
            )
        return True

    def add(self, place: str, frames: Sequence[ase.Atoms], refused: Sequence[tuple[str, str]]) -> None:
        """The frames of a structure, and which kinds could not be made of it and why."""
        if frames:
            text = StringIO()
            write(text, list(frames), format="extxyz")
            self._frames.write(text.getvalue().encode())
            self._frames.flush()
        counts = Counter(frame.info["kind"] for frame in frames)
        self._done({"place": place, "counts": dict(counts), "refused": [list(pair) for pair in refused]})

    def fail(self, place: str, reason: str) -> None:
        """A structure that could not be read."""
        self._done({"place": place, "fault": reason})

    def _done(self, entry: dict[str, Any]) -> None:
        entry["end"] = self._frames.tell()
        self._note(entry)
        self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        if "fault" in entry:
            self.faults.append(f"{entry['place']}: {entry['fault']}")
            return
        self.structures += 1
        self.counts.update(entry["counts"])
        self.refused.update((kind, reason) for kind, reason in entry["refused"])

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._journal.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
        self._journal.flush()

    def __enter__(self) -> SampleFile:
        """Open the files, without what was half written."""
        self._journal, self._frames = (path.open("ab") for path in (self.journal, self.partial))
        for file, length in zip((self._journal, self._frames), self._lengths, strict=True):
            file.truncate(length)
        if not self._lengths[0]:
            self._note({"settings": self._settings})
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, trace: TracebackType | None) -> None:
        """Close them; where all went well, the frames get the output's name, or go where there are none."""
        self._frames.close()
        self._journal.close()
        if kind is not None:
            return
        if self.counts:
            self.partial.replace(self.output)
        else:
            self.partial.unlink()
        self.journal.unlink()
