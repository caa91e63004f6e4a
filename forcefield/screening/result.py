"""What a screening reports: `ScreeningProgress` after each structure, and a `ScreeningResult` at the end."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.screening.journal import read_record
from forcefield.screening.table import make_row

MISSING = -1
"""In place of the place of a record that is not there."""


class ScreeningProgress(NamedTuple):
    """One structure more: name, verdict, error, whether it was done before, how many are done and running, remarks."""

    label: str
    verdict: str
    error: str | None
    known: bool
    done: int
    running: int
    note: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScreeningResult:
    """What became of the structures; records stay on disk and are read as they are asked for.

    Attributes:
        folder: where everything is.
        table: results.csv, one row a structure, in the order of the structures.
        parquet: the same as results.parquet; None where pyarrow is not installed.
        n_structures: how many were given.
        n_done: how many have a record, failures among them.
        n_known: how many of these were done before.
        n_ok: how many are as they should be (converged, stable, ...).
        n_failed: how many ended with an error.
        interrupted: whether Ctrl-C ended it early; the same call goes on from there.
        notes: what else to know, one sentence each.
    """

    folder: Path
    table: Path
    parquet: Path | None
    n_structures: int
    n_done: int
    n_known: int
    n_ok: int
    n_failed: int
    interrupted: bool
    notes: tuple[str, ...]
    _journal: Path = field(repr=False)
    _places: array[int] = field(repr=False)

    def records(self) -> Iterator[dict[str, Any]]:
        """Give the records in the order of the structures: "index", "label", "values", "atoms", "error", ..."""
        return read_records(self._journal, self._places)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Give the rows of the table."""
        return rows_of(self.records())

    def failures(self) -> Iterator[tuple[str, str]]:
        """Give name and reason of every structure that failed."""
        for record in self.records():
            if record["error"] is not None:
                yield record["label"], record["error"]

    def structures(self) -> Iterator[Atoms]:
        """Give the structures that the task kept, such as the relaxed ones, with their results and `info["label"]`."""
        for record in self.records():
            if record["atoms"] is not None:
                yield restore_atoms(record["atoms"], record["label"])


def read_records(journal: Path, places: array[int]) -> Iterator[dict[str, Any]]:
    """Records at the given places; the number in the row of places is the index of the structure."""
    with journal.open("rb") as stream:
        for index, place in enumerate(places):
            if place != MISSING:
                record = read_record(stream, place)
                yield {**record, "index": index, "label": record["label"] or str(index)}


def rows_of(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of the table from records."""
    return (make_row(record["index"], record["label"], record) for record in records)


def restore_atoms(described: dict[str, Any], label: str) -> Atoms:
    """The structure that `forcefield.screening.worker.describe_atoms` described."""
    atoms = Atoms(
        numbers=described["numbers"],
        positions=described["positions"],
        cell=described["cell"],
        pbc=described["pbc"],
        info={"label": label},
    )
    if described["computed"]:
        atoms.calc = SinglePointCalculator(atoms, **described["computed"])
    return atoms
