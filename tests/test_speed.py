"""Work that must not creep back in; how long things take is measured by `benchmarks/calculator.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

import forcefield.neighbours
import forcefield.structures
from forcefield import GNNCalculator

FIRST_CALL = """
import sys
from ase.build import bulk
from forcefield import GNNCalculator
atoms = bulk("NaCl", "rocksalt", a=5.64)
atoms.calc = GNNCalculator(sys.argv[1])
atoms.get_stress()
slow = {"torch._dynamo", "sympy", "e3nn", "matplotlib", "pymatgen", "spglib"} & set(sys.modules)
sys.exit(f"imported without need: {sorted(slow)}" if slow else 0)
"""


def test_first_call_imports_no_compiler_and_no_optional_package(tiny_model: Path):
    subprocess.run([sys.executable, "-c", FIRST_CALL, str(tiny_model)], check=True)


def test_one_neighbour_search_serves_the_energy_and_the_check_of_overlaps(tiny_model: Path, monkeypatch):
    searches = []
    original = forcefield.neighbours.find_edges

    def counted(*arguments):
        searches.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(forcefield.neighbours, "find_edges", counted)
    monkeypatch.setattr(forcefield.structures, "find_edges", counted)
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.calc = GNNCalculator(tiny_model)
    for _ in range(5):
        atoms.positions[0] += 0.01
        atoms.get_potential_energy()
    assert len(searches) == 1


@pytest.mark.parametrize("change", ["initial_magmoms", "initial_charges"])
def test_what_the_energy_does_not_depend_on_computes_nothing_anew(tiny_model: Path, change: str):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.calc = GNNCalculator(tiny_model)
    atoms.get_potential_energy()
    atoms.set_array(change, np.ones(len(atoms)))
    assert atoms.calc.check_state(atoms) == []


@pytest.mark.parametrize("change", ["positions", "numbers", "cell", "pbc"])
def test_the_smallest_change_of_the_structure_is_seen(tiny_model: Path, change: str):
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.calc = GNNCalculator(tiny_model)
    atoms.get_potential_energy()
    changes = {
        "positions": lambda: atoms.positions.__setitem__((0, 0), 1e-17),
        "numbers": lambda: atoms.numbers.__setitem__(0, 17),
        "cell": lambda: atoms.cell.__setitem__((0, 0), 1e-17),
        "pbc": lambda: atoms.pbc.__setitem__(0, False),
    }
    changes[change]()
    assert atoms.calc.check_state(atoms) == [change]
