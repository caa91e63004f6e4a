"""Which material a frame belongs to, and which side of a split a material falls on."""

from __future__ import annotations

import hashlib
from functools import reduce
from math import gcd

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from forcefield.data.frames import Frame

SPLITS = ("material", "formula", "file")


def reduced_formula(numbers: NDArray[np.int64]) -> str:
    """Formula with the smallest whole numbers, elements in alphabetical order.

    >>> reduced_formula(np.array([8, 8, 22, 8, 8, 22]))
    'O2Ti'
    """
    elements, counts = np.unique(numbers, return_counts=True)
    divisor = reduce(gcd, counts.tolist())
    parts = {chemical_symbols[z]: int(count) // divisor for z, count in zip(elements, counts, strict=True)}
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in sorted(parts.items()))


def group_of(frame: Frame, file: str, split_by: str) -> str:
    """The name that frames share when a split must keep them together.

    ``material`` is the file's own name of the material, or else the reduced formula: nothing else survives straining,
    rattling, vacancies being the exception, and supercells, so all polymorphs of a composition stay together, which can
    make a validation harder but never easier than it should be.

    Args:
        frame: the frame.
        file: name of its file, the same wherever the data lie.
        split_by: one of `SPLITS`.

    Raises:
        ValueError: no such way to split.
    """
    if split_by == "file":
        return file
    if split_by == "formula" or (split_by == "material" and not frame.material):
        return f"formula {reduced_formula(frame.numbers)}"
    if split_by == "material":
        return frame.material
    raise ValueError(f"split_by is {split_by!r}, but must be one of {', '.join(SPLITS)}")


def in_validation(group: str, fraction: float, seed: int) -> bool:
    """Whether a group falls into the validation part: a matter of its name and the seed alone.

    So the same material is on the same side in every build with the same seed, whatever else is built with it.

    Args:
        group: what `group_of` gave.
        fraction: expected share of groups in the validation part.
        seed: another seed, another split.
    """
    digest = hashlib.blake2b(f"{seed} {group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2.0**64
