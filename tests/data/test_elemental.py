"""Elemental crystals: volumes of lowest energy, structures as they are called, seeded, held-out ones left out."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.eos import EquationOfState

from forcefield.data.elemental import SHORTEST, STRUCTURES, elemental_crystals, lowest_volume, primitive
from forcefield.workflows.symmetry import find_space_group


@pytest.mark.parametrize(("structure", "space_group"), STRUCTURES.items())
def test_primitive_cells_are_what_they_are_called(structure, space_group):
    atoms = primitive(29, structure, 12.5)
    assert atoms.get_volume() / len(atoms) == pytest.approx(12.5)
    assert find_space_group(atoms).number == space_group


def test_lowest_volume_is_that_of_an_equation_of_state():
    volumes, energies = [], []
    for a in np.linspace(3.5, 3.7, 7):
        atoms = bulk("Cu", a=a)
        atoms.calc = EMT()
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    exact = EquationOfState(volumes, energies).fit()[0]
    assert lowest_volume(29, "fcc", EMT()) == pytest.approx(exact, rel=0.06)  # the grid's distance is 7 % in volume


def test_frames_are_seeded_strained_and_not_too_dense():
    def frames(seed):
        return list(elemental_crystals([29, 13], 12, EMT(), seed=seed))

    made, again, other = frames(1), frames(1), frames(2)
    assert len(made) == 2 * len(STRUCTURES) * 12
    for first, second in zip(made, again, strict=True):
        assert np.array_equal(first.positions, second.positions)
        assert np.array_equal(first.cell, second.cell)
    assert not np.array_equal(made[0].cell, other[0].cell)
    for atoms in made:
        assert len(atoms) <= 8
        lengths = np.linalg.norm(atoms.repeat(3).positions[1:] - atoms.repeat(3).positions[0], axis=1)
        assert lengths.min() >= SHORTEST * 2 * covalent_radii[atoms.numbers[0]] - 1e-9
        assert atoms.info["kind"] == "strained"
    assert {atoms.info["material"] for atoms in made} == {
        f"elemental {structure} {symbol}" for structure in STRUCTURES for symbol in ("Cu", "Al")
    }
    assert min(len(atoms) for atoms in made) == 1


def test_what_is_held_out_is_not_made():
    excluded = {(29, STRUCTURES["fcc"]), (13, STRUCTURES["bcc"])}
    made = {atoms.info["material"] for atoms in elemental_crystals([29], 1, EMT(), seed=0, excluded=excluded)}
    assert made == {f"elemental {name} Cu" for name in STRUCTURES if name != "fcc"}
