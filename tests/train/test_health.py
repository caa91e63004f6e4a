"""Idle units are found, and only they; the rate of wide matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forcefield.nn.mlp import Linear
from forcefield.train.health import idle_units, warning_of
from forcefield.train.optimizer import Optimizers, rate_factor


class Pair(nn.Module):
    """Two layers with a bias between them."""

    def __init__(self, n_in: int = 16) -> None:
        super().__init__()
        self.first, self.second = Linear(n_in, 32), Linear(32, 4)
        self.bias = nn.Parameter(torch.zeros(32))

    def forward(self, x):
        return self.second(nn.functional.silu(self.first(x) + self.bias))


def gradients(network):
    network(torch.randn(50, network.first.weight.shape[0])).square().sum().backward()
    return idle_units((name, p.grad) for name, p in network.named_parameters())


def test_fresh_network_has_no_idle_units():
    torch.manual_seed(0)
    shares = gradients(Pair())
    assert shares == {"first.weight": 0.0, "second.weight": 0.0} and not warning_of(shares)


def test_units_on_the_flat_side_are_idle_and_named():
    torch.manual_seed(0)
    network = Pair()
    with torch.no_grad():
        network.bias[:24] = -80.0
    shares = gradients(network)
    assert shares == {"first.weight": 0.75, "second.weight": 0.0}
    assert "first.weight 75 %" in warning_of(shares) and "second" not in warning_of(shares)


def test_network_without_gradients_has_nothing_to_tell():
    assert idle_units((name, p.grad) for name, p in Pair().named_parameters()) == {}


@pytest.mark.parametrize("name", ["muon", "adam"])
def test_one_batch_that_passes_units_by_makes_them_not_idle_but_many_do(name):
    """As a perfect crystal does, in which no gradient reaches what tells directions."""
    torch.manual_seed(0)
    network = Pair()
    optimizer = Optimizers(network, name, 1e-3)

    def shares():
        return idle_units((key, optimizer.mean_gradient(p)) for key, p in network.named_parameters())

    def step(inputs):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step()

    assert shares() == {}
    step(torch.randn(50, 16))
    step(torch.zeros(50, 16))  # gives the first matrix no gradient
    assert float(network.first.weight.grad.abs().max()) == 0.0
    assert set(shares().values()) == {0.0}
    for _ in range(500):
        network.bias.data[:24] = -80.0
        step(torch.randn(50, 16))
    assert shares()["first.weight"] == 0.75


def test_wide_matrices_learn_at_a_lower_rate():
    network = Pair(n_in=256)
    assert rate_factor("first.weight", network.first.weight) == pytest.approx(0.25)
    assert rate_factor("second.weight", network.second.weight) == rate_factor("bias", network.bias) == 1.0
    assert rate_factor("element_bias.weight", network.first.weight) == 1.0
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = Optimizers(network, "adam", 1e-2, scale_by_inputs=True)
    optimizer.set_learning_rate(1e-3)
    network(torch.randn(50, 256)).square().sum().backward()
    optimizer.step()  # the first step of Adam has the size of the rate
    moved = {name: float((p.detach() - before[name]).abs().median()) for name, p in network.named_parameters()}
    assert moved["first.weight"] == pytest.approx(2.5e-4, rel=1e-3)
    assert moved["second.weight"] == pytest.approx(1e-3, rel=1e-3)
