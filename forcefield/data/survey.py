"""A few numbers of every frame of a data set, taken in one pass, for whatever is asked about it afterwards."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefield.data.frames import Frame

LABELS = ("energy", "forces", "stress", "atomic_energies", "magmoms")
GRID = 997.3  # cells of the grid per unit; no simple fraction falls on a border of it
OFFSET = 0.37
# name -> (type code of the array module, numbers a frame)
COLUMNS: dict[str, tuple[str, int]] = {
    "n_atoms": ("l", 1),
    "energy": ("d", 1),
    "largest_force": ("d", 1),
    "cell": ("d", 9),
    "stress": ("d", 6),
    "volume": ("d", 1),
    "structure": ("q", 1),
    "shape_free": ("q", 1),
}


@dataclass(frozen=True)
class Table:
    """Columns of a survey, one row a frame; NaN where there is no such label.

    Attributes:
        n_atoms: (frames,).
        energy: (frames,) in eV.
        largest_force: (frames,) largest force on an atom (eV/Å).
        cell: (frames, 3, 3) in Å.
        stress: (frames, 6) in eV/Å^3.
        volume: (frames,) in Å^3; NaN unless periodic in three directions.
        structure: (frames,) equal for equal structures.
        shape_free: (frames,) equal for equal fractional coordinates in one material, whatever the cell.
        composition: (elements in all frames, 3): row, atomic number, number of atoms.
        places: (frames,) file and place of each.
    """

    n_atoms: NDArray[np.int64]
    energy: NDArray[np.float64]
    largest_force: NDArray[np.float64]
    cell: NDArray[np.float64]
    stress: NDArray[np.float64]
    volume: NDArray[np.float64]
    structure: NDArray[np.int64]
    shape_free: NDArray[np.int64]
    composition: NDArray[np.int64]
    places: list[str]


class Survey:
    """Collects the numbers; about 250 bytes a frame."""

    def __init__(self) -> None:
        self._columns = {name: array(code) for name, (code, _) in COLUMNS.items()}
        self._composition = array("l")
        self._places: list[str] = []
        self.labelled: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.materials: Counter[str] = Counter()
        self.forces_squared = 0.0
        self.force_components = 0

    def add(self, place: str, frame: Frame) -> None:
        """Take the numbers of a frame.

        Args:
            place: file and place, to name it afterwards.
            frame: the frame.
        """
        row = len(self._places)
        self._places.append(place)
        elements, counts = np.unique(frame.numbers, return_counts=True)
        for element, count in zip(elements.tolist(), counts.tolist(), strict=True):
            self._composition.extend((row, element, count))
        volume = abs(float(np.linalg.det(frame.cell))) if frame.pbc.all() else np.nan
        values: dict[str, list[Any]] = {
            "n_atoms": [len(frame.numbers)],
            "energy": [np.nan if frame.energy is None else frame.energy],
            "largest_force": [np.nan],
            "cell": frame.cell.ravel().tolist(),
            "stress": [np.nan] * 6 if frame.stress is None else np.asarray(frame.stress).tolist(),
            "volume": [volume],
            "structure": [_digest(frame, "structure")],
            "shape_free": [_digest(frame, "shape_free") if frame.pbc.all() else row],
        }
        if frame.forces is not None:
            values["largest_force"] = [float(np.sqrt((frame.forces**2).sum(axis=1).max()))]
            self.forces_squared += float((frame.forces**2).sum())
            self.force_components += frame.forces.size
        for name, numbers in values.items():
            self._columns[name].extend(numbers)
        self.labelled.update(label for label in LABELS if getattr(frame, label) is not None)
        self.kinds[frame.kind] += 1
        self.materials[frame.material] += 1

    def __len__(self) -> int:
        return len(self._places)

    def table(self) -> Table:
        """What was collected, as arrays."""
        frames = len(self)
        columns = {name: np.array(column) for name, column in self._columns.items()}
        columns["cell"] = columns["cell"].reshape(frames, 3, 3)
        columns["stress"] = columns["stress"].reshape(frames, 6)
        composition = np.array(self._composition, dtype=np.int64).reshape(-1, 3)
        return Table(**columns, composition=composition, places=self._places)


def _digest(frame: Frame, what: str) -> int:
    """A number that equal structures share; positions that differ by rounding of a text file seldom tell them apart."""
    if what == "structure":
        parts = [frame.positions * 3.0, frame.cell * 3.0]  # to about 0.3 mÅ
        name = ""
    else:
        fractional = np.linalg.solve(frame.cell.T, frame.positions.T).T
        parts = [(fractional - fractional[0] + OFFSET) % 1.0]
        name = frame.material
    grid = [np.floor(part * GRID + OFFSET).astype(np.int64).tobytes() for part in parts]
    content = b"".join([frame.numbers.astype(np.int64).tobytes(), frame.pbc.tobytes(), name.encode(), *grid])
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)
