"""Labelled structures: read from files or memory, checked, and divided by material."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.io.formats import UnknownFileTypeError
from numpy.typing import NDArray

from forcefield.structures import as_atoms
from forcefield.suggest import nearest
from forcefield.tasks.task import Task
from forcefield.tasks.tensors import full_tensor

MATERIAL_KEYS = ("material", "material_id")


@dataclass(frozen=True)
class Labelled:
    """A structure with its label.

    Attributes:
        atoms: the structure, without a calculator.
        label: (1, ...) for the structure or (atoms, ...), NaN where unknown; for edges (pairs, 6) rows of
            ``i, j, S_a, S_b, S_c, value`` with the neighbour's lattice translation S.
        material: identifies the material; structures of one material are never divided.
    """

    atoms: ase.Atoms
    label: NDArray[np.float64]
    material: str


def read_structures(path: str | Path) -> Iterator[ase.Atoms]:
    """Structures of a file, one at a time, labels as ASE reads them.

    Raises:
        ValueError: the file cannot be read; says at which structure.
    """
    number = 0
    try:
        for atoms in ase.io.iread(str(path), index=":"):
            yield atoms
            number += 1
    except (OSError, ValueError, KeyError, IndexError, UnknownFileTypeError, AssertionError) as error:
        raise ValueError(f"{path} cannot be read at structure {number}: {error or type(error).__name__}") from error


def labelled(structure: Any, task: Task, *, material_key: str | None = None) -> Labelled:
    """A structure with its label; a missing one is NaN.

    Looked for in ``atoms.info``, ``atoms.arrays``, the results of an attached calculator (where ASE's readers put
    names that they know, such as ``magmoms`` and ``dipole``), and in the ``properties`` of a pymatgen structure.

    Args:
        structure: `ase.Atoms` or a pymatgen structure.
        task: what the label is.
        material_key: key in ``atoms.info`` that identifies the material; "material" or "material_id" if there is one,
            else the reduced formula, if not given.

    Raises:
        ValueError: the label has the wrong size, or is infinite.
    """
    atoms = as_atoms(structure)
    found = find_label(structure, atoms, task.key)
    label = _shaped(found, task, len(atoms))
    if np.isinf(label).any():
        raise ValueError(f"{task.key} is infinite; leave a label out, or make it NaN, where it is unknown")
    return Labelled(atoms, label, _material(atoms, material_key))


def find_label(structure: Any, atoms: ase.Atoms, key: str) -> Any:
    """The label of that name, None where there is none."""
    results = getattr(getattr(structure, "calc", None), "results", {})
    properties = getattr(structure, "properties", None)
    for place in (atoms.info, atoms.arrays, results, properties if isinstance(properties, dict) else {}):
        if key in place and place[key] is not None:
            return place[key]
    return None


def known_keys(structure: Any) -> list[str]:
    """Names that could be labels."""
    atoms = as_atoms(structure)
    results = getattr(getattr(structure, "calc", None), "results", {})
    return sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})


def _shaped(value: Any, task: Task, n_atoms: int) -> NDArray[np.float64]:
    """Label as (1 or atoms, *value_shape) or, for edges, (pairs, 6)."""
    if task.level == "edge":
        rows = np.zeros((0, 6)) if value is None else np.asarray(value, dtype=float).reshape(-1, 6)
        ends = rows[:, :2]
        if ((ends < 0) | (ends >= n_atoms) | (ends != np.rint(ends))).any():
            raise ValueError(f"{task.key} names atoms that are not there; rows are i, j, Sa, Sb, Sc, value")
        return rows
    rows_needed = 1 if task.level == "graph" else n_atoms
    if value is None:
        return np.full((rows_needed, *task.value_shape), np.nan)
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{task.key} is {value!r}, but numbers are needed") from error
    if task.level == "graph":
        return full_tensor(array, task.shape)[None]
    if len(array.ravel()) % n_atoms or array.shape[:1] != (n_atoms,):
        raise ValueError(f"{task.key} has shape {array.shape}, but a row for each of {n_atoms} atoms is needed")
    return np.stack([full_tensor(row, task.shape) for row in array])


def _material(atoms: ase.Atoms, key: str | None) -> str:
    if key is not None and key not in atoms.info:
        raise ValueError(f"there is no {key!r} in its info{nearest(key, atoms.info)}")
    names: tuple[str, ...] = MATERIAL_KEYS if key is None else (key,)
    for name in names:
        if name in atoms.info:
            return str(atoms.info[name])
    return atoms.get_chemical_formula("metal", empirical=True)


def divide(materials: Sequence[str], parts: Sequence[float], *, seed: int = 0) -> list[NDArray[np.int64]]:
    """Divide structures by material: the parts asked for, and the rest first.

    Materials are taken in an order that depends on their names and the seed only, so that structures added later
    change little.

    Args:
        materials: material of each structure.
        parts: size of each part, as a number of structures (1 or more) or a share (below 1).
        seed: another seed, another division.

    Returns:
        rest, then the parts: sorted indices; a part may be larger than asked for by less than one material.

    Raises:
        ValueError: the parts leave nothing for the rest.
    """
    n = len(materials)
    wanted = [round(part * n) if part < 1 else int(part) for part in parts]
    of: dict[str, list[int]] = {}
    for index, material in enumerate(materials):
        of.setdefault(material, []).append(index)
    order = iter(sorted(of, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()))
    divided = []
    for size in wanted:
        part: list[int] = []
        while len(part) < size and (taken := next(order, None)) is not None:
            part += of[taken]
        divided.append(part)
    rest = [index for material in order for index in of[material]]
    if not rest:
        raise ValueError(
            f"{n} structures of {len(of)} materials cannot be divided into parts of {wanted} and a rest; ask for less"
        )
    return [np.array(sorted(part), dtype=np.int64) for part in (rest, *divided)]


def read_all(paths: Iterable[str | Path], task: Task, *, material_key: str | None = None) -> Iterator[Labelled]:
    """Labelled structures of several files.

    Raises:
        ValueError: a structure is unusable (says which and why), or no structure of a file has the label.
    """
    for path in paths:
        any_label = False
        keys: list[str] = []
        for number, structure in enumerate(read_structures(path)):
            try:
                one = labelled(structure, task, material_key=material_key)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, structure {number}: {error}") from error
            any_label = any_label or bool(np.isfinite(one.label).any() and one.label.size)
            keys = keys or known_keys(structure)
            yield one
        if not any_label:
            raise ValueError(f"no structure of {path} has the label {task.key!r}{nearest(task.key, keys)}")
