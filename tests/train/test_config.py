"""The configuration of a training run refuses what it does not know."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from forcefield.train.config import TrainConfig

PATHS = {"train": "a", "validation": "b", "output": "c", "isolated_energies": "d.json"}


def test_smallest_configuration_has_defaults():
    config = TrainConfig(**PATHS, steps=10)
    assert config.network == "density" and config.optimizer == "muon" and config.minutes is None
    assert [phase.until for phase in config.weights] == [0.75, 1.0] and config.thresholds.energy > 0


@pytest.mark.parametrize(
    "entries",
    [
        {"learningrate": 1e-3},
        {"weights": {"force": 1.0}},
        {"thresholds": {"energies": 0.1}},
        {"final_weights": {"energy": 1.0, "virial": 2.0}},
        {"hessian": {"file": "h.npz", "wait": 2.0}},
        {"card": {"title": "mine"}},
    ],
)
def test_unknown_keys_are_errors(entries):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TrainConfig(**PATHS, steps=10, **entries)


@pytest.mark.parametrize("length", [{}, {"steps": 10, "minutes": 1.0}])
def test_length_is_given_once(length):
    with pytest.raises(ValueError, match="either minutes or steps"):
        TrainConfig(**PATHS, **length)


@pytest.mark.parametrize(
    "entries",
    [
        {"steps": 0},
        {"steps": 5, "learning_rate": -1.0},
        {"steps": 5, "decay": 0.0},
        {"steps": 5, "ema_decay": 1.0},
        {"steps": 5, "final_phase": 1.5},
        {"steps": 5, "optimizer": "sgd"},
        {"steps": 5, "dtype": "float16"},
        {"steps": 5, "thresholds": {"forces": 0.0}},
    ],
)
def test_impossible_values_are_errors(entries):
    with pytest.raises(ValidationError):
        TrainConfig(**PATHS, **entries)


@pytest.mark.parametrize("missing", ["train", "validation", "output"])
def test_paths_must_be_given(missing):
    with pytest.raises(ValidationError, match=missing):
        TrainConfig(steps=1, **{name: path for name, path in PATHS.items() if name != missing})


def test_configuration_cannot_be_changed_and_survives_json():
    config = TrainConfig(**PATHS, minutes=3, weights={"energy": 2.0}, hyperparameters={"channels": 8})
    with pytest.raises(ValidationError, match="frozen"):
        config.slots = 3
    assert TrainConfig(**json.loads(json.dumps(config.model_dump(mode="json")))) == config
