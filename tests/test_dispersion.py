"""Dispersion on top of a calculator: sums of both, derivatives of the energy, every periodicity, clear refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from forcefield import GNNCalculator
from forcefield.dispersion import DispersionCorrected

d3 = pytest.importorskip("dftd3.ase")


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def slab() -> Atoms:
    """Without a third lattice vector."""
    atoms = fcc111("Cu", (1, 2, 2))
    atoms.rattle(0.1, seed=2)
    atoms.pbc = (True, True, False)
    return atoms


@pytest.fixture
def corrected(tiny_model: Path) -> DispersionCorrected:
    return DispersionCorrected(GNNCalculator(tiny_model, dtype="float64", device="cpu", check_overlaps=False))


@pytest.mark.parametrize("make", [crystal, slab, lambda: molecule("CH3OH"), lambda: Atoms("Cu")])
def test_forces_are_the_derivatives_of_the_energy(make, corrected):
    atoms = make()
    before = atoms.copy()
    atoms.calc = corrected
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, 1e-4), atol=1e-5)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms == before


def test_stress_is_the_derivative_of_the_energy(corrected):
    atoms = crystal()
    atoms.calc = corrected
    numerical = calculate_numerical_stress(atoms, 1e-3)
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=2e-4)  # D3's sum over pairs ends abruptly at 32 Å


def test_it_is_the_sum_of_both():
    atoms = crystal()
    alone = d3.DFTD3(method="PBE", damping="d3bj")
    expected = EMT().get_potential_energy(atoms) + alone.get_potential_energy(atoms)
    assert DispersionCorrected(EMT()).get_potential_energy(atoms) == pytest.approx(expected, abs=1e-12)
    assert alone.get_potential_energy(atoms) < -0.1


def test_a_layer_is_one_in_an_empty_cell():
    layer = slab()
    wide = layer.copy()
    wide.cell[2] = [0, 0, 90]
    wide.pbc = True
    energies = [DispersionCorrected(EMT()).get_potential_energy(atoms) for atoms in (layer, wide)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_no_stress_without_a_volume(corrected):
    atoms = molecule("H2O")
    atoms.calc = corrected
    with pytest.raises(PropertyNotImplementedError, match="stress"):
        atoms.get_stress()


def test_what_d3_does_not_know_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="damping is 'none', but must be one of d3bj"):
        DispersionCorrected(EMT(), damping="none")
    with pytest.raises(ValueError, match="no parameters of d3bj for the functional 'mine'"):
        DispersionCorrected(EMT(), functional="mine")
    monkeypatch.setitem(sys.modules, "dftd3", None)
    with pytest.raises(ImportError, match=r"gnn-forcefield\[dispersion\]"):
        DispersionCorrected(EMT())
