"""Radial distribution functions, for any cell, through the package's neighbour search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from forcefield.neighbours import find_edges

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RadialDistribution:
    """How often a distance occurs between two kinds of atoms.

    Attributes:
        pair: the elements, or ("all", "all").
        distances: (bins,) centres (Å).
        density: g(r), (bins,), one for an ideal gas; where the structure is not periodic along three axes there is no
            mean density, and the number of neighbours per Å is given instead.
        coordination: (bins,) number of neighbours of the second kind within the outer edge of the bin, of an atom of
            the first.
    """

    pair: tuple[str, str]
    distances: Array
    density: Array
    coordination: Array


def radial_distribution(
    frames: Sequence[Atoms], *, cutoff: float = 10.0, bins: int = 200
) -> tuple[RadialDistribution, ...]:
    """Average the distribution of distances over frames.

    Args:
        frames: of constant composition.
        cutoff: largest distance (Å); may exceed the cell, periodic images count.
        bins: how many.

    Returns:
        For all atoms, then for each pair of elements.

    Raises:
        ValueError: for a cutoff or number of bins that is not positive.
    """
    if not cutoff > 0.0 or bins < 1:
        raise ValueError(f"cutoff is {cutoff} Å and bins {bins}, but both must be positive.")
    edges = np.linspace(0.0, cutoff, bins + 1)
    kinds, kind_of = np.unique(frames[0].numbers, return_inverse=True)
    counts = np.zeros((len(kinds), len(kinds), bins))
    inverse_volume = 0.0
    for frame in frames:
        counts += _count(frame, kind_of, len(kinds), edges) / len(frames)
        inverse_volume += (1.0 / frame.get_volume() if frame.pbc.all() else 0.0) / len(frames)
    amounts = np.bincount(kind_of).astype(float)
    symbols = [frames[0].symbols[int(np.argmax(kind_of == kind))] for kind in range(len(kinds))]
    total = _normalised(("all", "all"), counts.sum(axis=(0, 1)), amounts.sum(), amounts.sum(), inverse_volume, edges)
    pairs = [
        _normalised((symbols[a], symbols[b]), counts[a, b], amounts[a], amounts[b], inverse_volume, edges)
        for a, b in combinations_with_replacement(range(len(kinds)), 2)
    ]
    return (total, *pairs)


def _count(frame: Atoms, kind_of: NDArray[np.int64], n_kinds: int, edges: Array) -> Array:
    """Count directed pairs, (kinds, kinds, bins)."""
    cell = frame.cell.array
    i, j, shift = find_edges(frame.positions, cell, frame.pbc, float(edges[-1]))
    distances = np.linalg.norm(frame.positions[j] + shift @ cell - frame.positions[i], axis=1)
    bins = len(edges) - 1
    which = np.minimum((distances / edges[-1] * bins).astype(np.int64), bins - 1)
    flat = (kind_of[i] * n_kinds + kind_of[j]) * bins + which
    return np.bincount(flat, minlength=n_kinds**2 * bins).reshape(n_kinds, n_kinds, bins).astype(float)


def _normalised(
    pair: tuple[str, str], counts: Array, centres: float, partners: float, inverse_volume: float, edges: Array
) -> RadialDistribution:
    per_centre = counts / centres
    if inverse_volume > 0.0:
        shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        density = per_centre / (shells * partners * inverse_volume)
    else:
        density = per_centre / np.diff(edges)
    return RadialDistribution(pair, 0.5 * (edges[1:] + edges[:-1]), density, np.cumsum(per_centre))
