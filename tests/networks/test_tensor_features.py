"""Tensors that atoms carry turn as e3nn's representations say, in a mirror too, and belong to the energies."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
import pytest
import torch
from e3nn import o3

from forcefield.graph import graph_from_atoms
from forcefield.networks import NETWORKS
from forcefield.testing.checks_network import with_ghosts

EQUIVARIANT = sorted(name for name, kind in NETWORKS.items() if hasattr(kind, "tensor_features"))
OTHERS = ["mace: tensors", "nequip: Nequix", "density: one layer", "allegro: three layers", "allegro: one layer"]


def test_these_networks_have_tensors() -> None:
    assert EQUIVARIANT == ["allegro", "density", "mace", "nequip", "painn", "tensornet", "transformer"]


@pytest.mark.parametrize("equivariant", [*EQUIVARIANT, *OTHERS])
def test_tensors_turn_with_the_structure(equivariant: str, small: Any, rattled_crystal: ase.Atoms) -> None:
    network = small(equivariant).make().double()
    assert network.tensor_channels
    matrix = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0])
    matrix = -torch.linalg.det(matrix) * matrix  # improper
    turned = rattled_crystal.copy()
    turned.set_cell(rattled_crystal.cell.array @ matrix.numpy().T)
    turned.positions = rattled_crystal.positions @ matrix.numpy().T
    graphs = [graph_from_atoms(atoms, network.cutoff) for atoms in (rattled_crystal, turned)]
    (scalars, energies, before), (_, _, after) = (network.tensor_features(g, g.edge_vectors()) for g in graphs)
    torch.testing.assert_close(network.features(graphs[0], graphs[0].edge_vectors()), (scalars, energies))
    for l, (x, y) in enumerate(zip(before, after, strict=True), start=1):
        assert x.shape == (8, 2 * l + 1, network.tensor_channels[l - 1])
        assert x.abs().max() > 1e-4
        wigner = o3.Irrep(l, (-1) ** l).D_from_matrix(matrix)
        torch.testing.assert_close(torch.einsum("mn,anc->amc", wigner, x), y, rtol=0, atol=1e-6)  # the angles' digits


@pytest.mark.parametrize("equivariant", EQUIVARIANT)
def test_tensors_are_the_same_with_ghosts(equivariant: str, small: Any, rattled_crystal: ase.Atoms) -> None:
    network = small(equivariant).make().double()
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    found = network.tensor_features(ghosted, ghosted.edge_vectors(), lambda x: x.index_select(0, owners))
    expected = network.tensor_features(graph, graph.edge_vectors())
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("flat", ["nequip: one layer", "mace: one layer", "transformer: one layer"])
def test_a_single_layer_leaves_no_tensors(flat: str, small: Any, rattled_crystal: ase.Atoms) -> None:
    network = small(flat).make().double()
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    assert network.tensor_channels == ()
    assert network.tensor_features(graph, graph.edge_vectors())[2] == []


def test_features_without_parity_are_no_tensors(small: Any) -> None:
    """Degree alone does not say how they behave under reflections."""
    assert small("nequip", parity=False).make().tensor_channels == ()
