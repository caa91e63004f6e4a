"""The result table: one row a structure, as CSV, and as Parquet where pyarrow is installed. Rows are streamed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

FIRST = ("index", "structure", "ok", "verdict", "error")
LAST = ("seconds",)
CHUNK = 4096
"""Rows of the Parquet file written at once."""
NO_PARQUET = (
    "results.parquet is not written since pyarrow is not installed; it comes with "
    "pip install 'gnn-forcefield[screening]'."
)

Row = Mapping[str, Any]
Rows = Callable[[], Iterator[Row]]


def make_row(index: int, label: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a record: nested values get names such as moduli.bulk, lists become JSON."""
    row = {"index": index, "structure": label, **{name: record[name] for name in ("ok", "verdict", "error")}}
    row.update(_flat("", record["values"]))
    row["seconds"] = record["seconds"]
    return row


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            column = f"{prefix}{name}"
            yield (f"values.{column}" if column in (*FIRST, *LAST) else column), _cell(value)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def write_tables(folder: Path, rows: Rows) -> tuple[Path, Path | None]:
    """Write results.csv, and results.parquet where pyarrow is installed.

    Args:
        folder: where to.
        rows: gives the rows from the first on, each time it is called.

    Returns:
        The two paths, None for one that was not written.

    Raises:
        OSError: if a file cannot be written.
    """
    kinds = _kinds(rows())
    table = folder / "results.csv"
    with replace_whole(table) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(kinds))
        writer.writeheader()
        writer.writerows(dict(row) for row in rows())
    if find_spec("pyarrow") is None:
        return table, None
    parquet = folder / "results.parquet"
    with replace_whole(parquet) as partial:
        _write_parquet(partial, rows(), kinds)
    return table, parquet


@contextmanager
def replace_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes its name only once it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _kinds(rows: Iterable[Row]) -> dict[str, str]:
    """Columns in the order in which they come, and what each holds: "bool", "int", "float" or "str"."""
    kinds: dict[str, set[str]] = {name: set() for name in FIRST}
    for row in rows:
        for name, value in row.items():
            found = kinds.setdefault(name, set())
            if value is not None:
                found.add(type(value).__name__)
    ordered = {**{name: kinds[name] for name in kinds if name not in LAST}, "seconds": kinds.get("seconds", set())}
    return {name: _common(found) for name, found in ordered.items()}


def _common(found: set[str]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "float" if found == {"int", "float"} else "str"


def _write_parquet(path: Path, rows: Iterator[Row], kinds: Mapping[str, str]) -> None:
    import pyarrow
    from pyarrow import parquet

    types = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64(), "str": pyarrow.string()}
    convert: dict[str, Callable[[Any], Any]] = {"bool": bool, "int": int, "float": float, "str": str}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, CHUNK)):
            columns = {
                name: [None if row.get(name) is None else convert[kind](row[name]) for row in chunk]
                for name, kind in kinds.items()
            }
            writer.write_table(pyarrow.table(columns, schema=schema))
