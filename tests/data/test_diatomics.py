"""Diatomic molecules: a calculator's energies near the bond length, the universal binding curve beyond."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.morse import MorsePotential
from ase.data import covalent_radii

from forcefield.data.diatomics import FAR, NEAR, SCAN, Bond, diatomics, find_bond, switch
from forcefield.data.frames import Frame, atoms_from_frame

DEPTH, STEEPNESS = 3.0, 4.0
LENGTH = 1.02 * covalent_radii[[7, 8]].sum()


def morse() -> MorsePotential:
    return MorsePotential(epsilon=DEPTH, r0=LENGTH, rho0=STEEPNESS, rcut1=5.0, rcut2=6.0)


def distance(frame: Frame) -> float:
    return float(np.linalg.norm(frame.positions[1] - frame.positions[0]))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Of N2, NO and O2, of which the free atoms are at 0, -0.5 and -1 eV of the calculator's energies."""
    return list(diatomics([8, 7], morse(), {7: -0.25, 8: -0.5}, cutoff=5.0))


def test_all_pairs_in_both_ranges(frames):
    assert {tuple(frame.numbers) for frame in frames} == {(7, 7), (7, 8), (8, 8)}
    assert all(frame.kind == "diatomic" and "-" in frame.material and not frame.pbc.any() for frame in frames)
    ratios = np.array([distance(frame) / LENGTH for frame in frames if tuple(frame.numbers) == (7, 8)])
    assert np.all((ratios <= NEAR[1] + 0.01) | (ratios > FAR - 0.01))
    assert np.sum(ratios < NEAR[1] + 0.01) >= 5 and np.sum(ratios > FAR - 0.01) == 12


def test_near_the_bond_it_is_the_calculator(frames):
    near = [frame for frame in frames if distance(frame) < 1.2 * LENGTH]
    for frame in near:
        atoms = atoms_from_frame(frame)
        atoms.calc = morse()
        assert frame.energy == pytest.approx(atoms.get_potential_energy())
        np.testing.assert_allclose(frame.forces, atoms.get_forces(), atol=1e-9)


def test_beyond_it_falls_apart_into_the_free_atoms(frames):
    """The curve of a Morse molecule with its own atoms is nearly Morse's; with others it ends at those."""
    own = find_bond(
        SCAN * 2, np.array([1 - DEPTH * (2 * np.exp(-(x - 2)) - np.exp(-2 * (x - 2))) for x in SCAN * 2]), 1.0
    )
    assert own is not None
    assert own.length == pytest.approx(2, abs=0.01) and own.depth == pytest.approx(DEPTH, abs=0.01)
    assert own.curvature == pytest.approx(2 * DEPTH, rel=0.05)
    assert own.curve(40.0)[0] == pytest.approx(1.0, abs=1e-6)
    far = [frame for frame in frames if tuple(frame.numbers) == (8, 8) and distance(frame) > 1.4 * LENGTH]
    energies = [frame.energy for frame in far]
    assert np.all(np.diff(energies) > 0) and energies[-1] == pytest.approx(-1.0, abs=1e-3)


def test_forces_are_derivatives(frames):
    bond = Bond(1.2, -8.0, 5.0, 30.0)
    for at in (1.0, 1.8, 3.0):
        slope = (bond.curve(at + 1e-5)[0] - bond.curve(at - 1e-5)[0]) / 2e-5
        assert bond.curve(at)[1] == pytest.approx(slope, abs=1e-6)
        slope = (switch(at + 2 + 1e-5, 5.0)[0] - switch(at + 2 - 1e-5, 5.0)[0]) / 2e-5
        assert switch(at + 2, 5.0)[1] == pytest.approx(slope, abs=1e-6)
    far = [frame for frame in frames if tuple(frame.numbers) == (8, 8) and distance(frame) > 1.4 * LENGTH]
    r, energy = np.array([distance(f) for f in far]), np.array([f.energy for f in far])
    pull = np.array([f.forces[0, 2] for f in far])  # the first atom is below and is pulled upwards
    assert pull.min() > 0 and all(f.forces.sum() == 0 for f in far)
    np.testing.assert_allclose(np.diff(energy), 0.5 * (pull[1:] + pull[:-1]) * np.diff(r), atol=0.02)


@pytest.mark.parametrize("free", [-DEPTH, 100.0])
def test_what_does_not_bind_sensibly_is_left_out(free):
    assert list(diatomics([7], morse(), {7: free / 2}, cutoff=5.0)) == []
