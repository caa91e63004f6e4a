"""Frames with other elements than their parent, at distances that suit these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ase
import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from numpy.typing import NDArray

from forcefield.data.sampling.draw import SHORTEST, accepted, check_parent, child, generator_for, reduced_formula
from forcefield.neighbours import find_edges

FAMILIES = [
    tuple(atomic_numbers[symbol] for symbol in family.split())
    for family in (
        "Li Na K Rb Cs",
        "Be Mg Ca Sr Ba",
        "Sc Y La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu",
        "Ac Th Pa U Np Pu",
        "Ti Zr Hf",
        "V Nb Ta",
        "Cr Mo W",
        "Mn Tc Re",
        "Fe Ru Os",
        "Co Rh Ir",
        "Ni Pd Pt",
        "Cu Ag Au",
        "Zn Cd Hg",
        "Ti V Cr Mn Fe Co Ni Cu Zn",
        "B Al Ga In Tl",
        "C Si Ge Sn Pb",
        "N P As Sb Bi",
        "O S Se Te",
        "F Cl Br I",
        "He Ne Ar Kr Xe",
    )
]
"""Groups of chemically similar elements; an element may be in two."""

NOBLE = (2, 10, 18, 36, 54)
ELEMENTS = tuple(z for z in (*range(1, 84), *range(89, 95)) if z not in NOBLE)
"""Elements to substitute with: H to Bi without noble gases, Ac to Pu."""

REACH = 6.0
"""Distance (Å) up to which pairs of atoms decide on the new size of the cell."""


def relatives(number: int) -> set[int]:
    """Atomic numbers of the elements that are chemically similar to one, without itself."""
    return {z for family in FAMILIES if number in family for z in family} - {number}


def substituted(
    atoms: ase.Atoms,
    count: int,
    *,
    seed: int,
    elements: Sequence[int] = ELEMENTS,
    similar: float = 0.5,
    spread: float = 0.1,
    shortest: float = SHORTEST,
) -> Iterator[ase.Atoms]:
    """Structures in which one or more elements are replaced by others, all atoms of an element by the same.

    The cell is rescaled so that the tightest pair of atoms, measured by its distance over the sum of covalent radii
    (Cordero et al., https://doi.org/10.1039/b801115j), is as tight as the tightest of the parent; then the volume
    varies at random around it. Each frame's ``material`` is its own reduced formula.

    Args:
        atoms: the parent, of any periodicity.
        count: number of frames.
        seed: same seed and parent, same frames.
        elements: atomic numbers that may come in.
        similar: share of frames with elements of the same family (Na for Li, S for O), where there are some; the
            others take any.
        spread: largest relative change of the volume afterwards.
        shortest: shortest distance accepted, in units of the sum of covalent radii.

    Raises:
        ValueError: ``similar`` or ``spread`` is not within 0 to 1, no element can come in, or the parent's atoms
            overlap.
    """
    if not (0 <= similar <= 1 and 0 <= spread < 1):
        raise ValueError(f"similar is {similar} and spread {spread}, but both must be within 0 to 1")
    check_parent(atoms, shortest=shortest)
    present = sorted(set(atoms.numbers.tolist()))
    if not set(elements) - set(present):
        names = " ".join(chemical_symbols[z] for z in elements)
        raise ValueError(f"no element can come in: of {names or 'none'} there is none that the structure lacks")
    for k in range(count):
        generator = generator_for(atoms, "substituted", k, seed)

        def propose(_: int, generator: np.random.Generator = generator) -> ase.Atoms:
            exchange = _exchange(present, elements, similar, generator)
            numbers = np.array([exchange.get(z, z) for z in atoms.numbers.tolist()])
            factor = distance_factor(atoms, numbers) * (1 + generator.uniform(-spread, spread)) ** (1 / 3)
            return _resized(atoms, numbers, factor)

        yield accepted(propose, shortest=shortest)


def _exchange(
    present: list[int], elements: Sequence[int], similar: float, generator: np.random.Generator
) -> dict[int, int]:
    """Which elements are replaced by which; at least one is, and no two become the same."""
    leaving = generator.permutation(present)[: generator.integers(1, len(present) + 1)].tolist()
    related = generator.random() < similar
    exchange: dict[int, int] = {}
    for number in leaving:
        free = sorted(set(elements) - set(present) - set(exchange.values()))
        close = [z for z in free if z in relatives(number)]
        choice = close if related and close else free
        if choice:
            exchange[number] = int(generator.choice(choice))
    return exchange


def distance_factor(atoms: ase.Atoms, numbers: NDArray[np.int64]) -> float:
    """Factor on all distances that makes the tightest pair of new elements as tight as the parent's tightest.

    Args:
        atoms: the parent.
        numbers: (atoms,) new atomic numbers.

    Returns:
        The factor; 1 where no two atoms are within `REACH`.
    """
    i, j, shift = find_edges(atoms.positions, atoms.cell.array, np.asarray(atoms.pbc), REACH)
    if not len(i):
        return 1.0
    distance = np.linalg.norm(atoms.positions[j] + shift @ atoms.cell.array - atoms.positions[i], axis=1)
    before, after = covalent_radii[atoms.numbers], covalent_radii[numbers]
    return float((distance / (before[i] + before[j])).min() / (distance / (after[i] + after[j])).min())


def _resized(atoms: ase.Atoms, numbers: NDArray[np.int64], factor: float) -> ase.Atoms:
    cell, positions = atoms.cell.array * factor, atoms.positions * factor
    material = reduced_formula(ase.Atoms(numbers))
    return child(atoms, "substituted", numbers=numbers, positions=positions, cell=cell, material=material)
