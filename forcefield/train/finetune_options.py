"""How to fine-tune: what a user can choose, checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from forcefield.data.labels import ReadOptions
from forcefield.train.config import Phase

EPOCHS = 30.0
"""Passes through the new data where no length is given."""


@dataclass(frozen=True)
class FinetuneOptions:
    """How to fine-tune.

    Attributes:
        validation: file to validate on; a part of the new data if not given.
        validation_share: share of the new frames to validate on, whole materials where possible.
        steps: length in steps of the optimiser; give one length at most.
        epochs: length in passes through the new training frames; `EPOCHS` if no length is given.
        minutes: length in minutes of training, validations not counted.
        clock: what minutes are of: wall, or cpu for this process's own time, fair on a shared machine.
        learning_rate: peak learning rate.
        shared_rate: share of the learning rate for parameters that all elements share. Below 1, only the new data's
            elements change parameters of their own; at 0 nothing else changes, so that little is forgotten.
        freeze: parameters that stay as they are, as patterns of their names such as ``*.sender.*``.
        replay: frames on the base model's energy scale to replay; the sample shipped with it if not given.
        no_replay: train on new frames alone.
        replay_share: share of the training's atoms that are replayed.
        base_validation: frames on the base model's energy scale to measure forgetting on; the sample shipped with it
            if not given.
        most_forgotten: rise of an error on the base model's validation data (%) beyond which the model is not called
            better, however good it is on the new data.
        weights: of the losses.
        patience: quick validations without a new best after which the run stops.
        slots: batch size in padded edges.
        seed: of batches and of what is set aside.
        device: cpu, cuda, cuda:1, or auto.
        compile: let PyTorch compile the network, checked against the ordinary evaluation: pays for itself in runs of
            more than a few minutes.
        name: of the fine-tuned model.
        labels: where the new labels come from, for the card.
        read: which keys and units the files have.
    """

    validation: Path | None = None
    validation_share: float = 0.1
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    clock: Literal["wall", "cpu"] = "wall"
    learning_rate: float = 1e-3
    shared_rate: float = 1.0
    freeze: tuple[str, ...] = ()
    replay: Path | None = None
    no_replay: bool = False
    replay_share: float = 0.3
    base_validation: Path | None = None
    most_forgotten: float = 100.0
    weights: Phase = Phase(energy=10.0)
    patience: int = 10
    slots: int = 6000
    seed: int = 0
    device: str = "auto"
    compile: bool = False
    name: str | None = None
    labels: str = "Not stated where the labels come from."
    read: ReadOptions = field(default_factory=ReadOptions)

    def __post_init__(self) -> None:
        lengths = {name: getattr(self, name) for name in ("steps", "epochs", "minutes")}
        given = {name: value for name, value in lengths.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; give one length only")
        for name, value in {**given, "learning_rate": self.learning_rate, "slots": self.slots}.items():
            if not value > 0:
                raise ValueError(f"{name} is {value}, but must be positive")
        if not 0 <= self.shared_rate <= 1:
            raise ValueError(f"shared_rate is {self.shared_rate}, but must be between 0 and 1")
        for name in ("validation_share", "replay_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be between 0 and 1")
        if self.no_replay and self.replay is not None:
            raise ValueError("a file to replay is given together with no_replay; give one of them")
