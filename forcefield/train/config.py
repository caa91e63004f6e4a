"""What a training run needs to know, checked before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossWeights(_Strict):
    """Weights of the Huber losses; each loss is in units of its label (eV, eV/Å, eV/Å^3) once beyond its threshold."""

    energy: float = 5.0
    forces: float = 10.0
    stress: float = 50.0
    atomic_energies: float = 3.0


class HuberThresholds(_Strict):
    """Errors below these are penalised quadratically, larger ones linearly."""

    energy: PositiveFloat = 0.02
    forces: PositiveFloat = 0.05
    stress: PositiveFloat = 0.005
    atomic_energies: PositiveFloat = 0.05


class TrainConfig(_Strict):
    """A training run.

    Attributes:
        network: key of `forcefield.networks.NETWORKS`.
        hyperparameters: keywords of the network.
        train: folder of the training store.
        validation: folder of the validation store.
        output: folder for checkpoints and logs.
        minutes: active training time after which the run is finished (resumed time counts on).
        steps: number of steps after which the run is finished; give this or ``minutes``.
        clock: what minutes are of: "wall", or "cpu" for this process's own time, fair on a shared machine.
        slots: batch size in padded edges.
        optimizer: "adam", or "muon" for Muon on hidden matrices and Adam on the rest.
        learning_rate: peak learning rate.
        warmup_steps: steps of linear warm-up.
        decay: share of the run, at its end, in which the learning rate falls to zero (cosine); 1 is plain cosine.
        weights: loss weights.
        final_weights: loss weights in the last share ``final_phase`` of the run.
        final_phase: see ``final_weights``.
        gradient_clip: largest norm of the gradient.
        ema_decay: decay of the exponential moving average of the weights.
        seed: seed of weights and batches.
        log_every: steps between lines of the log.
        checkpoint_minutes: active minutes between checkpoints and quick validations.
        validation_batches: batches of a quick validation.
        isolated_energies: JSON file, element symbol -> energy of the free atom (eV).
    """

    network: str = "density"
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    train: Path
    validation: Path
    output: Path
    minutes: PositiveFloat | None = None
    steps: PositiveInt | None = None
    clock: Literal["wall", "cpu"] = "wall"
    slots: PositiveInt = 6000
    optimizer: Literal["adam", "muon"] = "muon"
    learning_rate: PositiveFloat = 3e-3
    warmup_steps: int = 300
    decay: float = Field(default=0.6, gt=0, le=1)
    weights: LossWeights = LossWeights()
    final_weights: LossWeights = LossWeights(energy=20.0)
    final_phase: float = Field(default=0.25, ge=0, le=1)
    thresholds: HuberThresholds = HuberThresholds()
    gradient_clip: PositiveFloat = 10.0
    ema_decay: float = Field(default=0.999, gt=0, lt=1)
    seed: int = 0
    log_every: PositiveInt = 200
    checkpoint_minutes: PositiveFloat = 5.0
    validation_batches: PositiveInt = 60
    isolated_energies: Path
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps as the length of the run")
        return self
