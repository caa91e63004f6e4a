"""Atomic numbers to rows and dense layers."""

from __future__ import annotations

import pytest
import torch

from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.species import SpeciesIndex


def test_rows_follow_the_order_given():
    index = SpeciesIndex([8, 1, 118, 26])
    assert index(torch.tensor([26, 8, 8, 118, 1])).tolist() == [3, 0, 0, 2, 1]
    assert index.elements == (8, 1, 118, 26)
    assert index(torch.zeros(0, dtype=torch.int64)).shape == (0,)


@pytest.mark.parametrize("elements", [[1, 8, 1], [0], [119], [-1, 3]])
def test_impossible_elements_are_refused(elements):
    with pytest.raises(ValueError, match="distinct atomic numbers"):
        SpeciesIndex(elements)


def test_linear_mixes_the_last_axis_only():
    layer = Linear(4, 3)
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(layer(x), torch.einsum("abi,io->abo", x, layer.weight))
    assert layer(torch.zeros(0, 5, 4)).shape == (0, 5, 3)


def test_linear_keeps_the_variance_at_the_start():
    layer = Linear(512, 64)
    assert float(layer(torch.randn(2000, 512)).detach().var()) == pytest.approx(1.0, rel=0.1)


def test_embedding_gives_each_element_its_row():
    embedding = SpeciesEmbedding(3, 4, scale=0.5)
    assert torch.equal(embedding(torch.tensor([2, 0])), embedding.weight[[2, 0]])
    assert float(SpeciesEmbedding(200, 200, scale=0.1).weight.detach().std()) == pytest.approx(0.1, rel=0.05)
