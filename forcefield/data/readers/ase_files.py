"""What ASE reads: its databases, its trajectories, and any other file of structures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import numpy as np

from forcefield.data.frames import Frame
from forcefield.data.labels import KeysUnclear, ReadOptions, find_labels
from forcefield.data.readers.entry import Entry

WHOLE_FRAME = ("energy", "free_energy", "stress", "virial", "magmom", "dipole")
"""Results of a calculator that are of the whole frame, not of each atom."""


def read_database(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Rows of an ASE database; labels may also be key-value pairs or in a row's data.

    Args:
        path: a ``.db`` (read row by row) or ``.json`` database (which ASE reads as a whole).
        options: which keys and units.

    Raises:
        KeysUnclear: a label may be under several keys.
    """
    from ase.db import connect

    suffix = path.suffix.lower().lstrip(".")
    try:
        with connect(str(path), type=suffix if suffix in ("db", "json", "aselmdb") else "db") as database:
            for row in database.select():
                extra = {**row.key_value_pairs, **row.data}
                yield _entry(f"row {row.id}", row.toatoms(), extra, options)
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path} cannot be read as an ASE database ({error})") from error


def read_trajectory(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Steps of an ASE trajectory, one at a time.

    Args:
        path: a ``.traj`` file.
        options: which keys and units.
    """
    from ase.io.trajectory import Trajectory

    with Trajectory(str(path)) as trajectory:
        for k in range(len(trajectory)):
            yield _entry(f"#{k}", trajectory[k], {}, options)


def read_any(path: Path, options: ReadOptions, *, format: str | None = None) -> Iterator[Entry]:
    """Structures of a file in any other format of ASE; some of these are read as a whole.

    Args:
        path: the file.
        options: which keys and units.
        format: ASE's name of the format; found out if not given.

    Raises:
        ValueError: ASE cannot read the file.
    """
    from ase.io import iread

    structures = iread(str(path), ":", format=format, do_not_split_by_at_sign=True)
    index = 0
    while True:
        try:
            atoms = next(structures)
        except StopIteration:
            return
        except Exception as error:  # ASE's readers raise anything at all when a file is not what its name says
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ValueError(f"{path} cannot be read by ASE ({reason})") from error
        yield _entry(f"#{index}", atoms, {}, options)
        index += 1


def _entry(place: str, atoms: ase.Atoms, extra: dict[str, Any], options: ReadOptions) -> Entry:
    try:
        return Entry(place, _frame(atoms, extra, options))
    except KeysUnclear:
        raise
    except ValueError as error:
        return Entry(place, None, str(error))


def _frame(atoms: ase.Atoms, extra: dict[str, Any], options: ReadOptions) -> Frame:
    results = {} if atoms.calc is None else atoms.calc.results
    structure = ("numbers", "positions")
    info = {**atoms.info, **extra, **{key: results[key] for key in WHOLE_FRAME if key in results}}
    arrays = {key: value for key, value in {**extra, **atoms.arrays}.items() if key not in structure}
    arrays.update({key: value for key, value in results.items() if key not in WHOLE_FRAME})
    cell = np.array(atoms.cell, dtype=float)
    labels = find_labels(info, arrays, cell, options)
    numbers = np.array(atoms.numbers, dtype=np.int64)
    return Frame(numbers, atoms.get_positions(), cell, np.array(atoms.pbc, dtype=bool), **labels)
