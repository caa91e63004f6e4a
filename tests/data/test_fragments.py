"""Small structures in vacuum: seeded, sensible distances, and cut out of crystals as they are there."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.collections import g2
from ase.data import covalent_radii

from forcefield.data.fragments import SHORTEST, clusters, dimers, molecules, name_of
from forcefield.data.frames import frame_from_atoms
from forcefield.data.store import write_store


def same(first: list[ase.Atoms], second: list[ase.Atoms]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a.numbers, b.numbers) and np.array_equal(a.positions, b.positions) for a, b in pairs)


def test_dimers_are_seeded_and_within_their_distances():
    made = list(dimers([1, 8, 26, 55], 200, longest=5.0, seed=4))
    assert same(made, list(dimers([1, 8, 26, 55], 200, longest=5.0, seed=4)))
    assert not same(made, list(dimers([1, 8, 26, 55], 200, longest=5.0, seed=5)))
    for atoms in made:
        shortest = SHORTEST * covalent_radii[atoms.numbers].sum()
        assert shortest <= atoms.get_distance(0, 1) <= max(5.0, 1.5 * shortest)
    assert all(len(set(atoms.numbers)) == 1 for atoms in made[::4])


def test_molecules_are_displaced_copies_of_g2():
    made = list(molecules(2, displacement=0.1, seed=0))
    assert len(made) == 2 * len(g2.names)
    names = np.repeat(g2.names, 2)
    for name, atoms in zip(names, made, strict=True):
        assert atoms.symbols.get_chemical_formula() == g2[name].symbols.get_chemical_formula()
        assert np.abs(atoms.positions - g2[name].positions).max() < 0.6
    assert not np.array_equal(made[0].positions, made[1].positions)


@pytest.fixture
def store(tmp_path):
    salt, copper = bulk("NaCl", "rocksalt", a=5.64), bulk("Cu", a=3.6)
    return write_store(tmp_path / "store", [frame_from_atoms(salt), frame_from_atoms(copper)], 5.0)


def test_clusters_have_the_distances_of_their_crystal(store):
    for atoms in clusters(store, 30, largest=7, seed=1):
        assert 3 <= len(atoms) <= 7
        assert not atoms.pbc.any()
        nearest = 3.6 / np.sqrt(2) if 29 in atoms.numbers else 2.82
        distances = np.linalg.norm(atoms.positions[1:], axis=1)
        assert distances == pytest.approx(nearest)  # the first shell has more atoms than the cluster
        assert atoms.get_all_distances()[np.triu_indices(len(atoms), 1)].min() > 0.99 * nearest


def test_name_tells_kind_and_composition():
    atoms = next(iter(dimers([3], 1, longest=4.0, seed=0)))
    assert name_of(atoms) == "dimer Li-Li"
