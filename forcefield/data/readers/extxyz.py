"""Extended XYZ as a stream: one frame in memory, no seeking, and reading goes on behind a broken frame.

Format: https://github.com/libAtoms/extxyz. Only the columns and keys that can be a structure or a label are converted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from forcefield.data.frames import Frame
from forcefield.data.labels import KeysUnclear, ReadOptions, find_labels, label_of
from forcefield.data.readers.entry import Entry
from forcefield.data.readers.opening import Lines, open_binary

PAIR = re.compile(
    r"""([^\s="']+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\{[^}]*\}|\[(?:[^\[\]]|\[[^\]]*\])*\]|\S+)"""
)
PLAIN = "species:S:1:pos:R:3"
MOST_ATOMS = 10_000_000  # a larger count is no count
TRUE, FALSE = ("t", "true", "1", ".true."), ("f", "false", "0", ".false.")


def read_extxyz(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Frames of an extended XYZ file, compressed or not.

    Args:
        path: the file.
        options: which keys and units.

    Raises:
        KeysUnclear: a label may be under several keys.
    """
    with open_binary(path, options.count_bytes) as file:
        lines = Lines(file)
        index = 0
        while True:
            head = _next_count(lines)
            if head is None:
                return
            place, at = f"#{index}", lines.number
            index += 1
            try:
                yield Entry(place, _read_frame(head, lines, options))
            except KeysUnclear:
                raise
            except ValueError as error:
                yield Entry(place, None, f"line {at}: {error}")


def _next_count(lines: Lines) -> str | None:
    """The next line that is not empty, or None at the end."""
    while line := lines.take(1):
        if line[0].strip():
            return line[0].strip()
    return None


def _read_frame(head: str, lines: Lines, options: ReadOptions) -> Frame:
    if not _is_count(head):
        _skip_to_count(lines)
        raise ValueError(f"a number of atoms was expected but {head[:60]!r} came")
    n_atoms = int(head)
    comment = lines.take(1)
    if not comment:
        raise ValueError("the file ends after a number of atoms")
    rows = lines.take(n_atoms)
    info = parse_comment(comment[0])
    columns = parse_properties(info.pop("Properties", PLAIN))
    arrays = _read_rows(rows, n_atoms, columns, lines, options)
    cell = np.zeros((3, 3)) if "Lattice" not in info else _numbers(info["Lattice"], 9, "Lattice").reshape(3, 3)
    numbers = _atomic_numbers(arrays)
    if "pos" not in arrays:
        raise ValueError("Properties has no column pos")
    positions = arrays.pop("pos").reshape(n_atoms, -1)
    values = {key: _value(text) for key, text in info.items() if _wanted(key, options)}
    labels = find_labels(values, arrays, cell, options)
    return Frame(numbers, positions, cell, _periodic(info), **labels)


def _is_count(line: str) -> bool:
    line = line.strip()
    return line.isdigit() and int(line) <= MOST_ATOMS


def _skip_to_count(lines: Lines) -> None:
    """Go on to the next line that is a number of atoms."""
    while line := lines.take(1):
        if _is_count(line[0]):
            lines.put_back(line)
            return


def _read_rows(
    rows: list[str], n_atoms: int, columns: list[tuple[str, str, int]], lines: Lines, options: ReadOptions
) -> dict[str, Any]:
    """Columns by name: text for species, numbers for the rest."""
    width = sum(count for _, _, count in columns)
    words = " ".join(rows).split()
    if len(words) != n_atoms * width:
        _put_back_next_frame(rows, lines)
        raise ValueError(f"{n_atoms} atoms with {width} columns were announced, but the lines hold something else")
    arrays: dict[str, Any] = {}
    start = 0
    for name, kind, count in columns:
        wanted = name in ("species", "Z", "numbers", "pos") or _wanted(name, options)
        if wanted and kind == "S":
            arrays[name] = words[start::width]
        elif wanted:
            arrays[name] = _floats(words, start, count, width, name)
        start += count
    return arrays


def _put_back_next_frame(rows: list[str], lines: Lines) -> None:
    """Where a frame is short, its lines run into the next one: start again there."""
    for k, row in enumerate(rows):
        if _is_count(row):
            lines.put_back(rows[k:])
            return


def _floats(words: list[str], start: int, count: int, width: int, name: str) -> NDArray[np.float64]:
    try:
        parts = [np.array(list(map(float, words[start + k :: width]))) for k in range(count)]
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from error
    return parts[0] if count == 1 else np.stack(parts, axis=1)


def _atomic_numbers(arrays: dict[str, Any]) -> NDArray[np.int64]:
    for name in ("Z", "numbers"):
        if name in arrays:
            return np.asarray(arrays[name], dtype=float).astype(np.int64)
    if "species" not in arrays:
        raise ValueError("Properties has neither species nor Z")
    symbols = arrays.pop("species")
    known = {symbol: atomic_numbers.get(symbol.capitalize(), 0) for symbol in set(symbols)}
    unknown = sorted(symbol for symbol, number in known.items() if number == 0)
    if unknown:
        raise ValueError(f"unknown elements: {', '.join(unknown[:5])}")
    return np.array([known[symbol] for symbol in symbols], dtype=np.int64)


def _wanted(key: str, options: ReadOptions) -> bool:
    return label_of(key) is not None or key in options.keys.values()


def parse_comment(line: str) -> dict[str, str]:
    """Keys of a comment line with their values as text, without quotes; keys without a value are left out.

    >>> parse_comment('Lattice="5 0 0 0 5 0 0 0 5" REF_energy=-1.5 name={a b} checked')
    {'Lattice': '5 0 0 0 5 0 0 0 5', 'REF_energy': '-1.5', 'name': 'a b'}
    """
    pairs = {}
    for key, value in PAIR.findall(line):
        quoted = len(value) > 1 and (value[0], value[-1]) in (('"', '"'), ("'", "'"), ("{", "}"))
        pairs[key] = value[1:-1] if quoted else value
    return pairs


def parse_properties(text: str) -> list[tuple[str, str, int]]:
    """Columns of a frame: name, type letter and how many.

    Raises:
        ValueError: the text is no list of name:type:number.
    """
    words = text.split(":")
    if len(words) % 3 or not all(word.isdigit() for word in words[2::3]):
        raise ValueError(f"Properties is {text!r}, but must be name:type:number, repeated")
    return [(words[k], words[k + 1], int(words[k + 2])) for k in range(0, len(words), 3)]


def _numbers(text: str, count: int, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(word) for word in re.findall(r"[^\s,\[\]]+", text)])
    except ValueError as error:
        raise ValueError(f"{name} is {text!r}: {error}") from error
    if len(numbers) != count:
        raise ValueError(f"{name} has {len(numbers)} numbers, but must have {count}")
    return numbers


def _value(text: str) -> Any:
    """Numbers of a value as an array (a single one as such), or else the text."""
    if text.startswith("_JSON "):
        return json.loads(text[6:].replace('\\"', '"'))
    try:
        numbers = [float(word) for word in re.findall(r"[^\s,\[\]]+", text)]
    except ValueError:
        return text
    if len(numbers) == 1:
        return text if "[" not in text else numbers[0]
    return np.array(numbers) if numbers else text


def _periodic(info: dict[str, str]) -> NDArray[np.bool_]:
    if "pbc" not in info:
        return np.full(3, "Lattice" in info)
    words = re.findall(r"[^\s,\[\]]+", info["pbc"].lower())
    if len(words) == 1:
        words = words * 3
    if len(words) != 3 or not all(word in TRUE + FALSE for word in words):
        raise ValueError(f"pbc is {info['pbc']!r}, but must be three of T and F")
    return np.array([word in TRUE for word in words])
