"""MACE's own mechanics: what it sends, body order; what all networks share is tested in the files beside."""

from __future__ import annotations

import math
from typing import Any

import ase
import pytest
import torch
from torch import Tensor

from forcefield.graph import graph_from_atoms
from forcefield.networks.mace import MACE
from forcefield.testing.checks_network import with_ghosts

MACE_FORMS = ["mace", "mace: tensors", "mace: one layer", "mace: scalars sent"]


@pytest.mark.parametrize("mace_form", MACE_FORMS)
def test_messages_are_exchanged_once_between_any_two_layers(
    mace_form: str, small: Any, rattled_crystal: ase.Atoms
) -> None:
    form = small(mace_form)
    network = form.make().double()
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    shapes = []

    def exchange(features: Tensor) -> Tensor:
        shapes.append(tuple(features.shape))
        return features.index_select(0, owners)

    network(ghosted, ghosted.edge_vectors(), exchange)
    width = 5 * (1 + form.hyperparameters.get("hidden_lmax", 1)) ** 2
    assert shapes == [(graph.n_atoms, width)] * (len(network.layers) - 1)


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_features_of_one_layer_are_polynomials_of_the_density_of_that_order(
    correlation: int, small: Any, rattled_crystal: ase.Atoms
) -> None:
    network = small("mace", n_layers=1, correlation=correlation).make().double()
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    values = []
    for scale in range(correlation + 2):
        network.geometry.scale = float(scale)  # the density is proportional to it
        values.append(network.features(graph, graph.edge_vectors())[0].detach())

    def difference(order: int) -> float:
        terms = [(-1) ** (order - k) * math.comb(order, k) * values[k] for k in range(order + 1)]
        return torch.stack(terms).sum(0).abs().max().item()

    largest = max(value.abs().max().item() for value in values)
    assert difference(correlation) > 1e-6 * largest
    assert difference(correlation + 1) < 1e-10 * largest


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden_lmax": 3}, "hidden_lmax"), ({"correlation": 0}, "correlation"), ({"n_layers": 0}, "n_layers")],
)
def test_sizes_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MACE((11, 17), **options)
