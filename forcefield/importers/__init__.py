"""Weights published with other packages, converted to models of this one.

An importer reads one file format, says which of our networks the weights belong to, and translates them; what comes
out is an ordinary model folder. See `docs/importing.md` for the files and what was checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from forcefield.importers.imported import Imported
from forcefield.importers.nequix import read_nequix
from forcefield.importers.sevennet import read_sevennet

SOURCES: dict[str, Callable[[Path], Imported]] = {"nequix": read_nequix, "sevennet": read_sevennet}
"""Name of a package -> what reads a weight file of it."""


def import_model(
    source: str, file: str | os.PathLike[str], folder: str | os.PathLike[str], *, labels: str | None = None
) -> Path:
    """Convert a published weight file to a model folder.

    Args:
        source: key of `SOURCES`.
        file: the weight file as it was published.
        folder: model folder to write; one that exists is not overwritten.
        labels: what the weights were trained on, for the card; where not given, what is known of the file.

    Raises:
        ValueError: the source is unknown, the file is not what was expected, or the folder holds a model already.
    """
    if source not in SOURCES:
        raise ValueError(f"weights of {source!r} cannot be imported; choose one of {sorted(SOURCES)}")
    path, folder = Path(file), Path(folder)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; docs/importing.md says where the weights of {source} are")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another one")
    imported = SOURCES[source](path)
    return (imported if labels is None else replace(imported, labels=labels)).save(folder, path)
