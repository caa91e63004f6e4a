"""The course of learning rate, loss weights and average, against what they should be at chosen steps."""

from __future__ import annotations

import pytest
import torch
from torch_ema import ExponentialMovingAverage

from forcefield.train.config import TrainConfig
from forcefield.train.schedule import learning_rate, loss_terms

PATHS = {"train": "a", "validation": "b", "output": "c"}


def rates(progress: list[float], **entries) -> list[float]:
    config = TrainConfig(**PATHS, steps=1000, learning_rate=0.1, warmup_steps=10, **entries)
    return [learning_rate(config, 1000 + round(1000 * share), share) for share in progress]


def test_schedules():
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rates(shares, schedule="constant") == pytest.approx([0.1] * 5)
    cosine = [0.1, 0.0853553, 0.05, 0.0146447, 0.0]
    assert rates(shares, schedule="cosine") == pytest.approx(cosine, abs=1e-7)
    assert rates(shares, schedule="warmup-stable-decay", decay=0.5) == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.0])
    assert rates(shares, schedule="cosine", final_rate=0.5) == pytest.approx([0.05 + r / 2 for r in cosine], abs=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup-stable-decay"])
def test_warm_up_is_linear(schedule):
    config = TrainConfig(**PATHS, steps=10**6, learning_rate=0.1, warmup_steps=10, schedule=schedule)
    found = [learning_rate(config, step, step / 10**6) for step in range(12)]
    assert found == pytest.approx([0.01 * min(step + 1, 10) for step in range(12)], rel=1e-6)


def test_weights_change_in_phases():
    phases = [{"until": 0.5, "energy": 1}, {"until": 0.75, "energy": 2}, {"energy": 3, "forces": 0}]
    losses, thresholds = {"forces": "mse"}, {"stress": 0.3}
    config = TrainConfig(**PATHS, steps=10, weights=phases, losses=losses, thresholds=thresholds)
    energies = [loss_terms(config, share)["energy"].weight for share in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert energies == [1, 1, 2, 2, 3, 3]
    terms = loss_terms(config, 1.0)
    assert terms["forces"].weight == 0 and terms["forces"].kind == "mse" and terms["energy"].kind == "huber"
    assert terms["stress"].threshold == 0.3 and "hessian" not in terms
    hessian = TrainConfig(**PATHS, steps=10, hessian={"file": "h", "weight": 4.0})
    assert loss_terms(hessian, 0.3)["hessian"].weight == 4.0


def test_average_forgets_the_start_quickly():
    """The decay of torch-ema is (1 + n) / (10 + n) until it reaches the one asked for."""
    weight = torch.nn.Parameter(torch.zeros(1))
    average, expected = ExponentialMovingAverage([weight], decay=0.9), 0.0
    for n in range(1, 200):
        with torch.no_grad():
            weight.fill_(float(n))
        average.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(average.shadow_params[0]) == pytest.approx(expected, rel=1e-5)
