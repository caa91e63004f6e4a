"""Frames on disk: flat memory-mapped arrays with the neighbour lists, written once and read at random.

A store is a folder of ``.npy`` arrays and ``store.json``. Frames are appended as they come, so that the source never
has to fit into memory; missing labels are NaN.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import ase
import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from forcefield.data.frames import Frame
from forcefield.neighbours import find_edges
from forcefield.structures import check_structure

FORMAT = 1
# name -> (dtype, shape of one row, rows counted in)
ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "n_atoms": ("<i4", (), "frames"),
    "n_edges": ("<i4", (), "frames"),
    "max_neighbours": ("<i4", (), "frames"),
    "cell": ("<f8", (3, 3), "frames"),
    "pbc": ("|b1", (3,), "frames"),
    "energy": ("<f8", (), "frames"),
    "stress": ("<f4", (6,), "frames"),
    "kind": ("<i4", (), "frames"),
    "material": ("<i4", (), "frames"),
    "numbers": ("|u1", (), "atoms"),
    "positions": ("<f8", (3,), "atoms"),
    "forces": ("<f4", (3,), "atoms"),
    "atomic_energies": ("<f4", (), "atoms"),
    "centre": ("<u2", (), "edges"),
    "neighbour": ("<u2", (), "edges"),
    "shift": ("|i1", (3,), "edges"),
}
MAX_ATOMS = 65535


def write_store(folder: str | Path, frames: Iterable[Frame], cutoff: float) -> FrameStore:
    """Write a store; the folder appears under its name only when it is complete.

    Args:
        folder: where; must not exist.
        frames: labelled structures, taken one at a time.
        cutoff: radius of the neighbour lists (Å).

    Raises:
        FileExistsError: the folder exists.
        ValueError: a frame is unusable (says which and why), or there is none.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; give a new folder or remove it")
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    writer = _Writer(partial)
    try:
        for k, frame in enumerate(frames):
            writer.append(k, frame, cutoff)
    finally:
        writer.close()
    if not writer.rows["frames"]:
        raise ValueError("there is no frame to store")
    info = {"format": FORMAT, "cutoff": cutoff, "kinds": writer.kinds, "materials": writer.materials, **writer.rows}
    (partial / "store.json").write_text(json.dumps({k: list(v) if isinstance(v, dict) else v for k, v in info.items()}))
    for name, (dtype, shape, per) in ARRAYS.items():
        _raw_to_npy(partial / f"{name}.raw", partial / f"{name}.npy", dtype, (writer.rows[per], *shape))
    partial.rename(folder)
    return FrameStore(folder)


def check_frame(index: int, frame: Frame) -> None:
    """Refuse a frame that cannot be stored or computed.

    Raises:
        ValueError: says which frame and why: its size, the shape of an array, a label that is infinite, or what
            `check_structure` says.
    """
    n = len(frame.numbers)
    if not 0 < n <= MAX_ATOMS:
        raise ValueError(f"frame {index} has {n} atoms; a store takes 1 to {MAX_ATOMS}")
    shapes = {"positions": (n, 3), "cell": (3, 3), "pbc": (3,), "forces": (n, 3), "stress": (6,)}
    for name, shape in {**shapes, "energy": (), "atomic_energies": (n,)}.items():
        value = getattr(frame, name)
        if value is not None and np.shape(value) != shape:
            raise ValueError(f"frame {index}: {name} has shape {np.shape(value)} but must have {shape}")
        if value is not None and np.isinf(value).any():
            raise ValueError(f"frame {index}: {name} is infinite; a label that is unknown is None or NaN")
    try:
        check_structure(ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc))
    except ValueError as error:
        raise ValueError(f"frame {index}: {error}") from error


class _Writer:
    """Appends frames to raw files."""

    def __init__(self, folder: Path) -> None:
        self.files = {name: (folder / f"{name}.raw").open("wb") for name in ARRAYS}
        self.rows = {"frames": 0, "atoms": 0, "edges": 0}
        self.kinds: dict[str, int] = {}
        self.materials: dict[str, int] = {}

    def append(self, index: int, frame: Frame, cutoff: float) -> None:
        check_frame(index, frame)
        n = len(frame.numbers)
        edges = find_edges(frame.positions, frame.cell, frame.pbc, cutoff)
        if np.abs(edges.shift).max(initial=0) > 127:
            raise ValueError(
                f"frame {index} needs lattice translations beyond 127 cells; wrap its atoms, or its cell is too thin"
            )
        counts = np.bincount(edges.centre, minlength=n)
        values = {
            "n_atoms": n,
            "n_edges": len(edges.centre),
            "max_neighbours": counts.max(),
            "cell": frame.cell,
            "pbc": frame.pbc,
            "energy": np.nan if frame.energy is None else frame.energy,
            "stress": np.full(6, np.nan) if frame.stress is None else frame.stress,
            "kind": self.kinds.setdefault(frame.kind, len(self.kinds)),
            "material": self.materials.setdefault(frame.material, len(self.materials)),
            "numbers": frame.numbers,
            "positions": frame.positions,
            "forces": np.full((n, 3), np.nan) if frame.forces is None else frame.forces,
            "atomic_energies": np.full(n, np.nan) if frame.atomic_energies is None else frame.atomic_energies,
            "centre": edges.centre,
            "neighbour": edges.neighbour,
            "shift": edges.shift,
        }
        for name, value in values.items():
            self.files[name].write(np.asarray(value, dtype=ARRAYS[name][0]).tobytes())
        self.rows["frames"] += 1
        self.rows["atoms"] += n
        self.rows["edges"] += len(edges.centre)

    def close(self) -> None:
        for file in self.files.values():
            file.close()


def _raw_to_npy(raw: Path, target: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """Move raw bytes into an ``.npy`` file block by block, and remove them."""
    if 0 in shape:  # an empty file cannot be mapped
        np.save(target, np.zeros(shape, dtype))
        raw.unlink()
        return
    out = open_memmap(target, mode="w+", dtype=np.dtype(dtype), shape=shape)
    flat, start, block = out.reshape(-1), 0, 1 << 22
    with raw.open("rb") as file:
        while len(part := np.frombuffer(file.read(block * out.itemsize), dtype=dtype)):
            flat[start : start + len(part)] = part
            start += len(part)
    out.flush()
    raw.unlink()


class FrameStore:
    """Read access to a store.

    Args:
        folder: a folder made by `write_store`.

    Raises:
        ValueError: not a store, or of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        header = self.folder / "store.json"
        if not header.is_file():
            raise ValueError(f"{self.folder} is no frame store (it has no store.json)")
        info = json.loads(header.read_text())
        if info["format"] != FORMAT:
            raise ValueError(f"{self.folder} has store format {info['format']}, this version reads {FORMAT}")
        self.cutoff: float = info["cutoff"]
        self.kinds: list[str] = info["kinds"]
        self.materials: list[str] = info["materials"]
        self.arrays: dict[str, NDArray] = {
            name: np.load(self.folder / f"{name}.npy", mmap_mode="r" if info[per] else None)
            for name, (_, _, per) in ARRAYS.items()
        }
        self.first_atom = np.concatenate([[0], np.cumsum(self.arrays["n_atoms"], dtype=np.int64)])
        self.first_edge = np.concatenate([[0], np.cumsum(self.arrays["n_edges"], dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.arrays["n_atoms"])

    def __getstate__(self) -> dict[str, str]:
        return {"folder": str(self.folder)}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, sorted."""
        return [int(z) for z in np.unique(self.arrays["numbers"])]
