"""The training loop: it learns, and it can be stopped at any moment."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from forcefield.data.batches import plan_batches
from forcefield.train import loop
from forcefield.train.checkpoint import load_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.loop import CHECKPOINT, Run, build_potential, train
from forcefield.train.metrics import measure

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the log of an interrupted run


def changed(config: TrainConfig, **entries) -> TrainConfig:
    return TrainConfig(**{**config.model_dump(), **entries})


def assert_same_state(found, expected, path: str = "") -> None:
    """Equal to the last bit, but for the time that has passed."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key in expected.keys() - {"seconds", "output", "train", "validation", "isolated_energies"}:
            assert_same_state(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        for k, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same_state(one, other, f"{path}/{k}")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(torch.nan_to_num(found), torch.nan_to_num(expected)), path
    else:
        assert found == expected, path


class Stop:
    """Interrupts a run in its n-th update."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, updates: int) -> None:
        self.left, original = updates, Run.update

        def update(run: Run, frames):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return original(run, frames)

        monkeypatch.setattr(loop.Run, "update", update)


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_interrupted_run_ends_like_an_uninterrupted_one(config, monkeypatch, tmp_path, optimizer):
    config = changed(config, optimizer=optimizer)
    straight = train(changed(config, output=tmp_path / "straight"))
    assert straight.step == 12 and straight.epoch >= 1, "the run should cross an epoch"
    for updates in (5, 4):  # twice interrupted
        with monkeypatch.context() as patch:
            Stop(patch, updates)
            with pytest.raises(KeyboardInterrupt):
                train(config)
    assert load_checkpoint(config.output / CHECKPOINT)["counters"]["step"] == 9
    resumed = train(config)
    assert resumed.step == 12
    states = [load_checkpoint(folder / CHECKPOINT) for folder in (config.output, tmp_path / "straight")]
    assert_same_state(*states)
    assert resumed.validate() == straight.validate()


def test_finished_run_is_not_continued(config):
    first = train(changed(config, steps=3))
    again = train(changed(config, steps=3))
    assert again.step == 3 and again.atoms_seen == first.atoms_seen
    assert_same_state(again.potential.state_dict(), first.potential.state_dict())


def test_truncated_checkpoint_is_refused(config):
    train(changed(config, steps=2))
    path = config.output / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        train(changed(config, steps=4))


def test_loss_falls(config):
    config = changed(config, steps=120, learning_rate=0.01, checkpoint_minutes=60, log_every=20, warmup_steps=5)
    run = Run(config)
    before = measure(run.potential, run.train, plan_batches(run.train, 10**6, seed=0))["all"]
    run = train(config)
    with run.ema.average_parameters():
        after = measure(run.potential, run.train, plan_batches(run.train, 10**6, seed=0))["all"]
    assert after["energy_mae"] < 0.5 * before["energy_mae"]
    assert after["forces_mae"] < 0.7 * before["forces_mae"]
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if entry["event"] == "train"]
    assert len(losses) == 6 and losses[-1] < 0.5 * losses[0]
    assert log[-1]["event"] == "result" and log[-1]["step"] == 120
    result = json.loads((config.output / "validation.json").read_text())
    assert set(result) == {"all", "odd", "even"}
    assert result["all"]["energy_mae"] == pytest.approx(log[-1]["energy_mae"], abs=1e-6)


def test_start_is_set_by_the_seed_alone(config):
    torch.manual_seed(1)
    one = Run(config).potential.state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    other = Run(config).potential.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_state(other, one)
    third = Run(changed(config, seed=1)).potential.state_dict()
    assert any(not torch.equal(third[name], one[name]) for name in one if not torch.isnan(one[name]).any())


def test_reference_energies_come_from_the_labels(config):
    run = Run(config)
    potential = build_potential(config, run.train)
    assert potential.elements == (13, 29)
    assert float(potential.isolated[29]) == 3.5
    energies, numbers = run.train.arrays["atomic_energies"], run.train.arrays["numbers"]
    assert float(potential.bound[29]) == pytest.approx(energies[numbers == 29].mean() - 3.5, abs=1e-5)
    bound = {z: energies[numbers == z].mean() for z in (13, 29)}
    rest = energies - np.array([bound[int(z)] for z in numbers])
    assert float(potential.scale) == pytest.approx(np.sqrt((rest**2).mean()), rel=1e-5)


def test_learning_rate_warms_up_stays_and_falls(config):
    run = Run(changed(config, steps=100, warmup_steps=10, decay=0.5, learning_rate=0.1))
    rates = []
    for step in range(101):
        run.step = step
        rates.append(run.learning_rate())
    np.testing.assert_allclose(rates[:10], 0.01 * np.arange(1, 11))
    np.testing.assert_allclose(rates[10:51], 0.1)
    assert rates[75] == pytest.approx(0.05) and rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(math.isclose(a, b) or a > b for a, b in zip(rates[50:-1], rates[51:], strict=True))


def test_length_in_minutes_counts_working_time(config):
    run = Run(TrainConfig(**{**config.model_dump(), "steps": None, "minutes": 2.0}))
    run.seconds = 30.0
    assert run.progress == 0.25
    run.seconds = 1e6
    assert run.progress == 1.0


def test_batches_cover_each_epoch_once(config):
    run = Run(config)
    batches, seen = run.batches(), []
    while run.epoch == 0:
        batch = next(batches)
        if run.epoch == 0:
            seen += batch.tolist()
    assert sorted(seen) == list(range(24))


def test_step_that_is_not_finite_changes_nothing(config, monkeypatch):
    run = Run(config)
    before = {name: value.clone() for name, value in run.potential.state_dict().items()}
    original = loop.total_loss
    monkeypatch.setattr(loop, "total_loss", lambda *arguments: original(*arguments) * float("nan"))
    run.update(next(run.batches()))
    assert_same_state(run.potential.state_dict(), before)
    assert run.step == 1


def test_gradient_of_the_loss_is_that_of_finite_differences(config):
    """Through energies, forces and stress at once, along a random direction of the weights."""
    run = Run(config)
    frames = next(run.batches())
    graph, labels = loop.load_batch(run.train, frames)
    graph = graph.within(run.potential.cutoff)

    def loss() -> torch.Tensor:
        error = loop.differences(graph, loop.evaluate(run.potential, graph, training=True), labels)
        return loop.total_loss(error, config.weights, config.thresholds)

    gradients = torch.autograd.grad(loss(), run.parameters, materialize_grads=True)
    directions = [torch.randn_like(p) for p in run.parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(run.parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
        values.append(float(loss().detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)
