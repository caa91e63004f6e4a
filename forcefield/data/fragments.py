"""Small structures in vacuum: dimers, molecules and pieces of crystals, which crystal data sets lack.

Without them a potential is free to oscillate where an atom has one or two neighbours. All generators are seeded; the
structures are to be labelled with a calculator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ase
import numpy as np
from ase.build import molecule
from ase.collections import g2
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from forcefield.data.store import FrameStore

SHORTEST = 0.65
"""Shortest distance of a dimer in units of the sum of covalent radii."""


def dimers(elements: Sequence[int], count: int, *, longest: float, seed: int) -> Iterator[ase.Atoms]:
    """Pairs of random elements at random distances; every fourth pair is of one element.

    Args:
        elements: atomic numbers to draw from.
        count: number of dimers.
        longest: largest distance (Å); the shortest is `SHORTEST` times the sum of the covalent radii.
        seed: same seed, same dimers.
    """
    generator = np.random.default_rng(seed)
    for k in range(count):
        first, second = generator.choice(elements, 2)
        pair = [int(first), int(first if k % 4 == 0 else second)]
        shortest = SHORTEST * covalent_radii[pair].sum()
        distance = generator.uniform(shortest, max(longest, 1.5 * shortest))
        yield ase.Atoms(pair, positions=[[0, 0, 0], distance * _direction(generator)], info={"kind": "dimer"})


def molecules(copies: int, *, displacement: float, seed: int) -> Iterator[ase.Atoms]:
    """The molecules of ASE's G2 collection with random displacements.

    Args:
        copies: variants of each molecule.
        displacement: largest standard deviation of a coordinate's displacement (Å); each copy has its own.
        seed: same seed, same structures.
    """
    generator = np.random.default_rng(seed)
    for name in g2.names:
        for _ in range(copies):
            atoms = molecule(name)
            atoms = ase.Atoms(atoms.numbers, positions=atoms.positions, info={"kind": "molecule"})
            atoms.positions += generator.normal(size=(len(atoms), 3)) * generator.uniform(0, displacement)
            yield atoms


def clusters(store: FrameStore, count: int, *, largest: int, seed: int) -> Iterator[ase.Atoms]:
    """Pieces cut out of stored structures: a random atom with its nearest neighbours.

    Args:
        store: where the structures come from.
        count: number of clusters.
        largest: most atoms of a cluster; the least is 3.
        seed: same seed, same clusters.
    """
    generator = np.random.default_rng(seed)
    made = 0
    while made < count:
        atoms = _cluster(store, int(generator.integers(len(store))), int(generator.integers(3, largest + 1)), generator)
        if atoms is not None:
            made += 1
            yield atoms


def _cluster(store: FrameStore, frame: int, size: int, generator: np.random.Generator) -> ase.Atoms | None:
    """One piece, or None where the chosen atom has too few neighbours."""
    arrays = store.arrays
    first_atom, first_edge, last_edge = store.first_atom[frame], store.first_edge[frame], store.first_edge[frame + 1]
    centre: NDArray = arrays["centre"][first_edge:last_edge].astype(np.int64)
    atom = int(generator.integers(arrays["n_atoms"][frame]))
    mine = np.flatnonzero(centre == atom) + first_edge
    if len(mine) < size - 1:
        return None
    neighbour = arrays["neighbour"][mine].astype(np.int64) + first_atom
    shift = arrays["shift"][mine].astype(float)
    positions = arrays["positions"]
    vectors = positions[neighbour] + shift @ arrays["cell"][frame] - positions[first_atom + atom]
    nearest = np.argsort(np.linalg.norm(vectors, axis=1))[: size - 1]
    numbers = [int(arrays["numbers"][first_atom + atom]), *arrays["numbers"][neighbour[nearest]].astype(int)]
    return ase.Atoms(numbers, positions=np.vstack([np.zeros(3), vectors[nearest]]), info={"kind": "cluster"})


def _direction(generator: np.random.Generator) -> NDArray[np.float64]:
    vector = generator.normal(size=3)
    return vector / np.linalg.norm(vector)


def name_of(atoms: ase.Atoms) -> str:
    """Formula with the kind, to tell the materials of a store apart."""
    return f"{atoms.info['kind']} {'-'.join(chemical_symbols[z] for z in sorted(atoms.numbers))}"
