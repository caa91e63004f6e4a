"""LAMMPS in 1, 2 and 4 processes gives what the ASE calculator gives, to 1e-10, in every awkward situation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forcefield import GNNCalculator
from forcefield.units import KCAL_PER_MOL

CASES = (
    "bulk",
    "cell smaller than the cutoff",
    "triclinic",
    "slab with empty processes",
    "cluster",
    "atoms without neighbours",
    "deleted atoms",
    "large ids",
    "balanced by bisection",
    "migrating atoms",
    "constant energy",
    "constant pressure",
    "triclinic at constant pressure",
    "minimised",
    "real units",
)
PROCESSES = (1, 2, 4)
ResultOf = Callable[[str, int], dict[str, Any]]
pytestmark = pytest.mark.xdist_group("lammps")  # the runs of all cases are shared by the tests here


@pytest.fixture(scope="module")
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(str(tiny_model), dtype="float64", check_overlaps=False, device="cpu")


@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize("case", CASES)
def test_energies_forces_and_pressure_are_those_of_the_calculator(
    case: str, processes: int, result_of: ResultOf, calculator: GNNCalculator
) -> None:
    result = result_of(case, processes)
    atoms, unit = result["atoms"], KCAL_PER_MOL if case == "real units" else 1.0
    atoms.calc = calculator
    assert result["energy"] * unit == pytest.approx(atoms.get_potential_energy(), abs=1e-10, rel=1e-13)
    np.testing.assert_allclose(result["energies"] * unit, atoms.get_potential_energies(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(result["forces"] * unit, atoms.get_forces(), rtol=0, atol=1e-10)
    if atoms.pbc.all():  # LAMMPS orders xx yy zz xy xz yz, and a pressure is positive under compression
        expected = -atoms.get_stress()[[0, 1, 2, 5, 4, 3]]
        np.testing.assert_allclose(result["virial"] * unit, expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(result["shares"] * unit / atoms.get_volume(), expected, rtol=0, atol=1e-10)
    assert sum(result["n_locals"]) == len(atoms)


def test_the_cases_are_what_their_names_say(result_of: ResultOf) -> None:
    assert 0 in result_of("slab with empty processes", 4)["n_locals"]
    assert 0 not in result_of("balanced by bisection", 4)["n_locals"]
    assert result_of("migrating atoms", 4)["plans"] > 3
    assert not np.array_equal(result_of("deleted atoms", 2)["tags"], np.arange(1, 58))
    assert len(result_of("deleted atoms", 2)["tags"]) == 57
    assert result_of("large ids", 2)["tags"].max() == 16 * 10**8
    minimised = result_of("minimised", 2)
    assert minimised["energy"] < float(minimised["start_energy"]) - 0.1


@pytest.mark.parametrize("case", ["migrating atoms", "constant pressure"])
def test_trajectories_do_not_depend_on_the_number_of_processes(case: str, result_of: ResultOf) -> None:
    one = result_of(case, 1)["atoms"]
    for processes in (2, 4):
        other = result_of(case, processes)["atoms"]
        np.testing.assert_allclose(other.cell.array, one.cell.array, rtol=0, atol=1e-8)
        difference = one.cell.scaled_positions(other.positions - one.positions)
        np.testing.assert_allclose(difference, np.rint(difference), rtol=0, atol=1e-8)


@pytest.mark.parametrize("processes", PROCESSES)
def test_energy_is_conserved(processes: int, result_of: ResultOf) -> None:
    result = result_of("constant energy", processes)
    drift = abs(float(result["total_energy"]) - float(result["start_energy"])) / len(result["atoms"])
    assert drift < 2e-5  # eV per atom after 25 steps of 2 fs


def test_lists_and_plans_are_kept_between_reneighbourings(result_of: ResultOf) -> None:
    result = result_of("constant energy", 2)
    assert result["calls"] > 25
    assert result["plans"] < 8 and result["builds"] < 8
