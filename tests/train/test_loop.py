"""The training loop: it learns, and it can be stopped at any moment."""

from __future__ import annotations

import csv
import errno
import json
import math
import sys

import numpy as np
import pytest
import torch

from forcefield.data.batches import plan_batches
from forcefield.train import checkpoint, loop
from forcefield.train.checkpoint import CHECKPOINT, PREVIOUS, load_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.logs import Silent
from forcefield.train.loop import Run, build_potential, train
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


class Notes(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_truncated_checkpoint_gives_way_to_the_one_before(config):
    train(changed(config, steps=6))
    path, previous = config.output / CHECKPOINT, config.output / PREVIOUS
    path.write_bytes(path.read_bytes()[:-100])
    steps_before = load_checkpoint(previous)["counters"]["step"]
    notes = Notes()
    run = Run(config, watcher=notes)
    assert 0 < run.step == steps_before
    assert len(notes.texts) == 1 and "cannot be read as a checkpoint" in notes.texts[0] and PREVIOUS in notes.texts[0]
    path.unlink()  # killed between the two moves
    assert Run(config).step == steps_before


def test_no_whole_checkpoint_is_an_error(config):
    train(changed(config, steps=2))
    for name in (CHECKPOINT, PREVIOUS):
        path = config.output / name
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
        return loop.total_loss(error, loop.loss_terms(config, 0.0))

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


def test_steps_that_are_not_finite_are_counted_and_end_the_run(config, monkeypatch):
    config = changed(config, steps=200, most_skipped=7, log_every=1, checkpoint_minutes=60)
    original = loop.total_loss

    def broken(errors, terms, counts):
        return original(errors, terms, counts) * (float("nan") if len(calls) >= 3 else 1.0)

    calls: list[None] = []
    monkeypatch.setattr(loop, "total_loss", lambda *arguments: (calls.append(None), broken(*arguments))[1])
    with pytest.raises(ValueError, match="not finite in 7 steps in a row, up to step 9"):
        train(config)
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert [entry["skipped"] for entry in log] == [0, 0, 1, 2, 3, 4, 5, 6]
    assert "loss" in log[0] and "loss" not in log[-1]


@pytest.mark.parametrize("broken", ["fsync", "write"])
def test_full_disk_keeps_the_checkpoint_of_before(config, monkeypatch, broken):
    train(changed(config, steps=3))
    path = config.output / CHECKPOINT
    content = path.read_bytes()
    no_space = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: object) -> None:
        raise no_space

    with monkeypatch.context() as patch:
        if broken == "fsync":
            patch.setattr(checkpoint.os, "fsync", refuse)
        else:
            patch.setattr(checkpoint.torch, "save", refuse)
        with pytest.raises(ValueError, match="No space left on device.*of before is unharmed. Make room"):
            train(changed(config, steps=6))
    assert path.read_bytes() == content
    assert {file.name for file in config.output.glob("*.p*")} == {CHECKPOINT, PREVIOUS}
    assert train(changed(config, steps=6)).step == 6


def test_run_stops_early_and_goes_back_to_the_best_weights(config, monkeypatch):
    """Scores get worse from the fourth validation on; interrupted once on the way."""
    config = changed(config, steps=100, patience=3, validation_steps=2, checkpoint_minutes=1e-9)
    seen: list[list[torch.Tensor]] = []
    original = Run.validate

    def validate(run: Run, n_batches: int | None = None):
        errors = original(run, n_batches)
        if n_batches is not None:
            seen.append([value.clone() for value in run.ema.shadow_params])
            errors["all"]["energy_mae"] = abs(run.step - 8) * 10.0
        return errors

    monkeypatch.setattr(loop.Run, "validate", validate)
    with monkeypatch.context() as patch:
        Stop(patch, 11)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    run = train(config)
    assert run.stopped and run.step == 14 and run.best["step"] == 8
    for one, other in zip(run.ema.shadow_params, seen[3], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen[-1][0], seen[3][0])
    assert train(config).step == 14, "a run that has stopped is finished"


def test_logs_hold_each_step_once_after_an_interruption(config, monkeypatch):
    config = changed(config, log_every=1, checkpoint_minutes=60, tensorboard=True)
    pytest.importorskip("tensorboard")
    original = Run.update

    def update(run: Run, frames):
        if run.step == 5:
            run.save()
        if run.step == 8:
            raise KeyboardInterrupt
        return original(run, frames)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "update", update)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    assert len((config.output / "train.csv").read_text().splitlines()) == 9
    with (config.output / "train.csv").open("a") as file:
        file.write("9,0,")  # cut short
    train(config)
    with (config.output / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 13))
    assert all(float(row["loss"]) > 0 and float(row["forces"]) > 0 and row["hessian"] == "" for row in rows)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(config.output / "tensorboard")).Reload()
    curve = events.Scalars("train/loss")
    assert [point.step for point in curve] == list(range(1, 13))
    assert curve[-1].value == pytest.approx(float(rows[-1]["loss"]), rel=1e-5)


def test_last_steps_are_logged_however_few(config):
    config = changed(config, steps=7, log_every=5, checkpoint_minutes=60)
    train(config)
    with (config.output / "train.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [5, 7]


def test_missing_tensorboard_is_named(config, monkeypatch):
    for name in ("torch.utils.tensorboard",):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"gnn-forcefield\[tensorboard\]"):
        train(changed(config, tensorboard=True))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_every_optimiser_lowers_the_loss(config, optimizer):
    decay = 0.0 if optimizer == "adam" else 1e-3
    entries = {"learning_rate": 0.01, "steps": 30, "checkpoint_minutes": 60, "log_every": 10}
    config = changed(config, optimizer=optimizer, weight_decay=decay, losses={"forces": "mae"}, **entries)
    train(config)
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert log[2]["loss"] < log[0]["loss"]
