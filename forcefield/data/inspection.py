"""What is in a data set and what is wrong with it: composition, labels, ranges, duplicates, outliers, stress sign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from forcefield.data.labels import ReadOptions
from forcefield.data.readers import read_entries_of
from forcefield.data.stress_sign import check_stress_sign
from forcefield.data.survey import LABELS, Survey, Table
from forcefield.units import GPA

OUTLIER = 8.0
"""Robust z-score (deviation from the median over 1.4826 times the median deviation) beyond which a frame is named."""
NAMED = 5
"""Outliers named for each property."""
SAME_ENERGY = 1e-3
"""eV/atom by which the energies of equal structures may differ."""


def inspect_data(
    files: Sequence[str | Path],
    *,
    format: str | None = None,
    options: ReadOptions | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> dict[str, Any]:
    """Read files or stores once, as a stream, and report on them.

    Args:
        files: files and store folders, in any format of `forcefield.data.readers`.
        format: format of all files, if it is not to be found out.
        options: which keys and units.
        progress: told the file and the number of frames read so far.

    Returns:
        Plain values, fit for JSON: frames, atoms, elements, kinds, materials, labels, element_energies, ranges,
        duplicates, outliers, broken, stress_sign. Units are part of the names or given beside the values.

    Raises:
        ValueError: a file cannot be read, or holds no sound frame.
    """
    options = options if options is not None else ReadOptions()
    survey, broken = Survey(), []
    for file in files:
        for place, frame, fault in read_entries_of(file, format=format, options=options):
            if frame is None:
                broken.append(f"{file} {place}: {fault}")
                continue
            survey.add(f"{file} {place}", frame)
            if progress is not None:
                progress(str(file), len(survey))
    if not len(survey):
        raise ValueError(
            f"there is no sound frame in {', '.join(map(str, files))}" + (f"; {broken[0]}" if broken else "")
        )
    table = survey.table()
    element_energies, residual = fit_elements(table)
    properties = _properties(table, residual)
    materials = len(survey.materials) - ("" in survey.materials)
    return {
        "files": [str(file) for file in files],
        "frames": len(survey),
        "atoms": int(table.n_atoms.sum()),
        "elements": _elements(table),
        "kinds": dict(survey.kinds.most_common()),
        "materials": {"named": materials, "frames_without_name": survey.materials[""]},
        "labels": _labels(survey, options),
        "element_energies_eV": element_energies,
        "ranges": {name: _range(values, unit) for name, (unit, values, _) in properties.items()},
        "force_rms_eV_per_A": float(np.sqrt(survey.forces_squared / survey.force_components))
        if survey.force_components
        else None,
        "duplicates": duplicates(table),
        "outliers": [found for name, entry in properties.items() for found in _outliers(name, *entry, table.places)],
        "broken": {"frames": len(broken), "first": broken[:20]},
        "stress_sign": asdict(check_stress_sign(table)),
    }


def fit_elements(table: Table) -> tuple[dict[str, float], NDArray[np.float64]]:
    """Energy of each element by least squares, and what is left of the energy per atom (eV; NaN where there is none).

    A weak ridge settles elements that always occur together.
    """
    elements = np.unique(table.composition[:, 1])
    column = np.zeros(elements.max() + 1, dtype=np.int64)
    column[elements] = np.arange(len(elements))
    per_atom = table.energy / table.n_atoms
    rows, numbers, counts = table.composition.T
    share = counts / table.n_atoms[rows]
    normal = np.eye(len(elements)) * 1e-9
    target = np.zeros(len(elements))
    block = 1 << 16
    for start in range(0, len(per_atom), block):
        inside = slice(*np.searchsorted(rows, [start, start + block]))
        dense = np.zeros((min(block, len(per_atom) - start), len(elements)))
        dense[rows[inside] - start, column[numbers[inside]]] = share[inside]
        energies = per_atom[start : start + block]
        known = np.isfinite(energies)
        normal += dense[known].T @ dense[known]
        target += dense[known].T @ energies[known]
    if not np.isfinite(per_atom).any():
        return {}, per_atom
    solution = np.linalg.solve(normal, target)
    fitted = np.bincount(rows, share * solution[column[numbers]], minlength=len(per_atom))
    return {chemical_symbols[z]: float(e) for z, e in zip(elements, solution, strict=True)}, per_atom - fitted


def duplicates(table: Table) -> dict[str, int]:
    """Frames whose structure has come before (to about 0.3 mÅ), and how many of these have another energy."""
    order = np.lexsort((table.energy, table.structure))
    same = table.structure[order][1:] == table.structure[order][:-1]
    per_atom = (table.energy / table.n_atoms)[order]
    differ = np.abs(np.diff(per_atom)) > SAME_ENERGY
    return {"frames": int(same.sum()), "with_another_energy": int((same & differ).sum())}


def _elements(table: Table) -> dict[str, int]:
    """Number of frames with each element."""
    numbers, counts = np.unique(table.composition[:, 1], return_counts=True)
    return {chemical_symbols[z]: int(count) for z, count in zip(numbers, counts, strict=True)}


def _labels(survey: Survey, options: ReadOptions) -> dict[str, Any]:
    keys: dict[str, list[dict[str, Any]]] = {}
    for (label, key, unit), count in sorted(options.found.items()):
        attribute = {"virial": "stress", "free_energy": "energy"}.get(label, label)
        keys.setdefault(attribute, []).append({"key": key, "unit": unit, "frames": count})
    return {
        label: {
            "frames": survey.labelled[label],
            "missing": len(survey) - survey.labelled[label],
            "keys": keys.get(label, []),
        }
        for label in LABELS
    }


Properties = dict[str, tuple[str, NDArray[np.float64], float | None]]


def _properties(table: Table, residual: NDArray[np.float64]) -> Properties:
    """Name -> unit, values, and the least spread that counts; a spread of None means that logarithms are compared."""
    stress = np.abs(table.stress).max(axis=1) / GPA
    pressure = -table.stress[:, :3].mean(axis=1) / GPA
    return {
        "energy per atom": ("eV", table.energy / table.n_atoms, np.inf),
        "energy per atom after element fit": ("eV", residual, 1e-3),
        "largest force": ("eV/Å", table.largest_force, None),
        "largest stress component": ("GPa", stress, None),
        "pressure": ("GPa", pressure, np.inf),
        "volume per atom": ("Å^3", table.volume / table.n_atoms, None),
        "atoms per frame": ("", table.n_atoms.astype(float), np.inf),
    }


def _range(values: NDArray[np.float64], unit: str) -> dict[str, Any] | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, median, high = (float(number) for number in np.quantile(known, [0.01, 0.5, 0.99]))
    limits = {"minimum": float(known.min()), "low": low, "median": median, "high": high, "maximum": float(known.max())}
    return {"unit": unit, **limits}


def _outliers(
    name: str, unit: str, values: NDArray[np.float64], least_spread: float | None, places: list[str]
) -> list[dict[str, Any]]:
    """The worst frames of a property; none where the least spread is infinite."""
    if least_spread == np.inf:
        return []
    known = np.isfinite(values)
    measured = values
    if least_spread is None:  # sizes: factors count, and what is next to nothing is no outlier
        known = known & (values > 0)
        measured = np.log(np.where(known, np.maximum(values, 0.1), 1.0))
        least_spread = 0.05
    if not known.any():
        return []
    middle = np.median(measured[known])
    spread = max(1.4826 * float(np.median(np.abs(measured[known] - middle))), least_spread)
    score = np.where(known, (measured - middle) / spread, 0.0)
    worst = np.argsort(-np.abs(score), kind="stable")[:NAMED]
    beyond = int((np.abs(score) > OUTLIER).sum())
    return [
        {
            "property": name,
            "frame": places[k],
            "value": float(values[k]),
            "unit": unit,
            "z": float(score[k]),
            "frames_beyond": beyond,
        }
        for k in worst
        if abs(score[k]) > OUTLIER
    ]
