"""Sums and the padded table against loops, and their derivatives of first and second order."""

from __future__ import annotations

import pytest
import torch

from forcefield.nn.scatter import neighbour_table, scatter_sum


def random_edges(n_centres, n_atoms, n_edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randint(n_centres, (n_edges,), generator=generator).sort().values
    return torch.stack([centre, torch.randint(n_atoms, (n_edges,), generator=generator)])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_scatter_sum_against_a_loop(shape):
    values = torch.randn(20, *shape, dtype=torch.float64)
    index = torch.randint(6, (20,))
    index[index == 4] = 3  # one target that no row points to
    expected = torch.zeros(6, *shape, dtype=torch.float64)
    for row, target in zip(values, index, strict=True):
        expected[target] += row
    found = scatter_sum(values, index, 6)
    torch.testing.assert_close(found, expected)
    assert not found[4].any()


def test_scatter_sum_of_nothing():
    empty = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(scatter_sum(torch.zeros(0, 3), empty, 4), torch.zeros(4, 3))
    assert scatter_sum(torch.zeros(0), empty, 0).shape == (0,)


@pytest.mark.parametrize(("n_centres", "n_atoms", "n_edges"), [(5, 5, 23), (3, 9, 12), (4, 4, 1), (1, 1, 6)])
def test_table_against_a_loop(n_centres, n_atoms, n_edges):
    edges = random_edges(n_centres, n_atoms, n_edges)
    table = neighbour_table(edges, n_centres)
    values, features = torch.randn(n_edges, 3), torch.randn(n_atoms, 2)
    fill = torch.tensor([7.0, 8.0, 9.0])
    padded, gathered = table.pad(values, fill), table.gather(features)
    counts = [int((edges[0] == i).sum()) for i in range(n_centres)]
    assert (table.n_centres, table.n_slots) == (n_centres, max(counts))
    assert padded.shape == (n_centres, max(counts), 3)
    for i in range(n_centres):
        mine = torch.nonzero(edges[0] == i)[:, 0]
        for slot, edge in enumerate(mine):
            assert torch.equal(padded[i, slot], values[edge])
            assert torch.equal(gathered[i, slot], features[edges[1, edge]])
        assert torch.equal(padded[i, len(mine) :], fill.expand(max(counts) - len(mine), 3))


@pytest.mark.parametrize(("n_centres", "n_atoms"), [(0, 0), (4, 4), (0, 3)])
def test_table_without_edges(n_centres, n_atoms):
    table = neighbour_table(torch.zeros(2, 0, dtype=torch.int64), n_centres)
    assert table.pad(torch.zeros(0, 3), torch.zeros(3)).shape == (n_centres, 0, 3)
    assert table.gather(torch.zeros(n_atoms, 5)).shape == (n_centres, 0, 5)


def test_pad_has_exact_derivatives_of_first_and_second_order():
    edges = random_edges(4, 4, 9)
    table = neighbour_table(edges, 4)
    fill = torch.tensor([2.0, 3.0], dtype=torch.float64)
    weights = torch.randn(4, table.n_slots, 2, dtype=torch.float64)
    values = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)

    def energy(x):
        return (weights * torch.sin(table.pad(x, fill)).cumsum(1)).sum() * x.square().sum()

    assert torch.autograd.gradcheck(energy, (values,))
    assert torch.autograd.gradgradcheck(energy, (values,))


def test_gradient_of_pad_ignores_empty_slots():
    edges = torch.tensor([[0, 0, 0, 2], [1, 2, 0, 1]])
    table = neighbour_table(edges, 3)
    values = torch.randn(4, 1, requires_grad=True)
    table.pad(values, torch.zeros(1)).sum().backward()
    assert torch.equal(values.grad, torch.ones(4, 1))
