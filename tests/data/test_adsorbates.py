"""Molecules on slabs: seeded, in contact but not too close, whole, in a cell with vacuum."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT

from forcefield.data.adsorbates import MOLECULES, SHORTEST, VACUUM, adsorbates, contact_distance
from forcefield.workflows.vacuum import find_vacuum


@pytest.fixture(scope="module")
def made():
    return list(adsorbates([29, 13], 40, EMT(), seed=3))


def test_they_are_seeded(made):
    again = list(adsorbates([29, 13], 2, EMT(), seed=3))
    other = next(adsorbates([29, 13], 1, EMT(), seed=4))
    for first, second in zip(made[:2], again, strict=True):
        np.testing.assert_array_equal(first.positions, second.positions)
    assert other.get_chemical_formula() != made[0].get_chemical_formula() or len(other) != len(made[0])


def test_guest_touches_the_slab_and_nothing_else(made):
    for atoms in made:
        slab, guest = atoms[:12], atoms[12:]
        assert len(set(slab.numbers)) == 1 and 1 <= len(guest) <= 5
        assert SHORTEST - 1e-6 <= contact_distance(slab, guest) <= 2 * SHORTEST + 0.02
        (layer,) = find_vacuum(atoms)
        assert layer.axis == 2 and layer.thickness == pytest.approx(2 * VACUUM, abs=0.02)
        assert atoms.info["kind"] == "adsorbate" and " on " in atoms.info["material"]


def test_slabs_are_near_their_lattice(made):
    for atoms in (one for one in made if one.numbers[0] == 29):
        a = np.sqrt(2) * np.linalg.norm(atoms.cell[0]) / 2
        assert 0.93 * 3.59 < a < 1.07 * 3.59


def test_molecules_are_known():
    assert len(set(MOLECULES)) == len(MOLECULES) == 16
