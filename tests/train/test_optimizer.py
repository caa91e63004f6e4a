"""Muon against the singular value decomposition, and optimisers that step together."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from forcefield.networks import build_network
from forcefield.train.optimizer import QUINTIC, Muon, Optimizers, is_hidden_matrix, orthogonalised


def newton_schulz(x: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The iteration as Jordan et al. write it, for matrices with fewer rows than columns."""
    a, b, c = QUINTIC
    x = x / x.norm()
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-4)])
@pytest.mark.parametrize("shape", [(16, 16), (16, 31), (16, 32), (64, 448)])
def test_orthogonalised_is_the_plain_iteration_for_ill_conditioned_matrices_too(shape, dtype, tolerance):
    u, s, vh = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    matrix = u @ torch.diag(torch.logspace(0, -4, len(s), dtype=torch.float64)) @ vh
    expected = newton_schulz(matrix)
    for one, other in ((matrix, expected), (matrix.T, expected.T)):
        found = orthogonalised(one.to(dtype)[None])[0].double()
        torch.testing.assert_close(found, other, atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8)])
def test_orthogonalised_keeps_singular_vectors_and_levels_singular_values(shape):
    matrices = torch.randn(shape, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    matrices = u @ torch.diag_embed(torch.linspace(0.1, 1.0, s.shape[1], dtype=torch.float64).expand_as(s)) @ vh
    rotated = u.transpose(1, 2) @ orthogonalised(matrices) @ vh.transpose(1, 2)
    values = torch.diagonal(rotated, dim1=1, dim2=2)
    assert torch.allclose(rotated, torch.diag_embed(values), atol=1e-9), "singular vectors must stay"
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    nearest = u @ vh
    assert float((orthogonalised(matrices) - nearest).norm() / nearest.norm()) < 0.35


def test_orthogonalised_does_not_depend_on_the_scale():
    matrices = torch.randn(2, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(orthogonalised(1e4 * matrices), orthogonalised(matrices), rtol=1e-8, atol=1e-10)
    assert torch.equal(orthogonalised(torch.zeros(1, 8, 8)), torch.zeros(1, 8, 8))


def test_first_muon_step_is_the_orthogonalised_gradient():
    start, gradient = torch.randn(16, 40, dtype=torch.float64), torch.randn(16, 40, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    weight.grad = gradient.clone()
    Muon([weight], lr=0.01).step()
    expected = -0.01 * 0.2 * 40**0.5 * orthogonalised(gradient[None])[0]
    torch.testing.assert_close(weight.detach() - start, expected)
    assert float((weight.detach() - start).square().mean().sqrt()) == pytest.approx(0.01 * 0.2, rel=0.3)


def test_muon_has_nesterov_momentum_and_decoupled_decay():
    weight = nn.Parameter(torch.randn(8, 8, dtype=torch.float64))
    optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5)
    momentum = torch.zeros(8, 8, dtype=torch.float64)
    for _ in range(3):
        before, gradient = weight.detach().clone(), torch.randn(8, 8, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + 0.1 * gradient
        update = orthogonalised((0.1 * gradient + 0.9 * momentum)[None])[0]
        expected = before * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 8**0.5 * update
        torch.testing.assert_close(weight.detach(), expected)


def test_muon_leaves_parameters_without_gradient():
    weight = nn.Parameter(torch.ones(8, 8))
    Muon([weight]).step()
    assert torch.equal(weight.detach(), torch.ones(8, 8))


def small_network() -> nn.Module:
    return build_network("density", [1, 8], channels=8, n_radial=3, lmax=1, species_channels=4, hidden=8)


def test_every_parameter_belongs_to_exactly_one_optimiser():
    network = small_network()
    for name, n_parts in (("adam", 1), ("muon", 2)):
        parts = Optimizers(network, name, 1e-3).parts
        assert len(parts) == n_parts
        owned = [id(p) for part in parts for group in part.param_groups for p in group["params"]]
        assert sorted(owned) == sorted(id(p) for p in network.parameters())


def test_muon_gets_hidden_matrices_only():
    chosen = {name for name, p in small_network().named_parameters() if is_hidden_matrix(name, p)}
    assert any("hidden" in name for name in chosen) and any("densities" in name for name in chosen)
    assert not [name for name in chosen if "element" in name or "sender" in name or "energy" in name or "bias" in name]


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_state_can_be_taken_up_again(name):
    def steps(network: nn.Module, optimizer: Optimizers, seeds: range) -> None:
        optimizer.set_learning_rate(0.02)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            optimizer.zero_grad()
            for parameter in network.parameters():
                assert parameter.grad is None
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()

    straight = small_network()
    resumed = copy.deepcopy(straight)
    steps(straight, Optimizers(straight, name, 1e-3), range(6))
    first = Optimizers(resumed, name, 1e-3)
    steps(resumed, first, range(3))
    second = Optimizers(resumed, name, 1e-3)
    second.load_state_dict(first.state_dict())
    steps(resumed, second, range(3, 6))
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
