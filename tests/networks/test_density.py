"""The flagship's own mechanics; its physics is in the contract."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk

from forcefield.derivatives import evaluate, hessian_vector_product
from forcefield.graph import Graph, graph_from_atoms
from forcefield.networks import density
from forcefield.networks.density import DensityNetwork
from forcefield.potential import Potential


@pytest.fixture
def potential() -> Potential:
    torch.manual_seed(0)
    network = DensityNetwork([11, 17], channels=6, species_channels=4, message_scalars=4, message_vectors=3, hidden=8)
    energies = {11: -1.0, 17: -2.0}
    return Potential(network, isolated_energies=energies, bound_energies=energies).with_dtype(torch.float64)


@pytest.fixture
def crystal() -> Graph:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.1, seed=0)
    return graph_from_atoms(atoms * (2, 1, 1), 5.0)


@pytest.mark.parametrize("slots", [1, 100, 300])
def test_blocks_of_atoms_give_what_all_at_once_give(
    potential: Potential, crystal: Graph, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    directions = torch.linspace(-1, 1, 3 * crystal.n_atoms, dtype=torch.float64).view(-1, 3)
    whole, curvature = evaluate(potential, crystal), hessian_vector_product(potential, crystal, directions)
    monkeypatch.setattr(density, "LARGEST_BLOCK", slots)
    blocks = evaluate(potential, crystal)
    torch.testing.assert_close(blocks.energies, whole.energies, rtol=0, atol=1e-12)
    torch.testing.assert_close(blocks.forces, whole.forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(blocks.stress, whole.stress, rtol=0, atol=1e-14)
    again = hessian_vector_product(potential, crystal, directions)
    torch.testing.assert_close(again, curvature, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("slots", [1, 100])
def test_blocks_give_the_same_tensors(
    potential: Potential, crystal: Graph, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = potential.network
    whole = network.tensor_features(crystal, crystal.edge_vectors())  # type: ignore[operator]
    monkeypatch.setattr(density, "LARGEST_BLOCK", slots)
    blocks = network.tensor_features(crystal, crystal.edge_vectors())  # type: ignore[operator]
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)


def test_blocks_give_the_same_gradient_of_a_training_loss(
    potential: Potential, crystal: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gradients() -> list[torch.Tensor]:
        potential.zero_grad()
        prediction = evaluate(potential, crystal, training=True)
        (prediction.forces.square().sum() + prediction.energy.sum()).backward()
        return [p.grad.clone() for p in potential.parameters() if p.grad is not None]

    whole = gradients()
    monkeypatch.setattr(density, "LARGEST_BLOCK", 100)
    for one, other in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
