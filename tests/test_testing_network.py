"""The networks' contract: a sound one passes, and every kind of defect is caught by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forcefield.nn.scatter import scatter_sum
from forcefield.testing import NETWORK_CHECKS, check_network

CUTOFF = 4.0


class SmallNetwork(nn.Module):
    """A sound message-passing network of two layers with scalar features."""

    def __init__(self, elements=(11, 17)):
        super().__init__()
        self.cutoff, self.elements = CUTOFF, tuple(elements)
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Parameter(torch.randn(119, 4, generator=generator))
        self.mix = nn.Parameter(torch.randn(4, 4, generator=generator) / 2)

    def weights(self, graph, vectors):
        return (1 - vectors.to(self.mix.dtype).norm(dim=1) / self.cutoff).clamp_min(0)[:, None] ** 4

    def forward(self, graph, vectors, exchange=None):
        i, j = graph.edge_index
        weight = self.weights(graph, vectors)
        features = self.embedding[graph.numbers]
        hidden = torch.tanh(scatter_sum(weight * features[j], i, graph.n_local) @ self.mix)
        received = hidden if exchange is None else exchange(hidden)
        return (scatter_sum(weight * received[j], i, graph.n_local) * hidden).sum(dim=1)


class WholeGraphStatistic(SmallNetwork):
    """Normalises with the mean number of neighbours of the batch."""

    def forward(self, graph, vectors, exchange=None):
        mean = graph.n_edges / max(graph.n_local, 1)
        return super().forward(graph, vectors, exchange) / (1 + mean)


class ForgetsExchange(SmallNetwork):
    def forward(self, graph, vectors, exchange=None):
        return super().forward(graph, vectors, None if exchange is None else (lambda h: h[graph.edge_index[1] * 0]))


class ReadsPositions(SmallNetwork):
    """Geometry that does not come through the vectors has no derivative."""

    def forward(self, graph, vectors, exchange=None):
        return super().forward(graph, vectors, exchange) + graph.edge_vectors().norm(dim=1).sum() * 0.001


class Detaches(SmallNetwork):
    """Forces lose the part that goes through the messages."""

    def forward(self, graph, vectors, exchange=None):
        return super().forward(graph, vectors, (lambda h: h.detach()) if exchange is None else exchange)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.detach() * 1.0


class FailsOnEmpty(SmallNetwork):
    """Lets PyTorch guess a size, which it cannot where there are no atoms."""

    def weights(self, graph, vectors):
        return super().weights(graph, vectors).view(graph.n_edges, -1)


class Deaf(SmallNetwork):
    def weights(self, graph, vectors):
        return super().weights(graph, vectors) * 0


NETWORK_DEFECTS = [
    (WholeGraphStatistic, {"batch equals singles", "far fragments"}),
    (ForgetsExchange, {"ghosts", "domain"}),
    (ReadsPositions, {"forces: triclinic"}),
    (Detaches, {"forces: triclinic", "stress: triclinic"}),
    (FailsOnEmpty, {"empty graphs"}),
    (Deaf, {"responds to geometry"}),
]


def failed_network(network, only):
    return {r.name for r in check_network(network, only=only) if not r.passed}


def test_a_sound_network_passes_everything():
    results = check_network(SmallNetwork)
    assert [r.message for r in results if not r.passed] == []
    assert len(results) == len(NETWORK_CHECKS)
    assert [r.name for r in results if r.skipped] == ["save and load"]


@pytest.mark.parametrize(("defective", "caught"), NETWORK_DEFECTS, ids=[kind.__name__ for kind, _ in NETWORK_DEFECTS])
def test_network_defect_is_caught(defective, caught):
    assert failed_network(defective, sorted(caught)) == caught


def test_wrong_training_gradient_is_caught():
    class HalfGradient(SmallNetwork):
        def weights(self, graph, vectors):
            weight = super().weights(graph, vectors)
            return 0.5 * weight + 0.5 * _Once.apply(weight)

        def forward(self, graph, vectors, exchange=None):
            self.embedding.register_hook(lambda gradient: 0.5 * gradient)
            return super().forward(graph, vectors, exchange)

    assert failed_network(HalfGradient, ["training gradient"]) == {"training gradient"}


def test_network_that_sets_a_global_at_construction_is_caught():
    class SetsThreads(SmallNetwork):
        def __init__(self):
            super().__init__()
            torch.set_num_threads(torch.get_num_threads() + 1)

    threads = torch.get_num_threads()
    try:
        (result,) = check_network(SetsThreads, only=["construction"])
    finally:
        torch.set_num_threads(threads)
    assert not result.passed and result.message == "changed: torch threads"


def test_the_given_network_is_not_touched():
    network = SmallNetwork()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    results = check_network(network, only=["construction", "rotation", "training gradient"])
    assert all(r.passed for r in results) and results[0].skipped
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert next(network.parameters()).dtype == torch.float32
