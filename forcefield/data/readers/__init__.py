"""Readers of labelled structures: any supported file, or a frame store, as a stream of checked frames."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from lzma import LZMAError
from pathlib import Path
from zipfile import BadZipFile

from forcefield.data.checks import refuse_broken
from forcefield.data.frames import Frame, read_compact
from forcefield.data.labels import INSIDE, ReadOptions
from forcefield.data.readers.ase_files import read_any, read_database, read_trajectory
from forcefield.data.readers.entry import Entry
from forcefield.data.readers.extxyz import read_extxyz
from forcefield.data.readers.json_layouts import is_json, layout_of_json, read_entries, read_mptrj
from forcefield.data.readers.opening import open_binary, plain_name
from forcefield.data.readers.vasprun import read_vasprun
from forcefield.data.store import FrameStore

UNREADABLE = (OSError, EOFError, zlib.error, LZMAError, BadZipFile)
"""What a file that is cut short, damaged or of another kind than its name says raises while it is read."""
FrameLabels = ("energy", "forces", "stress", "atomic_energies", "magmoms")


def _read_compact(path: Path, options: ReadOptions) -> Iterator[Entry]:
    yield from _numbered(read_compact(path), options)


def _read_store(path: Path, options: ReadOptions) -> Iterator[Entry]:
    store = FrameStore(path)
    yield from _numbered((store.frame(k) for k in range(len(store))), options)


def _numbered(frames: Iterator[Frame], options: ReadOptions) -> Iterator[Entry]:
    for k, frame in enumerate(frames):
        for label in FrameLabels:
            if getattr(frame, label) is not None:
                options.note(label, label, INSIDE[label])
        yield Entry(f"#{k}", frame)


FORMATS: dict[str, Callable[[Path, ReadOptions], Iterator[Entry]]] = {
    "extxyz": read_extxyz,
    "ase-db": read_database,
    "traj": read_trajectory,
    "mptrj": read_mptrj,
    "entries": read_entries,
    "vasprun": read_vasprun,
    "compact": _read_compact,
    "store": _read_store,
}


def format_of(path: str | Path) -> str:
    """Name of the format of a file or folder: a key of `FORMATS`, or ``ase`` for whatever else ASE reads.

    Raises:
        ValueError: there is nothing, or JSON in an unknown layout.
    """
    path = Path(path)
    if path.is_dir():
        return "store"
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    name = plain_name(path)
    suffix = name.rsplit(".", 1)[-1]
    known = {"xyz": "extxyz", "extxyz": "extxyz", "db": "ase-db", "aselmdb": "ase-db", "traj": "traj", "npz": "compact"}
    if suffix in known:
        return known[suffix]
    if suffix == "xml" and "vasprun" in name:
        return "vasprun"
    if suffix == "json":
        with open_binary(path) as file:
            if is_json(file):
                return layout_of_json(path)
        raise ValueError(f"{path} is called JSON but does not start like it")
    return "ase"


def read_entries_of(
    path: str | Path, *, format: str | None = None, options: ReadOptions | None = None
) -> Iterator[Entry]:
    """Stream a file with the place of each frame; a broken frame is an entry without one.

    Args:
        path: a file in one of `FORMATS` or any that ASE reads, or a store folder.
        format: a key of `FORMATS` or one of ASE's format names; found out if not given.
        options: which keys and units, and a record of what was found.

    Raises:
        ValueError: the file cannot be read at all, or it is not clear which key is meant.
        ImportError: an optional package is missing; names the extra.
    """
    path = Path(path)
    options = options if options is not None else ReadOptions()
    format = format if format is not None else format_of(path)
    if format in FORMATS:
        entries = FORMATS[format](path, options)
    else:
        entries = read_any(path, options, format=None if format == "ase" else format)
    try:
        for place, frame, fault in entries:
            if frame is not None and format != "store":  # whose frames were checked when it was written
                try:
                    refuse_broken(frame)
                except ValueError as error:
                    frame, fault = None, str(error)
            yield Entry(place, frame, fault)
    except (ValueError, *UNREADABLE) as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def read_frames(
    path: str | Path,
    *,
    format: str | None = None,
    on_bad: Callable[[str], None] | None = None,
    options: ReadOptions | None = None,
) -> Iterator[Frame]:
    """Stream the frames of a file or store.

    Args:
        path: extended XYZ, ASE database or trajectory, MPtrj JSON, vasprun.xml, a list of ComputedStructureEntry, a
            compact ``.npz``, anything else that ASE reads, or a store folder.
        format: a key of `FORMATS` or one of ASE's format names; found out if not given.
        on_bad: told the file, the place and the fault of a broken frame, which is then left out.
        options: which keys and units.

    Raises:
        ValueError: the file cannot be read, or a frame is broken and there is no ``on_bad``; says file and place.
        ImportError: an optional package is missing; names the extra.
    """
    for place, frame, fault in read_entries_of(path, format=format, options=options):
        if frame is not None:
            yield frame
        elif on_bad is not None:
            on_bad(f"{path} {place}: {fault}")
        else:
            raise ValueError(f"{path} {place}: {fault}")
