"""The shipped model in its ordinary precision: a batch of examples ends where `relax` ends with each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.io import read

from forcefield.calculator import GNNCalculator
from forcefield.workflows import relax
from forcefield.workflows.batched import relax_many

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "structures"
NAMES = (
    *("Al.cif", "NaCl.cif", "Si.cif", "diamond.cif", "GaN.cif", "TiO2_rutile.cif"),
    *("Mg.cif", "CaF2.cif", "H2O.xyz", "Al111_slab.extxyz"),
)


@pytest.mark.slow
def test_examples_end_where_they_end_one_by_one():
    given = [read(FOLDER / name) for name in NAMES]
    for number, atoms in enumerate(given):
        atoms.calc = None
        atoms.rattle(0.05, seed=number)
    calculator = GNNCalculator(device="cpu")
    outcomes = relax_many(given, calculator, cell=None, max_edges=2000)
    for name, atoms, outcome in zip(NAMES, given, outcomes, strict=True):
        expected = relax(atoms, calculator, cell=bool(atoms.pbc.all()))
        found = outcome.result
        assert (found.reason, outcome.route) == (expected.reason, "batch"), name
        assert abs(found.steps - expected.steps) <= 3, name
        assert found.energy_per_atom == pytest.approx(expected.energy_per_atom, abs=2e-5), name
        assert found.spacegroup_after == expected.spacegroup_after, name
        if expected.volume_change is not None:
            assert found.atoms.get_volume() == pytest.approx(expected.atoms.get_volume(), rel=1e-3), name
