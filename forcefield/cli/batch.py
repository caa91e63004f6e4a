"""The loop that every command over files shares: read, process, report, carry on after an error, stop at Ctrl-C."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from forcefield.cli.report import ProgressLine

if TYPE_CHECKING:
    from forcefield.cli.io import Frame


class Item(Protocol):
    """What a command works on: a structure of a file (`Frame`), or a whole file."""

    @property
    def label(self) -> str:
        """Name it for people."""


Failed = Callable[[str, Exception], None]
Items = Callable[[ProgressLine, Failed], Iterator[Any]]
"""Gives the items one by one, and tells of those that cannot be had."""


def work_through(
    files: Sequence[Path],
    index: str,
    *,
    process: Callable[[Frame, ProgressLine], str],
    refuse: Callable[[str, str], None],
    debug: bool,
) -> bool:
    """Process every frame of every file; an error of one structure does not stop the others.

    Args:
        files: input files.
        index: frames to take from each, in ASE's notation.
        process: does the work for one frame and returns a line about it; raises `KeyboardInterrupt` to stop.
        refuse: told the label and a one-line reason where a file or structure failed.
        debug: let errors through.

    Returns:
        Whether Ctrl-C ended it early.
    """
    frames = frames_of(files, index)
    return work_through_items(frames, len(set(files)), process=process, refuse=refuse, debug=debug)


def work_through_items(
    items: Items,
    count: int,
    *,
    process: Callable[[Any, ProgressLine], str],
    refuse: Callable[[str, str], None],
    debug: bool,
) -> bool:
    """As `work_through`, for items of any kind; ``count`` of them are expected."""
    with ProgressLine(count) as progress:
        failed = failure_handler(progress, refuse, debug=debug)
        try:
            for item in items(progress, failed):
                try:
                    with warnings_noted(item.label, progress.note):
                        line = process(item, progress)
                except Exception as error:  # whatever a calculator or a file system raises belongs to this structure
                    failed(item.label, error)
                else:
                    progress.done(line)
        except KeyboardInterrupt:
            return True
    return False


def frames_of(files: Sequence[Path], index: str) -> Items:
    """Give the items of files: every frame that can be computed."""
    return lambda progress, failed: each_frame(files, index, progress, failed)


def failure_handler(progress: ProgressLine, refuse: Callable[[str, str], None], *, debug: bool) -> Failed:
    """Make the function that is told of an error of one structure: it reports and refuses, or raises for debugging."""
    from forcefield.cli.io import describe_error

    def failed(label: str, error: Exception) -> None:
        if debug:
            raise error
        refuse(label, describe_error(error))
        progress.done(f"{label}: failed: {describe_error(error)}")

    return failed


def each_frame(files: Sequence[Path], index: str, progress: ProgressLine, failed: Failed) -> Iterator[Frame]:
    """Give every frame of every file that can be computed; the others are reported as failed."""
    from forcefield.cli.io import read_frames

    for path in dict.fromkeys(files):
        try:
            frames = read_frames(path, index)
        except ValueError as error:
            failed(str(path), error)
            continue
        progress.expect(len(frames) - 1)
        for frame in frames:
            try:
                _check(frame, progress)
            except ValueError as error:
                failed(frame.label, error)
            else:
                yield frame


def _check(frame: Frame, progress: ProgressLine) -> None:
    """Refuse what cannot be computed, and say in one line where atoms overlap."""
    from forcefield.structures import check_structure, close_contacts, overlap_message

    check_structure(frame.atoms)
    contacts = close_contacts(frame.atoms)
    if contacts:
        progress.note(f"{frame.label}: warning: {overlap_message(frame.atoms, contacts)}")


@contextmanager
def overlaps_known() -> Iterator[None]:
    """Keep the calculator from repeating, for the first structure only, what was said about each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ pairs? of atoms overlap")
        yield


@contextmanager
def warnings_noted(label: str, note: Callable[[str], None]) -> Iterator[None]:
    """Turn the warnings about a structure into lines with its label, the one on overlaps (see above) left out."""
    with warnings.catch_warnings(record=True) as caught, overlaps_known():
        try:
            yield
        finally:
            for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
                note(f"{label}: warning: {text}")
