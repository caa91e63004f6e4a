"""Sums over angles against triplets one by one; lengths that are smooth at zero."""

from __future__ import annotations

import numpy as np
import torch
from ase.build import molecule
from numpy.polynomial.legendre import Legendre

from forcefield.graph import graph_from_atoms
from forcefield.nn.equivariant import SphericalHarmonics
from forcefield.nn.invariants import angular_sum, smooth_norm
from forcefield.nn.neighbourhood import neighbourhood


def test_angular_sum_is_the_sum_over_triplets() -> None:
    graph = graph_from_atoms(molecule("CH3OH"), 3.0)
    edges = neighbourhood(graph, graph.edge_vectors())
    harmonics = SphericalHarmonics(3).double()(edges.direction)
    weights = [torch.randn(graph.n_edges, 2, dtype=torch.float64) for _ in range(4)]
    found = angular_sum(edges, harmonics, weights)
    direction = edges.direction.numpy()
    for degree, weight in enumerate(weights):
        expected = np.zeros((graph.n_edges, 2))
        for a in range(graph.n_edges):
            for b in range(graph.n_edges):
                if a != b and edges.i[a] == edges.i[b]:
                    expected[a] += Legendre.basis(degree)(direction[a] @ direction[b]) * weight[b].numpy()
        np.testing.assert_allclose(found[degree].numpy(), expected, atol=1e-12)


def test_smooth_norm_is_a_length_far_from_zero_and_smooth_at_zero() -> None:
    far = torch.tensor([[300.0, 400.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(smooth_norm(far, 1), torch.tensor([499.9], dtype=torch.float64), rtol=0, atol=1e-4)
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    length = smooth_norm(zero, 1)
    assert length.item() == 0.0
    (slope,) = torch.autograd.grad(length.sum(), zero)
    assert torch.equal(slope, torch.zeros(1, 3, dtype=torch.float64))
