"""Which element each LAMMPS atom type is, with the masses as a check."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from numpy.typing import NDArray

UNUSUAL_MASS = 0.1
"""Relative difference from the standard mass that is worth a note."""


def element_numbers(symbols: Sequence[str], n_types: int, known: Sequence[int]) -> NDArray[np.int64]:
    """Atomic number of each atom type.

    Args:
        symbols: element of types 1, 2, ... in order.
        n_types: number of types that LAMMPS has.
        known: atomic numbers that the model knows.

    Returns:
        (n_types + 1,), entry 0 unused.

    Raises:
        ValueError: the number of elements is not that of the types, or a symbol is no element that the model knows.
    """
    if len(symbols) != n_types:
        raise ValueError(
            f"LAMMPS has {n_types} atom types, but {len(symbols)} elements came ({' '.join(symbols) or 'none'}); give "
            "one element for each type, in order, as in `pair_coeff * * Na Cl`"
        )
    for symbol in symbols:
        if symbol not in atomic_numbers or atomic_numbers[symbol] == 0:
            raise ValueError(f"{symbol!r} is no element; give chemical symbols, as in `pair_coeff * * Na Cl`")
    numbers = np.array([0] + [atomic_numbers[symbol] for symbol in symbols], dtype=np.int64)
    unknown = [symbol for symbol, z in zip(symbols, numbers[1:], strict=True) if z not in set(known)]
    if unknown:
        names = " ".join(chemical_symbols[z] for z in known)
        raise ValueError(f"the model does not know {', '.join(unknown)}; it knows {names}")
    return numbers


def check_masses(symbols: Sequence[str], masses: NDArray[np.float64]) -> list[str]:
    """Compare the masses of the types with those of their elements.

    Args:
        symbols: element of each type.
        masses: (types,) in amu.

    Returns:
        one line for each mass that is unusual but can be meant, such as that of an isotope.

    Raises:
        ValueError: a type has the mass of another one of the given elements.
    """
    standard = atomic_masses[[atomic_numbers[symbol] for symbol in symbols]]
    notes = []
    for k, (symbol, mass) in enumerate(zip(symbols, masses, strict=True)):
        nearest = symbols[int(np.argmin(np.abs(standard - mass)))]
        if nearest != symbol and abs(mass - standard[k]) > UNUSUAL_MASS * standard[k]:
            raise ValueError(
                f"type {k + 1} is given as {symbol} (mass {standard[k]:.2f}) but has the mass {mass:.2f} of {nearest}; "
                "correct the order of the elements or the mass"
            )
        if abs(mass - standard[k]) > UNUSUAL_MASS * standard[k]:
            notes.append(f"type {k + 1} ({symbol}) has the unusual mass {mass:.3f} instead of {standard[k]:.3f}")
    return notes


def elements_of_masses(masses: NDArray[np.float64]) -> list[str]:
    """The element whose standard mass is nearest to each of the masses (amu), as a suggestion."""
    table = np.where(np.arange(len(atomic_masses)) > 0, atomic_masses, np.inf)
    return [chemical_symbols[int(np.argmin(np.abs(table - mass)))] for mass in masses]
