"""From files to a store, or to a pair for training and validation that shares no material; one frame in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from forcefield.data.frames import Frame
from forcefield.data.labels import ReadOptions
from forcefield.data.materials import SPLITS, group_of, in_validation
from forcefield.data.readers import read_entries_of
from forcefield.data.store import StoreWriter, folder_when_complete

REMEMBERED = 1000
"""Broken frames whose reason is kept; all are counted."""
LABELS = ("energy", "forces", "stress", "atomic_energies", "magmoms")


@dataclass(frozen=True)
class SplitOptions:
    """How to divide frames into training and validation.

    Attributes:
        validation: expected share of groups in the validation part; 0 makes a single store.
        seed: another seed, another split.
        split_by: what stays together: ``material``, ``formula`` or ``file``.
    """

    validation: float = 0.0
    seed: int = 0
    split_by: str = "material"

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation is {self.validation}, but must be at least 0 and less than 1")
        if self.split_by not in SPLITS:
            raise ValueError(f"split_by is {self.split_by!r}, but must be one of {', '.join(SPLITS)}")

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the folders inside the output; none for a single store."""
        return ("train", "validation") if self.validation else ()


@dataclass
class BuildReport:
    """What a build has done.

    Attributes:
        stores: the store folders written.
        frames: frames in each store.
        atoms: atoms in each store.
        labelled: number of frames with each label, over all stores.
        skipped: number of broken frames left out.
        faults: file, place and fault of each (the first `REMEMBERED`).
        keys: (label, key, unit, frames) as found in the files.
        only_in_validation: symbols of the elements that no training frame has, with which a model of the training part
            cannot be validated.
    """

    stores: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    atoms: list[int] = field(default_factory=list)
    labelled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABELS, 0))
    skipped: int = 0
    faults: list[str] = field(default_factory=list)
    keys: list[tuple[str, str, str, int]] = field(default_factory=list)
    only_in_validation: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def count(self, frame: Frame) -> None:
        """Note which labels a frame has."""
        for label in LABELS:
            self.labelled[label] += getattr(frame, label) is not None


def build_stores(
    files: Sequence[str | Path],
    output: str | Path,
    *,
    cutoff: float = 5.0,
    split: SplitOptions | None = None,
    skip_bad: bool = False,
    format: str | None = None,
    options: ReadOptions | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> BuildReport:
    """Write the frames of files into a store, or into ``output/train`` and ``output/validation``.

    Either everything appears under ``output`` or nothing does.

    Args:
        files: files and store folders, in any format of `forcefield.data.readers`.
        output: folder to make; must not exist.
        cutoff: radius of the neighbour lists (Å).
        split: how to divide; None for a single store.
        skip_bad: leave broken frames out and count them.
        format: format of all files, if it is not to be found out.
        options: which keys and units.
        progress: told the file and the number of frames stored so far.

    Raises:
        FileExistsError: the output exists.
        ValueError: a file cannot be read, a frame is broken and ``skip_bad`` is off, no frame is left, or one side of
            the split is empty.
        OSError: the disk is full.
    """
    split = split if split is not None else SplitOptions()
    options = options if options is not None else ReadOptions()
    report = BuildReport()
    made = {"files": [str(file) for file in files], "split": asdict(split), "keys": dict(options.keys)}
    made |= {"units": dict(options.units), "stress_order": " ".join(options.stress_order)}
    with folder_when_complete(output) as partial, ExitStack() as stack:
        folders = [partial / part for part in split.parts] or [partial]
        writers = [stack.enter_context(StoreWriter(folder, cutoff, made=made)) for folder in folders]
        groups: set[str] = set()
        elements: list[set[int]] = [set() for _ in writers]
        names = _names(files)
        for file, place, frame in _frames(files, format, options, skip_bad, report):
            group = group_of(frame, names[file], split.split_by)
            groups.add(group)
            side = int(bool(split.validation) and in_validation(group, split.validation, split.seed))
            named = frame if frame.material else replace(frame, material=group_of(frame, str(file), "material"))
            try:
                writers[side].append(named, checked=True)  # by the readers
            except ValueError as error:
                _broken(f"{file} {place}: {error}", skip_bad, report)
                continue
            report.count(frame)
            elements[side].update(frame.numbers.tolist())
            if progress is not None:
                progress(str(file), sum(writer.rows["frames"] for writer in writers))
        _check_sides(writers, len(groups), split, report)
        for writer in writers:
            writer.finish()
    report.stores = [str(Path(output) / part) for part in split.parts] or [str(output)]
    report.frames = [writer.rows["frames"] for writer in writers]
    report.atoms = [writer.rows["atoms"] for writer in writers]
    report.only_in_validation = [chemical_symbols[number] for number in sorted(elements[-1] - elements[0])]
    report.keys = [(*key, count) for key, count in sorted(options.found.items())]
    return report


def _names(files: Sequence[str | Path]) -> dict[Path, str]:
    """Each file's path below the folder that all share, so that a split does not depend on where that folder lies."""
    places = {Path(file): Path(file).resolve() for file in files}
    shared = os.path.commonpath([place.parent for place in places.values()]) if places else ""
    return {file: place.relative_to(shared).as_posix() for file, place in places.items()}


def _frames(
    files: Sequence[str | Path], format: str | None, options: ReadOptions, skip_bad: bool, report: BuildReport
) -> Iterator[tuple[Path, str, Frame]]:
    for file in map(Path, files):
        for place, frame, fault in read_entries_of(file, format=format, options=options):
            if frame is not None:
                yield file, place, frame
            else:
                _broken(f"{file} {place}: {fault}", skip_bad, report)


def _broken(message: str, skip_bad: bool, report: BuildReport) -> None:
    if not skip_bad:
        raise ValueError(f"{message}. Mend or remove it, or leave broken frames out with --skip-bad.")
    report.skipped += 1
    if len(report.faults) < REMEMBERED:
        report.faults.append(message)


def _check_sides(writers: Sequence[StoreWriter], groups: int, split: SplitOptions, report: BuildReport) -> None:
    """Say in words why there is nothing to store, or nothing on one side."""
    if not any(writer.rows["frames"] for writer in writers):
        raise ValueError(f"there is no frame to store ({report.skipped} broken ones were left out)")
    for part, writer in zip(split.parts, writers, strict=False):
        if not writer.rows["frames"]:
            raise ValueError(
                f"the {part} part is empty: {groups} {'group' if groups == 1 else 'groups'} by {split.split_by}, of "
                f"which {split.validation:g} are drawn for validation. Take another share, --seed or --split-by"
            )
