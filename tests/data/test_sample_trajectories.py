"""Frames that a calculator makes: thermal motion of the right size, relaxations downhill, nothing but the seed."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from forcefield.data.sampling import SHORTEST, SamplePlan, hot, relaxations, sample
from forcefield.data.sampling.trajectories import SNAPSHOTS, STOPS
from forcefield.structures import close_contacts


def copper() -> Atoms:
    return bulk("Cu", a=3.6, cubic=True)


def energies(frames: list[Atoms]) -> np.ndarray:
    """eV/atom by EMT."""
    found = []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = EMT()
        found.append(atoms.get_potential_energy() / len(atoms))
    return np.array(found)


def same(first: list[Atoms], second: list[Atoms]) -> bool:
    return all(
        np.array_equal(one.positions, other.positions)
        and np.array_equal(one.cell, other.cell)
        and one.info == other.info
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("kelvin", [300, 900])
def test_a_hot_crystal_has_the_potential_energy_of_its_temperature(kelvin):
    frames = list(hot(copper(), 24, EMT(), seed=5, temperatures=(kelvin,), max_atoms=40))
    rest = energies([copper()])[0]
    # equipartition in a harmonic crystal; the scatter of 24 frames, in part correlated, is below a tenth
    assert np.mean(energies(frames) - rest) == pytest.approx(1.5 * units.kB * kelvin, rel=0.25)


def test_a_melt_is_no_crystal_any_more():
    (*_, last) = hot(copper(), SNAPSHOTS, EMT(), seed=0, temperatures=(6000,), max_atoms=40)
    assert energies([last])[0] - energies([copper()])[0] > 0.4
    assert not close_contacts(last, factor=SHORTEST)


def test_hot_frames_say_what_they_are_and_keep_cell_and_parent():
    atoms = copper()
    atoms.info = {"source": "file #3", "material": "mp-30"}
    before = atoms.copy()
    frames = list(hot(atoms, 5, EMT(), seed=1, max_atoms=20))
    assert len(frames) == 5 and atoms == before and atoms.calc is None
    for frame in frames:
        assert frame.info == {"kind": "hot", "material": "mp-30", "parent": "file #3"} and frame.calc is None
        assert frame.get_volume() / len(frame) == pytest.approx(atoms.get_volume() / 4)
    assert not np.allclose(frames[0].positions, frames[1].positions)


@pytest.mark.parametrize("make", [hot, relaxations])
def test_frames_depend_on_the_seed_alone_and_more_of_them_begin_alike(make):
    frames = list(make(copper(), 5, EMT(), seed=2))
    assert same(frames, list(make(copper(), 5, EMT(), seed=2)))
    assert same(frames, list(make(copper(), 9, EMT(), seed=2))[:5])
    assert not np.allclose(frames[0].positions[:4], next(iter(make(copper(), 1, EMT(), seed=3))).positions[:4])


def test_relaxations_go_downhill_in_the_cell_as_well():
    frames = list(relaxations(copper(), len(STOPS), EMT(), seed=0))
    found = energies(frames)
    assert len(frames) == len(STOPS) and (np.diff(found) < 0).all()
    assert found[-1] - energies([copper()])[0] < 0.005  # EMT's own lattice parameter is 3.59 Å
    assert not np.allclose(frames[0].cell, frames[-1].cell)


def test_molecules_are_moved_without_a_cell():
    frames = list(sample(molecule("CO"), SamplePlan(hot=2, relaxation=4), seed=0, calculator=EMT()))
    assert {frame.info["kind"] for frame in frames} == {"hot", "relaxation"}
    assert not any(frame.pbc.any() for frame in frames)
    relaxed = [frame for frame in frames if frame.info["kind"] == "relaxation"]
    assert len(relaxed) > 1 and (np.diff(energies(relaxed)) < 0).all()


def test_without_a_calculator_hot_frames_are_refused():
    with pytest.raises(ValueError, match="hot frames were asked for; give a calculator"):
        list(sample(copper(), SamplePlan(rattled=1, hot=1), seed=0))


def test_what_a_calculator_says_is_told_of_the_structure():
    refused = []
    plan = SamplePlan(rattled=1, hot=1, relaxation=1)
    salt = bulk("NaCl", "rocksalt", a=5.64)
    frames = list(sample(salt, plan, seed=0, calculator=EMT(), on_refused=lambda *what: refused.append(what)))
    assert [frame.info["kind"] for frame in frames] == ["rattled"]
    assert [kind for kind, _ in refused] == ["hot", "relaxation"] and "EMT" in refused[0][1]
    with pytest.raises(ValueError, match="hot: .*EMT"):
        list(sample(salt, plan, seed=0, calculator=EMT()))


class Collapse(Calculator):
    """Pulls all atoms together."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.atoms.positions.mean(axis=0)
        self.results = {"energy": 50 * float((away**2).sum()), "forces": -100 * away}


def test_atoms_that_always_collapse_are_refused():
    with pytest.raises(ValueError, match="all had atoms closer than 0.6 times"):
        list(hot(molecule("CH4"), 1, Collapse(), seed=0, temperatures=(10,)))
    assert len(list(relaxations(molecule("CH4"), 4, Collapse(), seed=0))) < 4


def test_absurd_temperatures_are_refused():
    with pytest.raises(ValueError, match="positive numbers"):
        list(hot(copper(), 1, EMT(), seed=0, temperatures=(0,)))
