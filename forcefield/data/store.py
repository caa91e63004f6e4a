"""Frames on disk: flat memory-mapped arrays with the neighbour lists, written once and read at random.

A store is a folder of ``.npy`` arrays and ``store.json``. Frames are appended as they come, so that the source never
has to fit into memory; missing labels are NaN.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ase
import numpy as np
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
OPTIONAL_ARRAYS: dict[str, tuple[str, tuple[int, ...], str]] = {"magmoms": ("<f4", (), "atoms")}
"""Arrays that a store has only if a frame has the label."""
MAX_ATOMS = 65535
HEADER_BYTES = 128


def layout(name: str) -> tuple[str, tuple[int, ...], str]:
    """Type, shape of one row, and what the rows of an array are counted in."""
    return ARRAYS[name] if name in ARRAYS else OPTIONAL_ARRAYS[name]


def write_store(
    folder: str | Path, frames: Iterable[Frame], cutoff: float, *, made: Mapping[str, Any] | None = None
) -> FrameStore:
    """Write a store; the folder appears under its name only when it is complete, and nothing is left otherwise.

    Args:
        folder: where; must not exist.
        frames: labelled structures, taken one at a time.
        cutoff: radius of the neighbour lists (Å).
        made: where the frames come from, kept in the header; anything that JSON can hold.

    Raises:
        FileExistsError: the folder exists.
        ValueError: a frame is unusable (says which and why), or there is none.
        OSError: the disk is full, or not writable.
    """
    with folder_when_complete(folder) as partial, StoreWriter(partial, cutoff, made=made) as writer:
        for frame in frames:
            writer.append(frame)
        writer.finish()
    return FrameStore(folder)


@contextmanager
def folder_when_complete(folder: str | Path) -> Iterator[Path]:
    """A new folder to write into, which gets its name when the block ends well and is removed when it does not.

    A process that is killed leaves a folder ending in ``.partial``, which the next attempt removes.

    Raises:
        FileExistsError: the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; give a new folder or remove it")
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_frame(frame: Frame) -> None:
    """Refuse a frame that cannot be stored or computed.

    Raises:
        ValueError: says why: its size, the shape of an array, a label that is infinite, or what `check_structure` says.
    """
    n = len(frame.numbers)
    if not 0 < n <= MAX_ATOMS:
        raise ValueError(f"it has {n} atoms; a store takes 1 to {MAX_ATOMS}")
    shapes = {"positions": (n, 3), "cell": (3, 3), "pbc": (3,), "forces": (n, 3), "stress": (6,)}
    for name, shape in {**shapes, "energy": (), "atomic_energies": (n,), "magmoms": (n,)}.items():
        value = getattr(frame, name)
        if value is not None and np.shape(value) != shape:
            raise ValueError(f"{name} has shape {np.shape(value)} but must have {shape}")
        if value is not None and np.isinf(value).any():
            raise ValueError(f"{name} is infinite; a label that is unknown is None or NaN")
    check_structure(ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc))


class StoreWriter:
    """Appends frames to the arrays of a store; the header, without which it is none, comes last with `finish`.

    Args:
        folder: a folder, made if need be.
        cutoff: radius of the neighbour lists (Å).
        made: where the frames come from, kept in the header.
    """

    def __init__(self, folder: Path, cutoff: float, *, made: Mapping[str, Any] | None = None) -> None:
        if not cutoff > 0:
            raise ValueError(f"cutoff is {cutoff}, but must be positive (Å)")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.cutoff, self.made = folder, cutoff, dict(made or {})
        self.files = {name: (folder / f"{name}.raw").open("wb") for name in {**ARRAYS, **OPTIONAL_ARRAYS}}
        for file in self.files.values():
            file.write(bytes(HEADER_BYTES))
        self.rows = {"frames": 0, "atoms": 0, "edges": 0}
        self.kinds: dict[str, int] = {}
        self.materials: dict[str, int] = {}
        self.present: set[str] = set()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            # After an error the disk may refuse the last bytes as well; the first error is the one to be seen.
            with suppress(OSError):
                file.close()

    def append(self, frame: Frame, *, checked: bool = False) -> None:
        """Add a frame.

        Args:
            frame: the frame.
            checked: whether it has passed `check_frame` already.

        Raises:
            ValueError: the frame is unusable; says its number and why.
        """
        index = self.rows["frames"]
        try:
            if not checked:
                check_frame(frame)
        except ValueError as error:
            raise ValueError(f"frame {index}: {error}") from error
        n = len(frame.numbers)
        edges = find_edges(frame.positions, frame.cell, frame.pbc, self.cutoff)
        if np.abs(edges.shift).max(initial=0) > 127:
            raise ValueError(
                f"frame {index} needs lattice translations beyond 127 cells; wrap its atoms, or its cell is too thin"
            )
        values = {
            "n_atoms": n,
            "n_edges": len(edges.centre),
            "max_neighbours": np.bincount(edges.centre, minlength=n).max(),
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
            "magmoms": np.full(n, np.nan) if frame.magmoms is None else frame.magmoms,
        }
        self.present.update(name for name in OPTIONAL_ARRAYS if getattr(frame, name) is not None)
        for name, value in values.items():
            self.files[name].write(np.asarray(value, dtype=layout(name)[0]).tobytes())
        self.rows["frames"] += 1
        self.rows["atoms"] += n
        self.rows["edges"] += len(edges.centre)

    def finish(self) -> None:
        """Complete the arrays and write the header.

        Raises:
            ValueError: there is no frame.
            OSError: the disk is full.
        """
        if not self.rows["frames"]:
            raise ValueError("there is no frame to store")
        for name, file in self.files.items():
            dtype, shape, per = layout(name)
            file.seek(0)
            file.write(npy_header(dtype, (self.rows[per], *shape)))
            file.flush()
            os.fsync(file.fileno())
            file.close()
            raw = self.folder / f"{name}.raw"
            if name in OPTIONAL_ARRAYS and name not in self.present:
                raw.unlink()
            else:
                raw.rename(self.folder / f"{name}.npy")
        names = {"kinds": list(self.kinds), "materials": list(self.materials)}
        header = {"format": FORMAT, "cutoff": self.cutoff, **names, **self.rows, "made": self.made}
        (self.folder / "store.json").write_text(json.dumps(header))


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The first `HEADER_BYTES` bytes of an ``.npy`` file of version 1.0, whatever the shape.

    References:
        https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode("latin1")
    return start + text.ljust(HEADER_BYTES - 11) + b"\n"


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
        self.made: dict[str, Any] = info.get("made", {})
        self.arrays: dict[str, NDArray] = {
            name: np.load(self.folder / f"{name}.npy", mmap_mode="r" if info[per] else None)
            for name, (_, _, per) in {**ARRAYS, **OPTIONAL_ARRAYS}.items()
            if name in ARRAYS or (self.folder / f"{name}.npy").is_file()
        }
        self.first_atom = np.concatenate([[0], np.cumsum(self.arrays["n_atoms"], dtype=np.int64)])
        self.first_edge = np.concatenate([[0], np.cumsum(self.arrays["n_edges"], dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.arrays["n_atoms"])

    def __getstate__(self) -> dict[str, str]:
        return {"folder": str(self.folder)}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    def frame(self, k: int) -> Frame:
        """Frame ``k`` with copies of its labels; what is NaN throughout is None.

        Raises:
            IndexError: there is no such frame.
        """
        if not 0 <= k < len(self):
            raise IndexError(f"frame {k} of {self.folder}, which has frames 0 to {len(self) - 1}")
        atoms = slice(int(self.first_atom[k]), int(self.first_atom[k + 1]))

        def label(name: str) -> NDArray[np.float64] | None:
            if name not in self.arrays:
                return None
            value = np.array(self.arrays[name][k if layout(name)[2] == "frames" else atoms], dtype=float)
            return None if np.isnan(value).all() else value

        energy = label("energy")
        return Frame(
            numbers=self.arrays["numbers"][atoms].astype(np.int64),
            positions=np.array(self.arrays["positions"][atoms], dtype=float),
            cell=np.array(self.arrays["cell"][k], dtype=float),
            pbc=np.array(self.arrays["pbc"][k]),
            energy=None if energy is None else float(energy),
            forces=label("forces"),
            stress=label("stress"),
            atomic_energies=label("atomic_energies"),
            kind=self.kinds[self.arrays["kind"][k]],
            material=self.materials[self.arrays["material"][k]],
            magmoms=label("magmoms"),
        )

    @property
    def elements(self) -> list[int]:
        """Atomic numbers that occur, sorted."""
        return [int(z) for z in np.unique(self.arrays["numbers"])]
