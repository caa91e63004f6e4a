"""Nuclear repulsion against the published formula, written out again and solved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from forcefield.nn.repulsion import Repulsion
from forcefield.units import BOHR, COULOMB


def universal_potential(first, second, distance):
    """Ziegler, Biersack, Littmark 1985, in eV and Å."""
    screening_length = 0.88534 * BOHR / (first**0.23 + second**0.23)
    x = distance / screening_length
    screening = (
        0.1818 * np.exp(-3.2 * x)
        + 0.5099 * np.exp(-0.9423 * x)
        + 0.2802 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.2016 * x)
    )
    return COULOMB * first * second / distance * screening


def envelope(x):
    return 1 - 28 * x**6 + 48 * x**7 - 21 * x**8 if x < 1 else 0.0


def pair_energies(first, second, distance):
    """The two halves of a pair's energy."""
    numbers = torch.tensor([first, second])
    edges = torch.tensor([[0, 1], [1, 0]])
    distances = torch.full((2,), distance, dtype=torch.float64)
    return Repulsion()(numbers, edges, distances, 2)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 8), (6, 14), (14, 14), (26, 8), (79, 92)])
@pytest.mark.parametrize("distance", [0.05, 0.2, 0.5, 1.0])
def test_against_the_published_formula(first, second, distance):
    """To the digits in which the two common printings of the constants agree."""
    reach = covalent_radii[first] + covalent_radii[second]
    expected = universal_potential(first, second, distance) * envelope(distance / reach)
    halves = pair_energies(first, second, distance)
    assert float(halves.sum()) == pytest.approx(expected, rel=1e-3, abs=1e-9)
    assert float(halves[0]) == pytest.approx(float(halves[1]), rel=1e-12)


def test_value_by_hand():
    """Si-Si at 0.5 Å: a = 0.8854 * 0.529177 / (2 * 14^0.23) = 0.12768 Å, x = 3.916, phi = 0.08336.

    14.399645 * 196 / 0.5 * 0.08336 = 470.5 eV, times the envelope at 0.5 / 2.22 of 1 - 0.003655 + 0.001411 - 0.000139.
    """
    assert float(pair_energies(14, 14, 0.5).sum()) == pytest.approx(470.5 * 0.997617, rel=5e-4)


def test_bare_coulomb_at_contact():
    distance = 1e-4
    assert float(pair_energies(14, 8, distance).sum()) == pytest.approx(COULOMB * 14 * 8 / distance, rel=5e-3)


def test_gone_at_the_bond_length():
    reach = float(covalent_radii[14] + covalent_radii[8])
    assert float(pair_energies(14, 8, 0.999 * reach).sum()) < 1e-6
    for distance in (reach, 1.5 * reach):
        assert pair_energies(14, 8, distance).tolist() == [0.0, 0.0]


def test_monotonic_and_twice_differentiable_to_the_end():
    reach = float(covalent_radii[14] + covalent_radii[8])
    r = torch.linspace(0.05, 1.1 * reach, 800, dtype=torch.float64, requires_grad=True)
    numbers = torch.tensor([14, 8]).repeat(800)
    edges = torch.stack([2 * torch.arange(800), 2 * torch.arange(800) + 1])
    energy = Repulsion()(numbers, edges, r, 1600).sum()
    (slope,) = torch.autograd.grad(energy, r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    assert torch.all(slope.detach() <= 0)
    near_end = (r.detach() > 0.995 * reach) & (r.detach() < reach)
    assert near_end.any()
    assert slope[near_end].abs().max() < 1e-2
    assert curvature[near_end].abs().max() < 5.0
    assert not slope[r >= reach].any()


def test_only_local_centres_get_energy():
    numbers = torch.tensor([8, 14, 8])
    edges = torch.tensor([[0, 0], [1, 2]])
    energy = Repulsion()(numbers, edges, torch.tensor([0.7, 0.9], dtype=torch.float64), 1)
    assert energy.shape == (1,)
    expected = 0.5 * (float(pair_energies(8, 14, 0.7).sum()) + float(pair_energies(8, 8, 0.9).sum()))
    assert float(energy[0]) == pytest.approx(expected)


def test_no_edges():
    empty = torch.zeros(2, 0, dtype=torch.int64)
    assert Repulsion()(torch.tensor([8]), empty, torch.zeros(0, dtype=torch.float64), 1).tolist() == [0.0]
