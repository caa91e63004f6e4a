"""The training of property models: resumable at any moment, its length in epochs, steps or minutes of work."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_ema import ExponentialMovingAverage

from forcefield.tasks.config import PropertyConfig, check_body
from forcefield.tasks.start import body_cutoff, build_model, open_data
from forcefield.tasks.store import plan
from forcefield.train.checkpoint import CHECKPOINT, latest_checkpoint, save_checkpoint
from forcefield.train.distributed import resolve_device
from forcefield.train.interruption import Interruption, to_the_end
from forcefield.train.logs import Logs, Silent, Watcher
from forcefield.train.loss import penalty
from forcefield.train.optimizer import Optimizers
from forcefield.train.schedule import learning_rate

COUNTERS = ("step", "epoch", "position", "seconds", "stopped")
COLUMNS = {
    "train": ("step", "epoch", "minutes", "lr", "loss", "mae", "norm"),
    "validation": ("step", "epoch", "minutes", "lr", "mae", "rmse", "median"),
}
FIXED = ("task", "network", "hyperparameters", "max_neighbours", "optimizer", "seed", "batch_atoms", "dtype")
"""Settings that a resumed run must share with the one before."""
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


class PropertyRun:
    """A training run with everything that a resumed one must take up again.

    Args:
        config: the run.
        watcher: told what happens.

    Raises:
        ValueError: the data does not fit, or there is a checkpoint that cannot be continued.
    """

    def __init__(self, config: PropertyConfig, *, watcher: Watcher | None = None) -> None:
        check_body(config)
        self.config = config.model_copy(update={"device": resolve_device(config.device)})
        self.watcher = Silent() if watcher is None else watcher
        self.data = open_data(self.config, body_cutoff(config))
        self.model = build_model(self.config, self.data).to(self.config.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = Optimizers(self.model, config.optimizer, config.learning_rate, config.weight_decay)
        self.ema = ExponentialMovingAverage(self.parameters, decay=config.ema_decay)
        self.step, self.epoch, self.position, self.seconds = 0, 0, 0, 0.0
        self.stopped = False
        self.best: dict[str, Any] | None = None
        self.errors: dict[str, dict[str, float]] = {}
        state = latest_checkpoint(config.output, self.watcher.note)
        if state is not None:
            self._restore(state)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        config = self.config
        if self.stopped:
            return 1.0
        if config.minutes is not None:
            return min(self.seconds / (60 * config.minutes), 1.0)
        if config.steps is not None:
            return min(self.step / config.steps, 1.0)
        assert config.epochs is not None
        return min((self.epoch + self.position / max(self.epoch_steps, 1)) / config.epochs, 1.0)

    @property
    def epoch_steps(self) -> int:
        """Steps of the epoch that the run is in."""
        return len(self._plan())

    def _plan(self) -> list[NDArray[np.int64]]:
        if getattr(self, "_planned", (None, []))[0] != self.epoch:
            seed = self.config.seed + 1000 * self.epoch
            self._planned = (self.epoch, plan(self.data.store, self.data.parts["train"], self.config.batch_atoms, seed))
        return self._planned[1]

    def next_batch(self) -> NDArray[np.int64]:
        """Structures of the next step; the same ones after a resume."""
        chosen = self._plan()[self.position]
        self.position += 1
        if self.position == len(self._plan()):
            self.epoch, self.position = self.epoch + 1, 0
        return chosen

    def update(self, chosen: NDArray[np.int64]) -> dict[str, float]:
        """One step of the optimiser.

        Returns:
            The loss, the mean absolute error (unit of the labels) and the norm of the gradient before clipping.

        Raises:
            ValueError: the gradient is not finite.
        """
        config = self.config
        self.optimizer.set_learning_rate(learning_rate(config, self.step, self.progress))
        self.optimizer.zero_grad()
        self.model.train()
        predictions, labels = self._compute(chosen)
        errors = (predictions - labels)[~torch.isnan(labels)]
        loss = penalty(errors / self.model.scale, config.loss, config.threshold).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip or math.inf)
        if not torch.isfinite(norm):
            raise ValueError(
                f"the gradient is not finite at step {self.step}; lower learning_rate, or look for broken labels"
            )
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        return {"loss": float(loss.detach()), "mae": float(errors.detach().abs().mean()), "norm": float(norm)}

    def _compute(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        graph, labels = self.data.store.batch(chosen)
        device = self.config.device
        return self.model(graph.to(device)), labels.to(device).view(-1, *self.model.task.value_shape)

    @torch.no_grad()
    def pairs(self, part: str) -> Pair:
        """Labels and predictions of the averaged weights for a part of the data, flat, labelled entries only."""
        self.model.eval()
        found: list[Pair] = []
        with self.ema.average_parameters():
            for chosen in plan(self.data.store, self.data.parts[part], 4 * self.config.batch_atoms, None):
                predictions, labels = self._compute(chosen)
                known = ~torch.isnan(labels)
                found.append((labels[known].cpu().numpy(), predictions[known].cpu().numpy()))
        return np.concatenate([one for one, _ in found]), np.concatenate([other for _, other in found])

    def validate(self, part: str = "validation") -> dict[str, float]:
        """Mean absolute, root mean square and median absolute error in the unit of the labels."""
        labels, predictions = self.pairs(part)
        error = np.abs(predictions - labels)
        return {
            "mae": float(error.mean()),
            "rmse": float(np.sqrt(np.mean(error**2))),
            "median": float(np.median(error)),
        }

    def judge(self, mae: float) -> None:
        """Keep the best averaged weights, and stop where there was none better for too long."""
        if self.config.patience is None:
            return
        if self.best is None or mae < self.best["mae"]:
            weights = [values.detach().cpu().clone() for values in self.ema.shadow_params]
            buffers = {name: values.detach().cpu().clone() for name, values in self.model.named_buffers()}
            self.best = {"mae": mae, "step": self.step, "stale": 0, "weights": weights, "buffers": buffers}
        else:
            self.best["stale"] += 1
        self.stopped = self.best["stale"] >= self.config.patience

    def take_best(self) -> None:
        """Go back to the best averaged weights, where the run kept them."""
        if self.best is None:
            return
        for values, best in zip(self.ema.shadow_params, self.best["weights"], strict=True):
            values.copy_(best)
        for name, values in self.model.named_buffers():
            values.copy_(self.best["buffers"][name])

    def counters(self) -> dict[str, Any]:
        """What every line of the log begins with."""
        rate = learning_rate(self.config, self.step, self.progress)
        return {"step": self.step, "epoch": self.epoch, "minutes": round(self.seconds / 60, 3), "lr": rate}

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            ValueError: it cannot be written; the one before is unharmed.
        """
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "best": self.best,
            "config": self.config.model_dump(mode="json"),
        }
        save_checkpoint(self.config.output / CHECKPOINT, state)

    def _restore(self, state: dict[str, Any]) -> None:
        now = self.config.model_dump(mode="json")
        changed = ", ".join(name for name in FIXED if state["config"].get(name) != now[name])
        if changed:
            raise ValueError(
                f"the checkpoint in {self.config.output} belongs to a run with other settings of {changed}; give "
                "another output folder, or the settings of that run"
            )
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint in {self.config.output} does not fit the data: {error}") from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.best = state["best"]
        for name, value in state["counters"].items():
            setattr(self, name, value)


def work(run: PropertyRun) -> None:
    """Do what is left of a run, then measure its errors on the validation and test structures."""
    logs = Logs(run.config.output, run.step, tensorboard=False, watcher=run.watcher, columns=COLUMNS)
    try:
        to_the_end(run, lambda interruption: _steps(run, logs, interruption))
        run.take_best()
        run.errors = {
            name: run.validate(name) for name, part in run.data.parts.items() if len(part) and name != "train"
        }
        logs.write("result", {**run.counters(), **run.errors["validation"]})
        (run.config.output / "errors.json").write_text(json.dumps(run.errors, indent=1), encoding="utf-8")
    finally:
        logs.close()


def _steps(run: PropertyRun, logs: Logs, interruption: Interruption) -> None:
    """Steps, log lines, checkpoints and validations, up to the end of the run."""
    config = run.config
    collected: list[dict[str, float]] = []
    next_save = run.seconds + 60 * config.checkpoint_minutes
    while run.progress < 1 and not interruption.asked:
        start, epoch = time.perf_counter(), run.epoch
        collected.append(run.update(run.next_batch()))
        run.seconds += time.perf_counter() - start
        run.watcher.progress(run.progress, run.seconds, run.step)
        if run.step % config.log_every == 0 or run.progress >= 1:
            means = {name: float(np.mean([one[name] for one in collected])) for name in collected[0]}
            logs.write("train", {**run.counters(), **means})
            collected.clear()
        due = run.epoch > epoch if config.validation_steps is None else run.step % config.validation_steps == 0
        if due:
            errors = run.validate()
            run.judge(errors["mae"])
            logs.write("validation", {**run.counters(), **errors})
        if run.seconds >= next_save:
            run.save()
            next_save = run.seconds + 60 * config.checkpoint_minutes
