"""Labels and predictions of many frames side by side, in flat arrays."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forcefield.data.frames import Frame

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Labels and predictions of the same shape."""


class Predicted(NamedTuple):
    """A frame with its labels, the same frame with predictions, and where it is (``data.extxyz #12``)."""

    place: str
    frame: Frame
    prediction: Frame


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of many frames in flat arrays; NaN where one of them is missing.

    Attributes:
        places: where each frame is.
        kinds: kind of each frame.
        n_atoms: (frames,) number of atoms.
        numbers: (atoms,) atomic numbers.
        energy: (frames,) in eV per atom.
        forces: (atoms, 3) in eV/Å.
        stress: (frames, 6) in eV/Å^3.
        atomic_energies: (atoms,) in eV.
    """

    places: list[str]
    kinds: list[str]
    n_atoms: NDArray[np.int64]
    numbers: NDArray[np.int64]
    energy: Pair
    forces: Pair
    stress: Pair
    atomic_energies: Pair

    @property
    def pairs(self) -> dict[str, Pair]:
        """Labels and predictions by property."""
        return {name: getattr(self, name) for name in ("energy", "forces", "stress", "atomic_energies")}

    @property
    def frame_of_atom(self) -> NDArray[np.int64]:
        """(atoms,) frame of each atom."""
        return np.repeat(np.arange(len(self.n_atoms)), self.n_atoms)


WIDTHS = {"energy": 0, "forces": 3, "stress": 0, "atomic_energies": 1}
"""Numbers of each atom; 0 for what belongs to the whole frame."""


def compare(predicted: Iterable[Predicted]) -> Comparison:
    """Collect predictions and labels, taking one frame at a time.

    Raises:
        ValueError: there is no frame.
    """
    places, kinds = [], []
    n_atoms, numbers = array("q"), array("q")
    columns = {name: (array("d"), array("d")) for name in WIDTHS}
    for place, frame, prediction in predicted:
        n = len(frame.numbers)
        places.append(place)
        kinds.append(frame.kind)
        n_atoms.append(n)
        numbers.extend(frame.numbers.tolist())
        for name, width in WIDTHS.items():
            size = width * n or {"energy": 1, "stress": 6}[name]
            for column, side in zip(columns[name], (frame, prediction), strict=True):
                value = getattr(side, name)
                values = np.full(size, np.nan) if value is None else np.asarray(value, dtype=float).reshape(size)
                column.frombytes(values.tobytes())
    if not places:
        raise ValueError("there is no frame to compare: all failed, or the selection is empty")
    atoms = np.array(n_atoms, dtype=np.int64)
    pairs = {name: (np.array(labels), np.array(predictions)) for name, (labels, predictions) in columns.items()}
    return Comparison(
        places,
        kinds,
        atoms,
        np.array(numbers, dtype=np.int64),
        energy=(pairs["energy"][0] / atoms, pairs["energy"][1] / atoms),
        forces=(pairs["forces"][0].reshape(-1, 3), pairs["forces"][1].reshape(-1, 3)),
        stress=(pairs["stress"][0].reshape(-1, 6), pairs["stress"][1].reshape(-1, 6)),
        atomic_energies=pairs["atomic_energies"],
    )
