"""The training loop: one process, resumable at any moment, its length given in steps or in minutes of work."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch_ema import ExponentialMovingAverage

from forcefield.data.batches import load_batch, plan_batches
from forcefield.data.statistics import bound_energies, read_element_energies
from forcefield.data.store import FrameStore
from forcefield.derivatives import evaluate
from forcefield.networks import build_network
from forcefield.potential import Potential
from forcefield.train.checkpoint import load_checkpoint, save_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.loss import differences, total_loss
from forcefield.train.metrics import measure
from forcefield.train.optimizer import Optimizers

CHECKPOINT = "checkpoint.pt"


def build_potential(config: TrainConfig, store: FrameStore) -> Potential:
    """A fresh potential for the elements of the store, its reference energies and scale taken from the labels."""
    isolated = read_element_energies(config.isolated_energies)
    bound, rest = bound_energies(store, isolated)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(config.network, store.elements, **config.hyperparameters)
    potential = Potential(network, isolated_energies=isolated, bound_energies=bound, scale=rest)
    return potential.with_dtype(getattr(torch, config.dtype)).to(config.device)


class Run:
    """A training run with everything that a resumed one must take up again.

    Args:
        config: the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.train, self.validation = FrameStore(config.train), FrameStore(config.validation)
        self.potential = build_potential(config, self.train)
        self.parameters = [p for p in self.potential.parameters() if p.requires_grad]
        self.optimizer = Optimizers(self.potential, config.optimizer, config.learning_rate)
        self.ema = ExponentialMovingAverage(self.parameters, decay=config.ema_decay)
        self.step, self.epoch, self.position = 0, 0, 0
        self.seconds, self.atoms_seen = 0.0, 0
        config.output.mkdir(parents=True, exist_ok=True)
        if (config.output / CHECKPOINT).is_file():
            self._restore(load_checkpoint(config.output / CHECKPOINT))

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        if self.config.minutes is not None:
            return min(self.seconds / (60 * self.config.minutes), 1.0)
        assert self.config.steps is not None
        return min(self.step / self.config.steps, 1.0)

    def learning_rate(self) -> float:
        """Warm-up, plateau, cosine to zero."""
        warm = min((self.step + 1) / max(self.config.warmup_steps, 1), 1.0)
        falling = max(self.progress - (1 - self.config.decay), 0.0) / self.config.decay
        return self.config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * falling))

    def batches(self) -> Iterator[NDArray[np.int64]]:
        """Batches without end, from where the run stands."""
        while True:
            plan = plan_batches(self.train, self.config.slots, seed=self.config.seed + 1000 * self.epoch)
            while self.position < len(plan):
                self.position += 1
                yield plan[self.position - 1]
            self.epoch, self.position = self.epoch + 1, 0

    def update(self, frames: NDArray[np.int64]) -> dict[str, float]:
        """One step of the optimiser; returns the loss and mean absolute errors of the batch."""
        graph, labels = load_batch(self.train, frames)
        graph, labels = graph.to(self.config.device), labels.to(self.config.device)
        if self.potential.cutoff < self.train.cutoff:
            graph = graph.within(self.potential.cutoff)
        late = self.progress >= 1 - self.config.final_phase
        weights = self.config.final_weights if late else self.config.weights
        self.optimizer.set_learning_rate(self.learning_rate())
        error = differences(graph, evaluate(self.potential, graph, training=True), labels)
        loss = total_loss(error, weights, self.config.thresholds)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.ema.update()
        self.step += 1
        self.atoms_seen += graph.n_atoms
        means = {name: float(value.detach().abs().nanmean()) for name, value in error.items()}
        return {"loss": float(loss.detach()), "norm": float(norm), **means}

    def validate(self, n_batches: int | None = None) -> dict[str, dict[str, float]]:
        """Errors of the averaged weights on the validation store (the first ``n_batches`` of a fixed plan)."""
        plan = plan_batches(self.validation, 4 * self.config.slots, seed=0)
        with self.ema.average_parameters():
            return measure(self.potential, self.validation, plan[:n_batches], device=self.config.device)

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.potential.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "counters": {name: getattr(self, name) for name in ("step", "epoch", "position", "seconds", "atoms_seen")},
            "config": self.config.model_dump(mode="json"),
        }
        save_checkpoint(self.config.output / CHECKPOINT, state)

    def _restore(self, state: dict) -> None:
        stored = TrainConfig(**state["config"])
        fixed = ("network", "hyperparameters", "optimizer", "seed", "slots", "dtype")
        changed = [name for name in fixed if getattr(stored, name) != getattr(self.config, name)]
        if changed:
            raise ValueError(
                f"{self.config.output / CHECKPOINT} belongs to a run with other settings of {', '.join(changed)}; "
                "give another output folder, or the settings of that run"
            )
        trained = dict(self.potential.named_parameters())
        with torch.no_grad():
            for name, value in state["model"].items():
                if name in trained:  # constants and reference energies have been computed anew
                    trained[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        for name, value in state["counters"].items():
            setattr(self, name, value)


def train(config: TrainConfig) -> Run:
    """Train until the run is finished; called again after a kill it goes on from the last checkpoint."""
    run = Run(config)
    with (config.output / "log.jsonl").open("a", encoding="utf-8") as log:
        _train(run, log)
        result = run.validate()
        _write(log, run, "result", result["all"])
    (config.output / "validation.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return run


def _train(run: Run, log: TextIO) -> None:
    """Steps, log lines, checkpoints and quick validations, up to the end of the run."""
    config = run.config
    clock = time.process_time if config.clock == "cpu" else time.perf_counter
    mean: dict[str, list[float]] = {}
    next_save = run.seconds + 60 * config.checkpoint_minutes
    batches = run.batches()
    while run.progress < 1:
        start = clock()
        for name, value in run.update(next(batches)).items():
            mean.setdefault(name, []).append(value)
        run.seconds += clock() - start
        if run.step % config.log_every == 0:
            _write(log, run, "train", {name: float(np.mean(values)) for name, values in mean.items()})
            mean.clear()
        if run.seconds >= next_save:
            run.save()
            next_save = run.seconds + 60 * config.checkpoint_minutes
            _write(log, run, "validation", run.validate(config.validation_batches)["all"])
    run.save()


def _write(log: TextIO, run: Run, event: str, values: dict[str, float]) -> None:
    entry = {"event": event, "step": run.step, "epoch": run.epoch, "minutes": round(run.seconds / 60, 3)}
    entry |= {"atoms_seen": run.atoms_seen, "lr": run.learning_rate()}
    log.write(json.dumps(entry | {name: round(value, 6) for name, value in values.items()}) + "\n")
    log.flush()
