"""What a checkpoint holds, and how a run takes it up again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from forcefield.train.config import TrainConfig
from forcefield.train.start import default_hyperparameters

if TYPE_CHECKING:
    from forcefield.train.loop import Run

COUNTERS = ("step", "epoch", "position", "seconds", "atoms_seen", "skipped", "skipped_in_a_row", "stopped")
FIXED = (
    "network",
    "hyperparameters",
    "optimizer",
    "freeze",
    "saturation_rate",
    "shared_rate",
    "trained_elements",
    "seed",
    "slots",
    "dtype",
)
REFERENCES = ("isolated", "bound", "scale")


def state_of(run: Run) -> dict[str, Any]:
    """Everything that a checkpoint must hold: tensors and plain containers."""
    return {
        "model": run.potential.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "ema": run.ema.state_dict(),
        "counters": {name: getattr(run, name) for name in COUNTERS},
        "best": run.best,
        "config": run.config.model_dump(mode="json"),
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Take up a checkpoint, also one of an older version.

    Raises:
        ValueError: it belongs to a run with other settings or other elements.
    """
    try:
        stored = TrainConfig(**state["config"])
    except ValueError as error:
        raise ValueError(f"the checkpoint in {run.config.output} has another configuration: {error}") from error
    changed = ", ".join(_differences(_fixed(stored), _fixed(run.config)))
    if changed:
        raise ValueError(
            f"the checkpoint in {run.config.output} belongs to a run with other settings of {changed}; "
            "give another output folder, or the settings of that run"
        )
    _restore_potential(run, state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.ema.load_state_dict(state["ema"])
    run.best = state.get("best")
    for name, value in state["counters"].items():
        setattr(run, name, value)
    if run.config.patience is None:
        run.stopped, run.best = False, None


def _fixed(config: TrainConfig) -> dict[str, Any]:
    """Settings that a resumed run must share with the one before, hyper-parameters one by one."""
    plain = json.loads(json.dumps(config.model_dump(mode="json", include=set(FIXED))))
    written = json.loads(json.dumps(default_hyperparameters(config.network))) | plain.pop("hyperparameters")
    return plain | {f"hyperparameters.{name}": value for name, value in written.items()}


def _differences(stored: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in sorted(stored.keys() | now.keys()) if stored.get(name) != now.get(name)]


def _restore_potential(run: Run, model: dict[str, torch.Tensor]) -> None:
    """Weights and reference energies; constants of the rotation group have been computed anew."""
    targets: dict[str, torch.Tensor] = dict(run.potential.named_parameters())
    targets |= {name: run.potential.get_buffer(name) for name in REFERENCES}
    for name, target in targets.items():
        if name not in model or model[name].shape != target.shape:
            raise ValueError(
                f"the checkpoint in {run.config.output} does not fit the network ({name}): the training data has "
                "other elements than when the run started, or this version of the package another network. Give "
                "another output folder, or the data and version of that run"
            )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(model[name])
