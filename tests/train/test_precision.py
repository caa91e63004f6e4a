"""Fewer digits in the network, and nothing global changed."""

from __future__ import annotations

import pytest
import torch

from forcefield.data.batches import load_batch
from forcefield.derivatives import evaluate
from forcefield.networks import NETWORKS
from forcefield.train.config import TrainConfig
from forcefield.train.loop import Run, train
from forcefield.train.precision import in_precision, matrix_products


@pytest.mark.parametrize("network", ["density", "nequip", "mace"])
def test_bf16_is_near_float32_and_differentiable(config, network):
    assert network in NETWORKS
    small = {"density": config.hyperparameters, "nequip": {"channels": [8, 4]}, "mace": {"channels": 8}}
    hyperparameters = {**small[network], "cutoff": 4.0}
    entries = {"network": network, "hyperparameters": hyperparameters, "dtype": "bf16"}
    run = Run(TrainConfig(**{**config.model_dump(), **entries}))
    assert run.potential.dtype == torch.float32
    graph, _ = load_batch(run.train, next(run.batches()))
    graph = graph.within(4.0)
    exact = evaluate(run.potential, graph)
    rough = evaluate(in_precision(run.potential, "bf16"), graph, training=True)
    assert rough.energy.dtype == torch.float64
    size = exact.forces.abs().mean()
    error = (rough.forces.detach() - exact.forces).abs().mean()
    assert 1e-6 * size < error < 0.05 * size
    (rough.forces**2).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in run.parameters if p.grad is not None)


@pytest.mark.parametrize("dtype", ["bf16", "tf32"])
def test_training_learns(config, dtype):
    entries = {"dtype": dtype, "steps": 40, "learning_rate": 0.01, "log_every": 10, "checkpoint_minutes": 60}
    config = TrainConfig(**{**config.model_dump(), **entries})
    before = Run(config).validate()["all"]["energy_mae"]
    assert train(config).result["all"]["energy_mae"] < 0.9 * before


def test_tf32_lasts_as_long_as_the_context():
    before = torch.get_float32_matmul_precision()
    with matrix_products("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), matrix_products("tf32"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
    with matrix_products("float32"):
        assert torch.get_float32_matmul_precision() == before
