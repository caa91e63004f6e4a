"""Files are read as streams: memory does not grow with their size."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forcefield.data.readers import read_frames
from forcefield.data.readers.opening import Lines, open_binary

MEGABYTE = 1 << 20


def frame_text(k: int, rng: np.random.Generator, atoms: int = 40) -> str:
    grid = np.stack(np.meshgrid(range(4), range(5), range(2), indexing="ij"), axis=-1).reshape(-1, 3)[:atoms]
    rows = np.hstack([2.5 * grid + 0.1 * rng.random((atoms, 3)), rng.normal(size=(atoms, 3))])
    lines = [f"{atoms}", f'Lattice="10 0 0 0 12.5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy={-k}']
    return "\n".join([*lines, *("Cu " + " ".join(f"{x:.8f}" for x in row) for row in rows)]) + "\n"


def write_extxyz(path: Path, size: int) -> int:
    text = frame_text(7, np.random.default_rng(0))
    count = size // len(text)
    with path.open("w") as file:
        file.writelines(text for _ in range(count))
    return count


def write_packed_extxyz(path: Path, size: int) -> int:
    text = frame_text(7, np.random.default_rng(0)).encode()
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(size // len(text)):
            file.write(text)
    return size // len(text)


def write_mptrj(path: Path, size: int) -> int:
    site = [{"species": [{"element": "Cu", "occu": 1}], "abc": [k / 20 + 0.001, 0.123456789, 0.5]} for k in range(20)]
    structure = {"lattice": {"matrix": [[50, 0, 0], [0, 4, 0], [0, 0, 4]]}, "sites": site}
    frame = {"structure": structure, "uncorrected_total_energy": -1.0, "force": [[0.1, 0.2, 0.3]] * 20}
    text = json.dumps(frame)
    count = size // (4 * len(text))
    with path.open("w") as file:
        for k in range(count):
            frames = ",".join(f'"mp-{k}-0-{i}": {text}' for i in range(4))
            file.write(f"{'{' if k == 0 else ','}" + f'"mp-{k}": {{{frames}}}')
        file.write("}")
    return 4 * count


def write_vasprun(path: Path, size: int) -> int:
    rows = "".join(f"<v> {k / 20:.8f} 0.12345678 0.50000000 </v>\n" for k in range(20))
    cell = "<v>50 0 0</v><v>0 4 0</v><v>0 0 4</v>"
    structure = f'<crystal><varray name="basis">{cell}</varray></crystal><varray name="positions">{rows}</varray>'
    orbitals = "".join(f"<r> {k} 1.0 </r>\n" for k in range(300))
    step = (
        f'<calculation><structure>{structure}</structure><varray name="forces">{rows}</varray>'
        f'<eigenvalues>{orbitals}</eigenvalues><energy><i name="e_0_energy">-1.0</i></energy></calculation>\n'
    )
    count = size // len(step)
    atoms = "".join("<rc><c>Cu</c><c>1</c></rc>" for _ in range(20))
    with path.open("w") as file:
        file.write(f'<modeling><atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>')
        file.writelines(step for _ in range(count))
        file.write("</modeling>")
    return count


WRITERS: dict[str, Callable[[Path, int], int]] = {
    "frames.extxyz": write_extxyz,
    "frames.extxyz.gz": write_packed_extxyz,
    "MPtrj.json": write_mptrj,
    "vasprun.xml": write_vasprun,
}


def peak_memory(path: Path, count: int) -> int:
    """Most bytes in use while a file is read."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_frames(path)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", WRITERS)
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    path = tmp_path / name
    small = WRITERS[name](path, MEGABYTE // 4)
    next(read_frames(path))  # what is imported at the first use is not the reader's memory
    first = peak_memory(path, small)
    large = WRITERS[name](path, MEGABYTE)
    assert large > 3 * small
    second = peak_memory(path, large)
    assert second < first + MEGABYTE // 8, f"{first} bytes for a quarter of a megabyte, {second} for one"


def test_bytes_are_counted_for_the_progress_bar(tmp_path):
    write_packed_extxyz(tmp_path / "a.gz", MEGABYTE)
    counted: list[int] = []
    with open_binary(tmp_path / "a.gz", counted.append) as file:
        assert len(file.read()) > 0.9 * MEGABYTE
    assert sum(counted) == (tmp_path / "a.gz").stat().st_size


def test_lines_put_back_come_again(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\nthree \xff\n")
    with open_binary(tmp_path / "a.txt") as file:
        lines = Lines(file)
        assert lines.take(2) == ["one\n", "two\n"] and lines.number == 2
        lines.put_back(["two\n"])
        assert lines.number == 1
        assert lines.take(9) == ["two\n", "three \ufffd\n"] and lines.take(1) == []
