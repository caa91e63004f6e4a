"""Which key of a file is which label, in which unit: detection with one answer or an error, never a guess.

A key is recognised by what is left of it without the words in `MARKS`: ``REF_energy``, ``dft_energy`` and
``energy_vasp`` are all an energy. Several keys for one label with different values are refused; the user names one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefield.units import BOHR, GPA, HARTREE, KBAR, KCAL_PER_MOL, KJ_PER_MOL

MARKS = frozenset({"ref", "reference", "dft", "vasp", "qm", "true", "target", "label", "pbe", "qe"})
"""Words in a key that say where a label comes from, not what it is."""

PER_FRAME: dict[str, tuple[str, ...]] = {
    "energy": ("energy", "total_energy", "potential_energy", "uncorrected_total_energy", "uncorrected_energy"),
    "free_energy": ("free_energy",),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
    "material": ("material", "material_id", "materials_id", "mp_id", "mpid", "matpes_id", "jid"),
    "kind": ("kind", "config_type"),
}
PER_ATOM: dict[str, tuple[str, ...]] = {
    "forces": ("forces", "force"),
    "atomic_energies": ("energies", "atomic_energies"),
    "magmoms": ("magmoms", "magmom"),
}
NAMES = {spelling: label for label, spellings in {**PER_FRAME, **PER_ATOM}.items() for spelling in spellings}
SETTABLE = tuple(label for label in {**PER_FRAME, **PER_ATOM} if label != "free_energy")
"""Labels that a user can point to a key."""

ENERGY_UNITS = {
    "ev": 1.0,
    "mev": 1e-3,
    "ha": HARTREE,
    "hartree": HARTREE,
    "ry": HARTREE / 2,
    "kj/mol": KJ_PER_MOL,
    "kcal/mol": KCAL_PER_MOL,
}
LENGTHS = {"a": 1.0, "å": 1.0, "ang": 1.0, "bohr": BOHR, "nm": 10.0}
UNITS: dict[str, dict[str, float]] = {
    "energy": ENERGY_UNITS,
    "atomic_energies": ENERGY_UNITS,
    "virial": ENERGY_UNITS,
    "forces": {f"{e}/{d}": value / length for e, value in ENERGY_UNITS.items() for d, length in LENGTHS.items()},
    "stress": {
        "gpa": GPA,
        "kbar": KBAR,
        **{f"{e}/{d}^3": v / length**3 for e, v in ENERGY_UNITS.items() for d, length in LENGTHS.items()},
    },
}
VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
"""Order of six stress components inside, which is ASE's."""
STRESS_ORDERS = {
    "ase": VOIGT,
    "vasp": ("xx", "yy", "zz", "xy", "yz", "xz"),
    "lammps": ("xx", "yy", "zz", "xy", "xz", "yz"),
}
"""Orders by the programs that write them."""
INSIDE = {
    "energy": "eV",
    "free_energy": "eV",
    "atomic_energies": "eV",
    "virial": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å^3",
    "magmoms": "μB",
}
"""Unit of each label where nobody says otherwise."""


class KeysUnclear(ValueError):
    """It is not clear which key of a file is meant; this concerns the whole file, not one frame."""


@dataclass(frozen=True)
class ReadOptions:
    """How labels are found, and a record of what was found.

    Attributes:
        keys: label -> key of the file, for labels that detection would miss or confuse.
        units: label -> unit of the file; a leading minus turns the sign around (``-kbar`` is VASP's stress).
        energy: which energy of the MPtrj layout to take.
        stress_order: order of six stress or virial components in the files, see `parse_order`.
        found: (label, key, unit) -> number of frames, filled while reading.
        count_bytes: told how many bytes of a file were read, for a progress bar.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    energy: str = "uncorrected_total_energy"
    stress_order: tuple[str, ...] = VOIGT
    found: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    count_bytes: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        for label in self.keys:
            if label not in SETTABLE:
                raise ValueError(f"keys has the label {label!r}, but it must be one of {', '.join(SETTABLE)}")
        for label, unit in self.units.items():
            unit_factor(label, unit)
        object.__setattr__(self, "stress_order", parse_order(" ".join(self.stress_order)))

    def note(self, label: str, key: str, unit: str | None = None) -> None:
        """Count a frame whose label came from a key; the unit is the package's own if none is given."""
        self.found[label, key, unit if unit is not None else self.units.get(label, INSIDE.get(label, ""))] += 1


def unit_factor(label: str, unit: str) -> float:
    """What to multiply a label by to have it in the package's unit.

    Raises:
        ValueError: the label has no units to choose from, or not this one.
    """
    if label not in UNITS:
        raise ValueError(f"units has the label {label!r}, but it must be one of {', '.join(UNITS)}")
    sign, name = (-1.0, unit[1:]) if unit.startswith("-") else (1.0, unit)
    name = name.lower().replace("³", "^3").replace("**3", "^3").replace("a3", "a^3")
    if name not in UNITS[label]:
        raise ValueError(f"{unit!r} is no unit for {label}; known are {', '.join(UNITS[label])}")
    return sign * UNITS[label][name]


def parse_order(text: str) -> tuple[str, ...]:
    """Order of six stress components, from a name of `STRESS_ORDERS` or from themselves.

    >>> parse_order("vasp") == parse_order("XX YY ZZ XY YZ ZX")
    True

    Raises:
        ValueError: it is neither.
    """
    if text.lower() in STRESS_ORDERS:
        return STRESS_ORDERS[text.lower()]
    order = tuple("".join(sorted(word)) for word in re.split(r"[\s,]+", text.strip().lower()))
    if sorted(order) != sorted(VOIGT):
        raise ValueError(
            f"the order of the stress is {text!r}, but must be {', '.join(STRESS_ORDERS)}, or the six components such "
            f"as {' '.join(VOIGT)!r}"
        )
    return order


@lru_cache(maxsize=4096)
def label_of(key: str) -> str | None:
    """The label that a key is a name of, or None.

    >>> label_of("REF_energy"), label_of("forces-dft"), label_of("energy_corrected")
    ('energy', 'forces', None)
    """
    words = [word for word in re.split(r"[_\-. ]+", key.lower()) if word and word not in MARKS]
    return NAMES.get("_".join(words))


def choose_key(label: str, values: Mapping[str, Any], options: ReadOptions) -> str | None:
    """The key under which a label is in this frame, or None.

    Raises:
        KeysUnclear: several keys hold different values.
    """
    if label in options.keys:
        return options.keys[label] if options.keys[label] in values else None
    taken = set(options.keys.values())
    keys = [key for key in values if key not in taken and label_of(key) == label and values[key] is not None]
    if len(keys) < 2:
        return keys[0] if keys else None
    first = np.asarray(values[keys[0]])
    if all(np.array_equal(first, np.asarray(values[key])) for key in keys[1:]):
        return keys[0]
    raise KeysUnclear(
        f"the {label} may be under any of the keys {', '.join(keys)}, whose values differ; "
        f"say which one with --keys {label}={keys[0]}"
    )


def find_labels(
    info: Mapping[str, Any], arrays: Mapping[str, Any], cell: NDArray[np.float64], options: ReadOptions
) -> dict[str, Any]:
    """Labels of a frame, by the names of `Frame`'s attributes and in its units.

    Args:
        info: values of the whole frame by key.
        arrays: values of each atom by key.
        cell: (3, 3) lattice vectors (Å), for a virial's volume.
        options: which keys and units.

    Raises:
        KeysUnclear: several keys hold different values of one label.
        ValueError: a label is no number, has an unusable shape, or is a virial without a cell.
    """
    labels: dict[str, Any] = {}
    sources = {**dict.fromkeys(PER_FRAME, info), **dict.fromkeys(PER_ATOM, arrays)}
    for label, values in sources.items():
        if (label == "free_energy" and "energy" in labels) or (label == "virial" and "stress" in labels):
            continue
        key = choose_key(label, values, options)
        if key is None:
            continue
        options.note(label, key)
        labels[label] = str(values[key]) if label in ("material", "kind") else _number(label, key, values[key], options)
    if "free_energy" in labels:
        labels["energy"] = labels.pop("free_energy")
    if "energy" in labels:
        if labels["energy"].size != 1:
            raise ValueError(f"the energy has shape {labels['energy'].shape}; it must be one number")
        labels["energy"] = float(labels["energy"].reshape(-1)[0])
    if "stress" in labels:
        labels["stress"] = to_voigt(labels["stress"], options.stress_order)
    if "virial" in labels:
        labels["stress"] = stress_from_virial(labels.pop("virial"), cell, options.stress_order)
    return labels


def _number(label: str, key: str, value: Any, options: ReadOptions) -> NDArray[np.float64]:
    try:
        number = np.array(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{label} (key {key}) is {str(value)[:60]!r} and no number") from error
    return number * unit_factor(label, options.units[label]) if label in options.units else number


def to_voigt(stress: NDArray[np.float64], order: Sequence[str] = VOIGT) -> NDArray[np.float64]:
    """A stress as (6,) in the order xx yy zz yz xz xy, from (6,), (9,) or (3, 3).

    Args:
        stress: the stress.
        order: of its six components; a tensor is one made of six numbers that were taken to be in ASE's order.

    Raises:
        ValueError: another shape, or a tensor that is far from symmetric.
    """
    stress = np.asarray(stress, dtype=float)
    if stress.shape in ((9,), (3, 3)):
        tensor = stress.reshape(3, 3)
        if np.abs(tensor - tensor.T).max() > 0.1 * np.abs(tensor).max() + 1e-3:
            raise ValueError(f"a stress or virial is far from symmetric: {tensor.tolist()}")
        stress = (0.5 * (tensor + tensor.T))[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if stress.shape != (6,):
        raise ValueError(f"a stress or virial has shape {stress.shape} but must have (6,), (9,) or (3, 3)")
    return stress[[order.index(component) for component in VOIGT]]


def stress_from_virial(
    virial: NDArray[np.float64], cell: NDArray[np.float64], order: Sequence[str] = VOIGT
) -> NDArray[np.float64]:
    """Stress (eV/Å^3, ASE's sign) from a virial (eV): minus the virial over the volume of the cell (Å^3).

    Raises:
        ValueError: the cell has no volume.
    """
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-3:
        raise ValueError("there is a virial, but no cell whose volume would make a stress of it")
    return -to_voigt(virial, order) / volume
