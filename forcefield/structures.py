"""What a structure must be before anything is computed for it: the right type, finite, periodic in a sensible way.

Nothing here changes the structure it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from forcefield.neighbours import completed_cell, find_edges

SHORTEST_CELL_VECTOR = 0.1  # Å; a shorter periodic vector is a mistake of units or an empty one
SMALLEST_SINE = 1.0e-6  # smallest singular value of the normalised periodic vectors that still spans a cell
NUMBER_OF_BINS = 1_000_000  # of a neighbour search; atoms far apart would otherwise take gigabytes


def as_atoms(structure: Any) -> Atoms:
    """Copy a structure into `ase.Atoms` without a calculator.

    Args:
        structure: `ase.Atoms`, or a pymatgen `Structure`, `IStructure`, `Molecule` or `IMolecule` (ordered sites only).

    Returns:
        New `ase.Atoms` with positions and cell in Å; constraints, info and arrays are kept.

    Raises:
        TypeError: for any other type.
        ValueError: for a pymatgen structure with partially occupied sites.
    """
    if isinstance(structure, Atoms):
        return structure.copy()
    if is_from_pymatgen(structure):
        if not structure.is_ordered:
            raise ValueError(
                f"The pymatgen structure {structure.formula} has partially occupied sites; each must hold one element. "
                "Make an ordered cell first, for example with pymatgen's OrderDisorderedStructureTransformation."
            )
        converted = structure.to_ase_atoms(msonable=False)
        converted.calc = None
        return converted
    raise TypeError(
        f"A structure of type {type(structure).__module__}.{type(structure).__qualname__} came, but ase.Atoms or a "
        "pymatgen Structure or Molecule is needed. Read a file with ase.io.read(path) first."
    )


def is_from_pymatgen(structure: Any) -> bool:
    """Say whether the object is a pymatgen structure or molecule, without importing pymatgen."""
    return any(
        kind.__name__ == "SiteCollection" and kind.__module__.startswith("pymatgen.")
        for kind in type(structure).__mro__
    )


def check_structure(atoms: Atoms, elements: Iterable[str | int] | None = None) -> None:
    """Refuse a structure that no potential can compute.

    Args:
        atoms: the structure; positions and cell in Å.
        elements: symbols or atomic numbers that the model knows; None accepts every real element.

    Raises:
        ValueError: if there are no atoms; a position or cell entry is not finite; a periodic vector is missing or all
            periodic vectors do not span a cell; or an element is unknown.
    """
    if len(atoms) == 0:
        raise ValueError("The structure has no atoms; at least one is needed.")
    _check_finite(atoms)
    _check_periodic_vectors(np.asarray(atoms.cell), np.asarray(atoms.pbc))
    _check_elements(atoms, elements)


def _check_finite(atoms: Atoms) -> None:
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad) > 0:
        raise ValueError(
            f"The positions of {len(bad)} of {len(atoms)} atoms are not finite (NaN or infinite): "
            f"{_name_atoms(atoms, bad)}. Every coordinate must be a finite number in Å."
        )
    if not np.isfinite(np.asarray(atoms.cell)).all():
        raise ValueError(
            f"The cell holds NaN or infinity: {np.asarray(atoms.cell).tolist()}; finite numbers in Å are needed."
        )


def _check_periodic_vectors(cell: np.ndarray, pbc: np.ndarray) -> None:
    axes = np.flatnonzero(pbc)
    vectors = cell[axes]  # (periodic axes, 3)
    lengths = np.linalg.norm(vectors, axis=1)
    for axis, length in zip(axes, lengths, strict=True):
        if length < SHORTEST_CELL_VECTOR:
            raise ValueError(
                f"The structure is periodic along {'abc'[axis]}, but that cell vector has a length of {length:.3g} Å. "
                f"Set the cell (in Å), or switch periodicity off with atoms.pbc = False along {'abc'[axis]}."
            )
    if len(axes) > 1:
        smallest = np.linalg.svd(vectors / lengths[:, None], compute_uv=False).min()
        if smallest < SMALLEST_SINE:
            names = ", ".join("abc"[axis] for axis in axes)
            raise ValueError(
                f"The periodic cell vectors {names} are linearly dependent ({vectors.tolist()}) and span no cell. "
                "Correct the cell, or switch periodicity off along the superfluous axis."
            )


def _check_elements(atoms: Atoms, elements: Iterable[str | int] | None) -> None:
    present = set(np.unique(atoms.numbers).tolist())
    if elements is None:
        known = set(range(1, len(chemical_symbols)))
    else:
        known = {atomic_numbers[item] if isinstance(item, str) else int(item) for item in elements}
    unknown = sorted(present - known)
    if not unknown:
        return
    known_symbols = "every real element" if elements is None else " ".join(chemical_symbols[z] for z in sorted(known))
    raise ValueError(
        f"Unknown to the model: {', '.join(_symbol(z) for z in unknown)}. It knows {known_symbols}. "
        "Choose a model trained on these elements, or replace them."
    )


def _symbol(number: int) -> str:
    """Chemical symbol, or the number where there is no such element."""
    return chemical_symbols[number] if 0 <= number < len(chemical_symbols) else f"atomic number {number}"


class TooLargeError(ValueError):
    """Memory does not suffice for one structure by itself.

    Attributes:
        structure: which one of the batch.
    """

    def __init__(self, structure: int, n_atoms: int, n_edges: int) -> None:
        super().__init__(
            f"out of memory for this structure alone ({n_atoms} atoms, {n_edges} neighbour pairs). "
            "Use a device with more memory, or a smaller cell."
        )
        self.structure = structure


class Contact(NamedTuple):
    """Two atoms that are too close: indices, their distance, and the shortest distance accepted (both Å)."""

    i: int
    j: int
    distance: float
    limit: float


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # directed pairs (i, j, distance in Å), periodic images included


def close_contacts(atoms: Atoms, *, factor: float = 0.5, pairs: Pairs | None = None) -> list[Contact]:
    """Find pairs of atoms closer than a fraction of the sum of their covalent radii.

    Periodic images count, an atom's own images too (then i equals j). Radii from Cordero et al.,
    https://doi.org/10.1039/b801115j, as in `ase.data.covalent_radii`.

    Args:
        atoms: the structure; it has passed `check_structure`.
        factor: fraction of the sum of covalent radii below which a distance counts as an overlap.
        pairs: centres, neighbours and distances of the pairs in question, where they are known already (a neighbour
            list with a cutoff beyond the radii); searched for if not given.

    Returns:
        One `Contact` for each pair i <= j, with its shortest distance, the worst (smallest distance / limit) first.

    Raises:
        ValueError: if the factor is not positive.
    """
    if not factor > 0.0:
        raise ValueError(f"factor is {factor}, but must be positive.")
    radii = covalent_radii[atoms.numbers]  # (atoms,)
    i, j, distance = pairs_within(atoms, 2.0 * factor * float(radii.max())) if pairs is None else pairs
    limit = factor * (radii[i] + radii[j])
    close = (distance < limit) & (i <= j)
    shortest: dict[tuple[int, int], Contact] = {}
    for found in zip(i[close], j[close], distance[close], limit[close], strict=True):
        contact = Contact(int(found[0]), int(found[1]), float(found[2]), float(found[3]))
        pair = (contact.i, contact.j)
        if pair not in shortest or contact.distance < shortest[pair].distance:
            shortest[pair] = contact
    return sorted(shortest.values(), key=lambda contact: (round(contact.distance / contact.limit, 9), contact))


def pairs_within(atoms: Atoms, cutoff: float) -> Pairs:
    """List directed pairs (i, j, distance in Å) within the cutoff, or further where that costs less memory."""
    cell, pbc = atoms.cell.array, np.asarray(atoms.pbc)
    box = completed_cell(cell, pbc)
    box[~pbc] *= np.ptp(atoms.positions @ box[~pbc].T, axis=0)[:, None] + cutoff
    n_bins = max(NUMBER_OF_BINS, len(atoms))  # the search divides the box into cubes of the cutoff
    affordable = (abs(float(np.linalg.det(box))) / n_bins) ** (1.0 / 3.0)
    i, j, shift = find_edges(atoms.positions, cell, pbc, max(cutoff, affordable))
    vectors = atoms.positions[j] + shift @ cell - atoms.positions[i]  # (pairs, 3)
    return i, j, np.linalg.norm(vectors, axis=1)


def overlap_message(atoms: Atoms, contacts: Sequence[Contact], *, shown: int = 5) -> str:
    """Describe overlapping atoms in one line: index, symbol and distance of the worst pairs, then how many more.

    Args:
        atoms: the structure.
        contacts: what `close_contacts` found.
        shown: how many pairs to name.

    Returns:
        The text, or an empty string without contacts.
    """
    if not contacts:
        return ""
    symbols = atoms.symbols
    named = [
        f"{c.i} {symbols[c.i]} - {c.j} {symbols[c.j]}{' (periodic image)' if c.i == c.j else ''}: "
        f"{c.distance:.3f} Å (at least {c.limit:.3f} Å expected)"
        for c in contacts[:shown]
    ]
    more = f"; and {len(contacts) - shown} more" if len(contacts) > shown else ""
    return f"{len(contacts)} pair{'s' if len(contacts) > 1 else ''} of atoms overlap: {'; '.join(named)}{more}."


def _name_atoms(atoms: Atoms, indices: Sequence[int] | np.ndarray, *, shown: int = 5) -> str:
    """Name atoms by index and symbol, the first few only."""
    named = ", ".join(f"{index} {atoms.symbols[index]}" for index in indices[:shown])
    return named + (f" and {len(indices) - shown} more" if len(indices) > shown else "")
