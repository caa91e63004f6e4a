"""Frames of a run: stores that exist, or stores made once from raw files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, write_store
from forcefield.train.distributed import Group
from forcefield.train.schedule import LABELS

FOLDER = "stores"


def open_store(
    source: Path | tuple[Path, ...],
    name: str,
    output: Path,
    cutoff: float,
    group: Group,
    *,
    tell: Callable[[str], None],
) -> FrameStore:
    """The store of a configuration's entry; made of raw files by one process, the first time.

    Args:
        source: folder of a store, or raw files.
        name: "train" or "validation".
        output: folder of the run, where a new store goes.
        cutoff: neighbour radius of a new store (Å).
        group: processes of the run.
        tell: told where a store is made.

    Raises:
        ValueError: a file is missing or cannot be read, or changed since its store was made.
    """
    files = (source,) if isinstance(source, Path) else source
    if len(files) == 1 and (files[0] / "store.json").is_file():
        return FrameStore(files[0])
    folder = output / FOLDER / name
    if group.is_root:
        _make_once(files, folder, name, cutoff, tell)
    group.from_root(None)  # the others wait
    return FrameStore(folder)


def _make_once(files: Sequence[Path], folder: Path, name: str, cutoff: float, tell: Callable[[str], None]) -> None:
    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise ValueError(f"{name}: {', '.join(missing)} does not exist; give a frame store or files with structures")
    mark = folder.with_name(folder.name + ".json")
    now = {"cutoff": cutoff, "files": [_state(path) for path in files]}
    if folder.exists():
        if not mark.is_file() or json.loads(mark.read_text(encoding="utf-8")) != now:
            raise ValueError(
                f"{folder} was made from other files or with another cutoff than {name} has now; remove that folder "
                "to make it again, or give another output"
            )
        return
    tell(f"making the store {folder} from {', '.join(str(path) for path in files)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(now, indent=1), encoding="utf-8")
    try:
        write_store(folder, _frames(files), cutoff)
    except ValueError as error:
        raise ValueError(f"{name}: {', '.join(str(path) for path in files)}: {error}") from error


def _frames(files: Sequence[Path]) -> Iterator[Frame]:
    from forcefield.data.readers import read_frames

    return chain.from_iterable(read_frames(path) for path in files)


def _state(path: Path) -> list[str | int]:
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def check_stores(train: FrameStore, validation: FrameStore, cutoff: float, elements: Sequence[int]) -> None:
    """Refuse data that the run cannot use.

    Args:
        train: training frames.
        validation: validation frames.
        cutoff: of the network (Å).
        elements: atomic numbers that the network knows.

    Raises:
        ValueError: a store is empty, has neighbour lists that end within the cutoff, or elements unknown to the model.
    """
    for name, store in (("train", train), ("validation", validation)):
        if len(store) == 0:
            raise ValueError(f"{name}: {store.folder} has no frame")
        if store.cutoff < cutoff:
            raise ValueError(
                f"{name}: {store.folder} has neighbour lists up to {store.cutoff} Å, the network needs {cutoff} Å; "
                "make the store again with that cutoff"
            )
        unknown = [chemical_symbols[z] for z in store.elements if z not in elements]
        if unknown:
            raise ValueError(
                f"{name}: {store.folder} has the elements {', '.join(unknown)}, which the model does not know; "
                "leave these frames out, or train a model on data with these elements"
            )


def label_counts(store: FrameStore) -> dict[str, int]:
    """Labelled entries of each property: energies, force and stress components, atomic energies."""
    return {name: int(np.count_nonzero(~np.isnan(store.arrays[name]))) for name in LABELS}


def check_labels(train: FrameStore, weighted: Sequence[str]) -> dict[str, int]:
    """Labelled entries of the training data.

    Raises:
        ValueError: of what has a weight in the loss, nothing is labelled.
    """
    counts = label_counts(train)
    if not any(counts[name] for name in weighted):
        raise ValueError(
            f"train: {train.folder} has no label (only NaN) for {', '.join(weighted) or 'anything'}, which is all that "
            f"has a weight in the loss; labelled entries are {counts}"
        )
    return counts
