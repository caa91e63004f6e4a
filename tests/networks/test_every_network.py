"""What every network must do beyond the physics contract: descriptors, ghosts, exchange, loading, learning."""

from __future__ import annotations

import sys
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor, nn

from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.networks import NETWORKS
from forcefield.testing.checks_network import potential_around, with_ghosts

LOCAL = {"allegro"}
"""Networks that exchange nothing."""


def test_descriptors_are_invariant_and_belong_to_the_energies(
    form: str, network: Any, rattled_crystal: ase.Atoms
) -> None:
    turned = rattled_crystal.copy()
    turned.rotate(40.0, (1, 2, 3), rotate_cell=True)
    turned.positions *= -1
    turned.cell *= -1
    results = []
    for structure in (rattled_crystal, turned):
        graph = graph_from_atoms(structure, network.cutoff)
        results.append(network.features(graph, graph.edge_vectors()))
        torch.testing.assert_close(network(graph, graph.edge_vectors()), results[-1][1])
    assert results[0][0].dim() == 2
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-11)


def test_ghosts_are_filled_through_the_exchange(form: str, network: Any, rattled_crystal: ase.Atoms) -> None:
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    assert ghosted.n_atoms > 2 * graph.n_atoms
    calls = []

    def exchange(features: Tensor) -> Tensor:
        calls.append(features.shape)
        return features.index_select(0, owners)

    found = network.features(ghosted, ghosted.edge_vectors(), exchange)
    torch.testing.assert_close(found, network.features(graph, graph.edge_vectors()), rtol=1e-10, atol=1e-12)
    assert all(len(shape) == 2 and shape[0] == graph.n_atoms for shape in calls)
    if "one layer" not in form:
        assert bool(calls) != (form.partition(":")[0] in LOCAL)


def test_exchange_is_called_as_often_without_edges_and_without_atoms(
    form: str, network: Any, rattled_crystal: ase.Atoms
) -> None:
    counts = []
    for atoms in (rattled_crystal, ase.Atoms("Na", cell=[9, 9, 9], pbc=True), ase.Atoms()):
        calls: list[Tensor] = []
        graph = graph_from_atoms(atoms, network.cutoff)
        energies = network(graph, graph.edge_vectors(), lambda h, calls=calls: calls.append(h) or h)
        assert energies.shape == (len(atoms),)
        assert torch.isfinite(energies).all()
        counts.append(len(calls))
    assert len(set(counts)) == 1


def test_loads_without_e3nn_and_gives_the_same_energies(
    form: str, network: nn.Module, rattled_crystal: ase.Atoms, meta_loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_from_atoms(rattled_crystal, 4.0)
    expected = network(graph, graph.edge_vectors())
    monkeypatch.setitem(sys.modules, "e3nn", None)  # any import of it fails from here on
    assert torch.equal(meta_loaded(form, network)(graph, graph.edge_vectors()), expected)


def test_untrained_forces_are_moderate(name: str, rattled_crystal: ase.Atoms) -> None:
    potential = potential_around(NETWORKS[name]((11, 17))).with_dtype(torch.float64)
    graph = graph_from_atoms(rattled_crystal, potential.cutoff)
    vectors = graph.edge_vectors().requires_grad_()
    (pull,) = torch.autograd.grad(potential.network(graph, vectors).sum(), vectors)
    assert pull.abs().max().item() > 1e-4
    assert evaluate(potential, graph).forces.abs().max().item() < 10.0


def test_a_few_steps_of_training_on_forces_lower_the_loss(name: str, small: Any) -> None:
    network = small(name).make().float()
    potential = potential_around(network)
    graph = graph_from_atoms(molecule("CH3OH"), network.cutoff)
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))
    target -= target.mean(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = (evaluate(potential, graph, training=True).forces - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.75 * losses[0]


@pytest.mark.parametrize("option", ["channels", "n_layers"])
def test_sizes_below_one_are_refused(name: str, option: str) -> None:
    if name == "density":
        pytest.skip("does not check its sizes")
    value = (8, 0) if (name, option) == ("nequip", "channels") else 0
    with pytest.raises(ValueError, match=option):
        NETWORKS[name]((11, 17), **{option: value})
