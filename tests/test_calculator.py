"""The calculator: what it gives, what it refuses, and what it leaves alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.constraints import FixAtoms
from ase.io import read
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

import forcefield.calculator
from forcefield import GNNCalculator, OverlapWarning
from forcefield.testing.structures import TestStructures, build_structures

PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress")


@pytest.fixture(scope="module")
def double(tiny_model: Path) -> GNNCalculator:
    """One calculator in float64 for the tests that only look."""
    return GNNCalculator(tiny_model, device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def structures() -> TestStructures:
    return build_structures("Na", "Cl")


def with_calculator(atoms: Atoms, calculator: GNNCalculator) -> Atoms:
    attached = atoms.copy()
    attached.calc = calculator
    return attached


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of atoms of each evaluation that the calculator makes."""
    seen: list[int] = []
    original = forcefield.calculator.evaluate

    def counted(potential, graph, **options):
        seen.append(graph.n_atoms)
        return original(potential, graph, **options)

    monkeypatch.setattr(forcefield.calculator, "evaluate", counted)
    return seen


def test_properties_have_ase_shapes_and_agree_with_each_other(double, structures):
    atoms = with_calculator(structures.triclinic, double)
    energy = atoms.get_potential_energy()
    assert isinstance(energy, float)
    assert atoms.get_potential_energy(force_consistent=True) == energy
    assert double.get_property("free_energy", atoms) == energy
    energies = atoms.get_potential_energies()
    assert energies.shape == (len(atoms),) and energies.dtype == np.float64
    assert energies.sum() == pytest.approx(energy, abs=1e-10)
    assert atoms.get_forces().shape == (len(atoms), 3) and atoms.get_forces().dtype == np.float64
    assert atoms.get_stress().shape == (6,)
    assert atoms.get_stress(voigt=False).shape == (3, 3)
    assert dict(double.export_properties()).keys() == set(PROPERTIES) | {"natoms"}


@pytest.mark.parametrize("name", ["triclinic", "left_handed", "slab", "molecule", "one_atom_cell"])
def test_forces_are_minus_the_gradient(double, structures, name):
    atoms = with_calculator(getattr(structures, name), double)
    some = range(0, len(atoms), 5)
    expected = calculate_numerical_forces(atoms, eps=1e-4, iatoms=some)
    assert len(atoms) == 1 or np.abs(expected).max() > 0.01, "the test needs forces that are not zero"
    np.testing.assert_allclose(atoms.get_forces()[list(some)], expected, atol=2e-6)


@pytest.mark.parametrize("name", ["triclinic", "left_handed", "one_atom_cell"])
def test_stress_is_the_strain_derivative_in_voigt_order_with_ase_sign(double, structures, name):
    atoms = with_calculator(getattr(structures, name), double)
    expected = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(expected).min() > 1e-6, "the test needs six components that are not zero"
    np.testing.assert_allclose(atoms.get_stress(), expected, atol=1e-8, rtol=1e-5)


def test_left_handed_structure_is_one(structures):
    assert structures.left_handed.cell.handedness == -1


def test_compressed_crystal_has_negative_stress(tiny_model):
    atoms = with_calculator(bulk("Cu", "fcc", a=1.8), GNNCalculator(tiny_model, device="cpu"))
    with pytest.warns(OverlapWarning):
        stress = atoms.get_stress()
    assert np.all(stress[:3] < -0.1)


@pytest.mark.parametrize("name", ["slab", "molecule", "atom"])
def test_stress_without_volume_is_refused_and_the_rest_works(double, structures, name):
    atoms = with_calculator(getattr(structures, name), double)
    axes = "periodic only along a and b" if name == "slab" else "not periodic along any axis"
    for ask in (
        atoms.get_stress,
        lambda: double.get_stress(atoms),
        lambda: double.get_property("stress", atoms),
        lambda: double.get_property("stress", atoms, allow_calculation=False),
        lambda: double.calculate(atoms, ["stress"]),
    ):
        with pytest.raises(PropertyNotImplementedError, match=f"stress needs a volume.*{axes}.*atoms.pbc"):
            ask()
    energy = atoms.get_potential_energy()
    assert np.isfinite(energy) and np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    assert atoms.get_potential_energy() == energy


def test_stress_is_refused_for_a_molecule_right_after_a_crystal(double, structures):
    assert with_calculator(structures.triclinic, double).get_stress().shape == (6,)
    with pytest.raises(PropertyNotImplementedError):
        with_calculator(structures.molecule, double).get_stress()
    assert with_calculator(structures.triclinic, double).get_stress().shape == (6,)


def test_slab_relaxes_into_a_trajectory(tiny_model, structures, tmp_path):
    atoms = with_calculator(structures.slab, GNNCalculator(tiny_model, device="cpu"))
    BFGS(atoms, trajectory=str(tmp_path / "slab.traj"), logfile=None).run(fmax=1e-9, steps=2)
    frames = read(tmp_path / "slab.traj", index=":")
    assert len(frames) == 3
    assert frames[-1].get_potential_energy() == pytest.approx(atoms.get_potential_energy())
    assert "stress" not in frames[-1].calc.results


def test_unknown_property_is_not_implemented(double, structures):
    with pytest.raises(PropertyNotImplementedError):
        with_calculator(structures.atom, double).get_dipole_moment()


def test_isolated_atom_has_its_reference_energy(double, tiny_model):
    references = double.atomic_reference_energies
    assert len(references) == len(double.elements) and references["Na"] == -0.2
    for symbol, energy in references.items():
        assert with_calculator(Atoms(symbol), double).get_potential_energy() == energy
    pair = with_calculator(Atoms("NaO", positions=[[0, 0, 0], [0, 0, 4.01]]), double)
    assert pair.get_potential_energy() == pytest.approx(references["Na"] + references["O"], abs=1e-12)
    np.testing.assert_array_equal(pair.get_forces(), 0.0)
    boxed = with_calculator(Atoms("O", cell=[9, 9, 9], pbc=True), double)
    assert boxed.get_potential_energy() == references["O"]
    np.testing.assert_array_equal(boxed.get_stress(), 0.0)


def test_single_and_double_precision_agree(tiny_model, double, structures):
    single = GNNCalculator(tiny_model, device="cpu")
    assert (single.dtype, double.dtype) == ("float32", "float64")
    for name in ("triclinic", "slab", "molecule"):
        rough, fine = (with_calculator(getattr(structures, name), calculator) for calculator in (single, double))
        assert rough.get_potential_energy() == pytest.approx(fine.get_potential_energy(), abs=1e-5 * len(rough))
        np.testing.assert_allclose(rough.get_forces(), fine.get_forces(), atol=1e-4)
        assert rough.get_potential_energy() != fine.get_potential_energy()


@pytest.mark.parametrize("name", ["molecule", "left_handed"])
def test_hessian_is_the_derivative_of_the_forces(double, structures, name):
    atoms = with_calculator(getattr(structures, name), double)
    hessian = double.get_hessian(atoms, chunk=5)
    assert hessian.shape == (3 * len(atoms), 3 * len(atoms))
    np.testing.assert_array_equal(hessian, hessian.T)
    np.testing.assert_allclose(double.get_hessian(atoms, chunk=64), hessian, atol=1e-10)
    direction = np.random.default_rng(0).normal(size=(3, len(atoms), 3))
    for step in direction:
        forces = []
        for sign in (1, -1):
            moved = with_calculator(atoms, double)
            moved.positions += sign * 1e-4 * step
            forces.append(moved.get_forces())
        expected = -(forces[0] - forces[1]) / 2e-4
        np.testing.assert_allclose((hessian @ step.ravel()).reshape(-1, 3), expected, atol=2e-5)


def test_calculator_says_what_it_is(double):
    assert (double.dtype, str(double.device)) == ("float64", "cpu")
    assert repr(double) == "GNNCalculator('tiny', device='cpu', dtype='float64')"


def test_hessian_and_descriptors_use_the_attached_structure(double, structures):
    atoms = with_calculator(structures.molecule, double)
    atoms.get_potential_energy()
    np.testing.assert_array_equal(double.get_descriptors(), double.get_descriptors(atoms))
    np.testing.assert_array_equal(double.get_hessian(), double.get_hessian(atoms))


def test_descriptors_are_invariant_and_follow_permutations(double, structures):
    atoms = structures.triclinic
    descriptors = double.get_descriptors(atoms)
    assert descriptors.shape == (len(atoms), 8) and descriptors.dtype == np.float64
    assert np.ptp(descriptors[::2], axis=0).max() > 1e-4, "atoms in different places should differ"
    for orthogonal in (Rotation.random(rng=np.random.default_rng(1)).as_matrix(), -np.eye(3)):
        turned = atoms.copy()
        turned.set_cell(turned.cell.array @ orthogonal, scale_atoms=True)
        np.testing.assert_allclose(double.get_descriptors(turned), descriptors, atol=1e-10)
    order = np.random.default_rng(2).permutation(len(atoms))
    np.testing.assert_allclose(double.get_descriptors(atoms[order]), descriptors[order], atol=1e-10)


def test_nothing_is_computed_twice(tiny_model, structures, evaluations):
    atoms = with_calculator(structures.triclinic, GNNCalculator(tiny_model, device="cpu"))
    for _ in range(2):
        atoms.get_forces()
        atoms.get_potential_energy()
        atoms.get_stress()
        atoms.get_potential_energies()
    atoms.info["note"] = "not geometry"
    atoms.set_constraint(FixAtoms([0]))
    atoms.get_forces()
    assert evaluations == [16]
    atoms.positions[3, 1] += 0.01
    atoms.get_forces()
    assert evaluations == [16, 16]


def test_results_are_copies(double, structures):
    atoms = with_calculator(structures.triclinic, double)
    before = atoms.get_forces()
    atoms.get_forces()[:] = 0.0
    atoms.get_stress()[:] = 0.0
    np.testing.assert_array_equal(atoms.get_forces(), before)
    assert np.abs(atoms.get_stress()).max() > 0


def test_changes_between_calls_are_all_seen(tiny_model):
    shared = GNNCalculator(tiny_model, device="cpu", dtype="float64")
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    atoms.rattle(0.05, seed=0)
    atoms.calc = shared

    def agrees() -> None:
        fresh = with_calculator(atoms, GNNCalculator(tiny_model, device="cpu", dtype="float64", skin=0.0))
        assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), fresh.get_forces(), atol=1e-10)

    agrees()
    atoms.symbols[0] = "Mg"
    agrees()
    atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
    agrees()
    atoms.set_cell(atoms.cell.array @ np.array([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]))
    agrees()
    atoms.pbc = (True, False, True)
    agrees()
    atoms.pbc = True
    agrees()
    atoms += Atoms("O", positions=[[1.5, 1.0, 1.4]])
    agrees()
    del atoms[1]
    agrees()
    atoms.positions = atoms.positions[::-1].copy()
    agrees()
    atoms.wrap()
    agrees()
    atoms.pbc = False
    atoms.cell = None
    agrees()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_atoms_are_never_modified(tiny_model, dtype):
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=0)
    atoms.positions += np.array([[4, -7, 0], [0, 0, 0], [-9, 3, 20], [0, 1, 0]]) @ atoms.cell.array  # far outside
    atoms.set_constraint(FixAtoms([1]))
    atoms.set_tags([1, 2, 3, 4])
    atoms.set_velocities(np.random.default_rng(0).normal(size=(4, 3)))
    atoms.info["nested"] = {"list": [1, 2]}
    atoms.set_array("mine", np.arange(8.0).reshape(4, 2))
    atoms.set_celldisp([0.1, 0.2, 0.3])
    calculator = GNNCalculator(tiny_model, device="cpu", dtype=dtype)
    for pbc in (True, (True, True, False), False):
        atoms.pbc = pbc
        before = copy.deepcopy(atoms)
        atoms.calc = calculator
        atoms.get_forces()
        atoms.get_potential_energies()
        calculator.get_hessian(atoms)
        calculator.get_descriptors(atoms)
        atoms.calc = None
        assert atoms == before
        assert atoms.arrays.keys() == before.arrays.keys()
        for name, array in before.arrays.items():
            np.testing.assert_array_equal(atoms.arrays[name], array)
        np.testing.assert_array_equal(atoms.cell.array, before.cell.array)
        np.testing.assert_array_equal(atoms.get_celldisp(), before.get_celldisp())
        assert atoms.info == before.info and atoms.constraints[0].index.tolist() == [1]


def test_changing_the_users_atoms_later_does_not_reach_into_the_calculator(double, structures):
    atoms = structures.triclinic.copy()
    first = with_calculator(atoms, double).get_potential_energy()
    double.get_property("energy", atoms)
    atoms.positions += np.random.default_rng(0).normal(scale=0.1, size=atoms.positions.shape)
    assert double.get_property("energy", atoms) != first
    assert double.get_property("energy", structures.triclinic) == pytest.approx(first, abs=1e-10)
