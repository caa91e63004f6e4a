"""Reference energies and scale from labelled frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from forcefield.data.store import FrameStore


def read_element_energies(path: str | Path) -> dict[int, float]:
    """Energies by element from a JSON file ``{"H": -1.11, ...}``, as atomic number -> eV.

    Raises:
        ValueError: a key is no element symbol.
    """
    energies = json.loads(Path(path).read_text())
    unknown = [symbol for symbol in energies if symbol not in atomic_numbers]
    if unknown:
        raise ValueError(f"{path} has keys that are no element symbols: {unknown}")
    return {atomic_numbers[symbol]: float(energy) for symbol, energy in energies.items()}


def bound_energies(store: FrameStore, isolated: dict[int, float]) -> tuple[dict[int, float], float]:
    """Mean energy of each element's bound atoms relative to the free atom, and the spread that is left.

    From a teacher's atomic energies where the store has some for every element; else by least squares on total
    energies with a weak ridge towards zero, which settles elements that always occur together.

    Returns:
        atomic number -> eV, and the root mean square of the rest per atom (eV).

    Raises:
        ValueError: an element of the store has no free-atom energy, or no frame has an energy.
    """
    missing = [z for z in store.elements if z not in isolated]
    if missing:
        raise ValueError(f"no free-atom energy for atomic numbers {missing}; add them to the file")
    numbers = np.asarray(store.arrays["numbers"], dtype=np.int64)
    free = np.zeros(119)
    free[list(isolated)] = list(isolated.values())
    atomic = np.asarray(store.arrays["atomic_energies"], dtype=float)
    labelled = ~np.isnan(atomic)
    counts = np.bincount(numbers[labelled], minlength=119)
    if counts[store.elements].all():
        known = numbers[labelled]
        relative = atomic[labelled] - free[known]
        mean = np.bincount(known, relative, minlength=119) / np.maximum(counts, 1)
        rest = relative - mean[known]
    else:
        mean, rest = _least_squares(store, numbers, free)
    return {z: float(mean[z]) for z in store.elements}, float(np.sqrt(np.mean(rest**2)))


def _least_squares(
    store: FrameStore, numbers: NDArray[np.int64], free: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    energy = np.asarray(store.arrays["energy"], dtype=float)
    n_atoms = np.asarray(store.arrays["n_atoms"], dtype=np.int64)
    frame_of = np.repeat(np.arange(len(store)), n_atoms)
    composition = np.bincount(frame_of * 119 + numbers, minlength=119 * len(store)).reshape(-1, 119).astype(float)
    known = ~np.isnan(energy)
    if not known.any():
        raise ValueError("no frame has an energy; reference energies cannot be fitted")
    rows = composition[known] / n_atoms[known, None]
    target = (energy[known] - composition[known] @ free) / n_atoms[known]
    normal = rows.T @ rows + np.eye(119) * 1e-3
    mean = np.linalg.solve(normal, rows.T @ target)
    return mean, target - rows @ mean
