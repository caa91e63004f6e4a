"""Copies of the calculator, and one calculator used by several threads and processes."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from forcefield import GNNCalculator, OverlapWarning
from forcefield.testing.structures import build_structures

STRUCTURES = [atoms for _, atoms in build_structures("Na", "Cl").named()]


@pytest.fixture(scope="module")
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, device="cpu", dtype="float64")


def results(calculator: GNNCalculator, atoms: Atoms) -> tuple[float, np.ndarray]:
    attached = atoms.copy()
    attached.calc = calculator
    return attached.get_potential_energy(), attached.get_forces()


def assert_same(found: tuple[float, np.ndarray], expected: tuple[float, np.ndarray]) -> None:
    assert found[0] == pytest.approx(expected[0], abs=1e-9)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-9)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_give_the_same_numbers_and_are_independent(calculator, duplicate):
    expected = results(calculator, STRUCTURES[0])
    calculator.get_property("energy", STRUCTURES[0])
    other = duplicate(calculator)
    assert other.results.keys() == calculator.results.keys()
    assert (other.dtype, other.elements) == (calculator.dtype, calculator.elements)
    assert other.atomic_reference_energies == calculator.atomic_reference_energies
    builds = calculator.neighbour_list_builds
    assert_same(results(other, STRUCTURES[0]), expected)
    for atoms in STRUCTURES[1:]:
        assert_same(results(other, atoms), results(duplicate(calculator), atoms))
    assert calculator.neighbour_list_builds == builds, "the copy used the original's neighbour list"


def test_atoms_with_the_calculator_can_be_pickled_and_copied(calculator):
    atoms = STRUCTURES[3].copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    for other in (pickle.loads(pickle.dumps(atoms)), copy.deepcopy(atoms)):
        np.testing.assert_allclose(other.get_forces(), forces, atol=1e-12)
        other.positions += np.linspace(0, 0.1, 3 * len(other)).reshape(-1, 3)
        assert np.abs(other.get_forces() - forces).max() > 1e-4


def test_copy_warns_of_overlaps_anew(tiny_model):
    atoms = Atoms("Cu", cell=[1.0, 5.0, 5.0], pbc=True, calculator=GNNCalculator(tiny_model, device="cpu"))
    with pytest.warns(OverlapWarning):
        atoms.get_potential_energy()
    again = copy.deepcopy(atoms)
    again.calc.reset()
    with pytest.warns(OverlapWarning):
        again.get_potential_energy()


def test_threads_that_share_a_calculator_get_their_own_results(calculator):
    expected = [results(calculator, atoms) for atoms in STRUCTURES]
    start = threading.Barrier(len(STRUCTURES))

    def work(k: int) -> list[tuple[float, np.ndarray]]:
        start.wait()
        return [results(calculator, STRUCTURES[k]) for _ in range(8)]

    with ThreadPoolExecutor(len(STRUCTURES)) as pool:
        for k, found in enumerate(pool.map(work, range(len(STRUCTURES)))):
            for one in found:
                assert_same(one, expected[k])


def test_threads_may_mix_all_calls(calculator):
    crystal, chain = STRUCTURES[0], STRUCTURES[3]
    hessian, descriptors = calculator.get_hessian(chain), calculator.get_descriptors(crystal)
    forces = results(calculator, chain)[1]
    with ThreadPoolExecutor(3) as pool:
        jobs = [
            (
                pool.submit(calculator.get_hessian, chain),
                pool.submit(calculator.get_descriptors, crystal),
                pool.submit(results, calculator, chain),
            )
            for _ in range(4)
        ]
        for one, two, three in jobs:
            np.testing.assert_allclose(one.result(), hessian, atol=1e-9)
            np.testing.assert_allclose(two.result(), descriptors, atol=1e-9)
            np.testing.assert_allclose(three.result()[1], forces, atol=1e-9)


def test_an_error_in_one_thread_does_not_block_the_others(calculator):
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="Unknown to the model"):
        pool.submit(results, calculator, bulk("Fe")).result(timeout=60)
    assert np.isfinite(results(calculator, STRUCTURES[0])[0])


def test_fresh_processes_give_the_same_numbers(calculator):
    expected = [results(calculator, atoms) for atoms in STRUCTURES]
    context = multiprocessing.get_context("spawn")
    with warnings.catch_warnings(), ProcessPoolExecutor(2, mp_context=context) as pool:
        energies = [pool.submit(calculator.get_potential_energy, atoms) for atoms in STRUCTURES]
        forces = [pool.submit(calculator.get_forces, atoms) for atoms in STRUCTURES]
        for energy, force, one in zip(energies, forces, expected, strict=True):
            assert_same((energy.result(timeout=300), force.result(timeout=300)), one)
