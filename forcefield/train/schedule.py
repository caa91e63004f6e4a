"""What changes in the course of a run: the learning rate and the weights of the losses."""

from __future__ import annotations

import math
from typing import Protocol

from forcefield.train.config import TrainConfig
from forcefield.train.loss import Term

LABELS = ("energy", "forces", "stress", "atomic_energies")


class Course(Protocol):
    """The entries of a configuration that set the learning rate."""

    @property
    def learning_rate(self) -> float:
        """Peak."""

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""

    @property
    def schedule(self) -> str:
        """warmup-stable-decay, cosine or constant."""

    @property
    def decay(self) -> float:
        """Share of the run in which the rate falls."""

    @property
    def final_rate(self) -> float:
        """Share of the peak at the end."""


def learning_rate(config: Course, step: int, progress: float) -> float:
    """Linear warm-up times the course of the schedule.

    Args:
        config: the run.
        step: steps done.
        progress: share of the run that is done, 0 to 1.
    """
    warm = min((step + 1) / max(config.warmup_steps, 1), 1.0)
    if config.schedule == "constant":
        return config.learning_rate * warm
    decay = 1.0 if config.schedule == "cosine" else config.decay
    falling = min(max(progress - (1 - decay), 0.0) / decay, 1.0)
    share = 0.5 * (1 + math.cos(math.pi * falling))
    return config.learning_rate * warm * (config.final_rate + (1 - config.final_rate) * share)


def loss_terms(config: TrainConfig, progress: float) -> dict[str, Term]:
    """The losses with their weights at some point of the run."""
    phase = next((phase for phase in config.weights if progress < phase.until), config.weights[-1])
    terms = {
        name: Term(getattr(phase, name), getattr(config.losses, name), getattr(config.thresholds, name))
        for name in LABELS
    }
    if config.hessian is not None:
        terms["hessian"] = Term(config.hessian.weight, config.hessian.loss, config.hessian.threshold)
    return terms
