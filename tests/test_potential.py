"""Physics that the potential adds: free atoms, saturation, scale, repulsion, precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import nn

from forcefield.graph import graph_from_atoms
from forcefield.networks.density import DensityNetwork
from forcefield.potential import Potential

ISOLATED = {11: -0.21, 17: -0.36}
BOUND = {11: -1.3, 17: -1.9}


class Constant(nn.Module):
    """A network that says the same of every atom."""

    def __init__(self, value, cutoff=4.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(float(value)))
        self.cutoff, self.elements = cutoff, (11, 17)

    def forward(self, graph, vectors, exchange=None):
        return self.value.expand(graph.n_local)


def energies(potential, atoms):
    graph = graph_from_atoms(atoms, potential.cutoff)
    return potential(graph, graph.edge_vectors()).detach().numpy()


def build(network, **options):
    return Potential(network, isolated_energies=ISOLATED, bound_energies=BOUND, **options)


def envelope(x, p=6):
    return 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)


def test_free_atom_has_its_energy_exactly():
    potential = build(Constant(1e6), scale=3.0)
    for symbol, number in (("Na", 11), ("Cl", 17)):
        assert energies(potential, Atoms(symbol))[0] == ISOLATED[number]
        assert energies(potential, Atoms(symbol, cell=np.eye(3) * 30, pbc=True))[0] == ISOLATED[number]


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_formula_for_a_pair(rate):
    potential = build(Constant(0.75), scale=2.5, repulsion=False, saturation_rate=rate)
    for distance in (2.0, 3.0, 3.9):
        near = envelope(distance / 4.0)
        saturation = 1 - math.exp(-near - (rate - 1) * near**3)
        expected = [ISOLATED[z] + saturation * (BOUND[z] + 2.5 * 0.75) for z in (11, 17)]
        found = energies(potential, Atoms("NaCl", positions=[[0, 0, 0], [0, 0, distance]]))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_saturation_an_atom_alone_is_like_any_other():
    potential = build(Constant(0.75), scale=2.5, repulsion=False, saturates=False)
    pair = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.0]])
    expected = [ISOLATED[z] + BOUND[z] + 2.5 * 0.75 for z in (11, 17)]
    np.testing.assert_allclose(energies(potential, pair), expected, rtol=1e-12)
    assert energies(potential, Atoms("Na"))[0] == pytest.approx(expected[0], rel=1e-12)


def test_saturated_in_a_crystal():
    found = energies(build(Constant(0.0), repulsion=False), bulk("NaCl", "rocksalt", a=4.0))
    np.testing.assert_allclose(found, [ISOLATED[11] + BOUND[11], ISOLATED[17] + BOUND[17]], atol=1e-3)


def test_repulsion_dominates_when_atoms_touch():
    with_repulsion, without = build(Constant(0.0)), build(Constant(0.0), repulsion=False)
    for distance, least in ((0.2, 500.0), (0.5, 100.0), (1.0, 5.0)):
        pair = Atoms("NaCl", positions=[[0, 0, 0], [0, distance, 0]])
        assert energies(with_repulsion, pair).sum() - energies(without, pair).sum() > least
    far = Atoms("NaCl", positions=[[0, 0, 0], [0, 2.7, 0]])
    np.testing.assert_array_equal(energies(with_repulsion, far), energies(without, far))


def test_missing_reference_energy_is_refused():
    with pytest.raises(ValueError, match="17"):
        Potential(Constant(0.0), isolated_energies=ISOLATED, bound_energies={11: 0.0})
    with pytest.raises(ValueError, match="11"):
        Potential(Constant(0.0), isolated_energies={17: 0.0}, bound_energies=BOUND)


def test_sums_stay_in_double_precision():
    shifted = Potential(
        Constant(0.1),
        isolated_energies={11: -1234.567890123456, 17: -9876.54321098765},
        bound_energies={11: 0.0, 17: 0.0},
    )
    assert shifted.dtype == torch.float32
    assert energies(shifted, Atoms("Na")).dtype == np.float64
    assert energies(shifted, Atoms("Na"))[0] == -1234.567890123456
    shifted.with_dtype(torch.float64)
    assert shifted.dtype == torch.float64
    assert energies(shifted, Atoms("Cl"))[0] == -9876.54321098765
    shifted.with_dtype(torch.float32)
    assert shifted.isolated.dtype == torch.float64
    assert energies(shifted, Atoms("Cl"))[0] == -9876.54321098765


def test_descriptors_are_invariant_and_local():
    network = DensityNetwork([11, 17], cutoff=4.0, channels=6, n_radial=4, hidden=8).double()
    potential = build(network)
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.rattle(0.1, seed=0)

    def describe(structure):
        graph = graph_from_atoms(structure, 4.0)
        values, energy = potential.describe(graph, graph.edge_vectors())
        np.testing.assert_array_equal(energy.detach().numpy(), energies(potential, structure))
        return values.detach().numpy()

    reference = describe(atoms)
    assert reference.shape == (2, 6)
    turned = atoms.copy()
    turned.rotate(77, (1, 2, 3), rotate_cell=True)
    np.testing.assert_allclose(describe(turned), reference, atol=1e-12)
    np.testing.assert_allclose(describe(atoms.repeat((2, 1, 1)))[2:], reference, atol=1e-12)
    atoms.positions[0] += 0.2
    assert np.abs(describe(atoms) - reference).max() > 1e-4
