"""The Verlet skin: fewer neighbour searches and the same molecular dynamics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT
from ase.md.verlet import VelocityVerlet

from forcefield import GNNCalculator


def nve(atoms: Atoms) -> MolecularDynamics:
    return VelocityVerlet(atoms, 2 * units.fs)


def npt(atoms: Atoms) -> MolecularDynamics:
    """All six components of the cell are free; the pressure is high enough to change the volume by a quarter."""
    femtosecond = units.fs
    return MTKNPT(
        atoms, 2 * femtosecond, temperature_K=600, pressure_au=0.02, tdamp=100 * femtosecond, pdamp=500 * femtosecond
    )


def hot_salt(calculator: GNNCalculator) -> Atoms:
    """Eight atoms at about 600 K; the model's crystal is soft enough for them to leave their cell."""
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat((2, 2, 1))
    atoms.rattle(0.05, seed=1)
    spread = np.sqrt(atoms.get_masses() * units.kB * 1200)
    atoms.set_momenta(spread[:, None] * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    atoms.calc = calculator
    return atoms


def trajectory(atoms: Atoms, dynamics: MolecularDynamics, steps: int, wrap_every: int = 0) -> np.ndarray:
    """Potential and total energy per atom (eV) and volume per atom at every step."""
    rows = []
    for k in range(steps):
        dynamics.run(1)
        if wrap_every and k % wrap_every == 0:
            atoms.wrap()
        energies = atoms.get_potential_energy(), atoms.get_total_energy()
        rows.append(np.array([*energies, atoms.get_volume()]) / len(atoms))
    return np.array(rows)


@pytest.mark.parametrize("ensemble", [nve, npt])
def test_500_steps_with_and_without_skin_are_the_same(tiny_model: Path, ensemble: Callable[[Atoms], MolecularDynamics]):
    rows, builds = [], []
    for skin, wrap_every in ((0.0, 0), (0.5, 50)):
        atoms = hot_salt(GNNCalculator(tiny_model, device="cpu", dtype="float64", skin=skin))
        rows.append(trajectory(atoms, ensemble(atoms), 500, wrap_every))
        builds.append(atoms.calc.neighbour_list_builds)
    without, with_skin = rows
    assert np.ptp(without[:, 0]) > 0.02, "the atoms should move"
    np.testing.assert_allclose(with_skin[:, :2], without[:, :2], atol=1e-5)
    np.testing.assert_allclose(with_skin[:, 2], without[:, 2], rtol=1e-6)
    assert builds[0][0] == builds[0][1] >= 500
    assert builds[1][1] >= 500 and builds[1][0] < builds[1][1] / 4
    if ensemble is nve:
        assert np.ptp(without[:, 1]) < 2e-3, "the total energy should be conserved"
    else:
        assert np.ptp(without[:, 2]) > 0.1 * without[0, 2], "the volume should change"


@pytest.fixture
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, device="cpu", dtype="float64", skin=0.5)


@pytest.fixture
def reference(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, device="cpu", dtype="float64", skin=0.0)


def assert_forces_agree(atoms: Atoms, reference: GNNCalculator) -> None:
    other = atoms.copy()
    other.calc = reference
    assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), atol=1e-9)


def builds_after(atoms: Atoms, reference: GNNCalculator) -> int:
    assert_forces_agree(atoms, reference)
    return atoms.calc.neighbour_list_builds[0]


def test_small_moves_keep_the_list_and_large_ones_renew_it(calculator, reference):
    atoms = hot_salt(calculator)
    assert builds_after(atoms, reference) == 1
    atoms.positions[2, 0] += 0.24
    assert builds_after(atoms, reference) == 1
    atoms.positions[2, 0] += 0.02  # 0.26 Å in all, more than half the skin
    assert builds_after(atoms, reference) == 2
    atoms.positions += 3.3  # all atoms together: no pair has changed, but a slow drift must not confuse the list
    assert_forces_agree(atoms, reference)


def test_wrapping_and_lattice_translations_are_no_motion(calculator, reference):
    atoms = hot_salt(calculator)
    assert builds_after(atoms, reference) == 1
    for shift in ([2, 0, -1], [0, 5, 0], [-40, 3, 7]):
        atoms.positions[3] += np.array(shift) @ atoms.cell.array
        assert builds_after(atoms, reference) == 1
    atoms.wrap()
    assert builds_after(atoms, reference) == 1


def test_wrapping_a_slab_leaves_the_free_axis_alone(calculator, reference):
    atoms = fcc111("Cu", (2, 2, 2), a=3.6, vacuum=5.0)
    atoms.rattle(0.05, seed=0)
    atoms.calc = calculator
    assert builds_after(atoms, reference) == 1
    atoms.positions[0] += atoms.cell[0] - 2 * atoms.cell[1]
    assert builds_after(atoms, reference) == 1
    atoms.positions[0] += atoms.cell[2]  # no translation of the lattice: the atom has left the slab
    assert builds_after(atoms, reference) == 2


def test_strain_of_the_cell_counts(calculator, reference):
    atoms = hot_salt(calculator)
    assert builds_after(atoms, reference) == 1
    for k in range(1, 40):
        strain = np.array([[1 - 0.01 * k, 0, 0], [0, 1, 0.005 * k], [0, 0, 1 + 0.002 * k]])
        strained = hot_salt(calculator)
        strained.set_cell(strained.cell.array @ strain, scale_atoms=True)
        assert_forces_agree(strained, reference)
    builds, calls = calculator.neighbour_list_builds
    assert 3 < builds < 20 and calls == 40


def test_shrinking_the_cell_alone_renews_the_list(calculator, reference):
    atoms = hot_salt(calculator)
    assert builds_after(atoms, reference) == 1
    atoms.set_cell(0.8 * atoms.cell.array, scale_atoms=True)
    assert builds_after(atoms, reference) == 2
    atoms.set_cell(atoms.cell.array[[1, 2, 0]])  # the same lattice with its vectors renamed
    assert_forces_agree(atoms, reference)


@pytest.mark.parametrize("skin", [0.1, 1.0, 3.0])
def test_random_walk_of_atoms_and_cell(tiny_model, reference, skin):
    rng = np.random.default_rng(3)
    atoms = hot_salt(GNNCalculator(tiny_model, device="cpu", dtype="float64", skin=skin, check_overlaps=False))
    for _ in range(30):
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.003, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.02, size=(len(atoms), 3))
        if rng.random() < 0.3:
            atoms.wrap()
        assert_forces_agree(atoms, reference)
    builds, calls = atoms.calc.neighbour_list_builds
    assert calls == 30 and builds < 30
