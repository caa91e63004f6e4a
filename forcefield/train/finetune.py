"""Fine-tuning: a model adapted to new data, with part of its own training data replayed so that it forgets little."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from forcefield.data.store import FrameStore
from forcefield.train.config import TrainConfig
from forcefield.train.finetune_model import write_model
from forcefield.train.finetune_options import EPOCHS, FinetuneOptions
from forcefield.train.finetune_prepare import (
    BASE_VALIDATION,
    BEST,
    NEW,
    REPORT,
    START,
    STORES,
    TRAIN,
    VALIDATION,
    WORSE,
    Prepared,
    plan,
    prepare,
    write_json,
)
from forcefield.train.finetune_report import Stage, forgetting, forgot_too_much, judgement
from forcefield.train.logs import Silent, Watcher
from forcefield.train.loop import Run, work
from forcefield.train.metrics import measure

VALIDATIONS = 20
"""Quick validations in the course of a run, one of which may stop it early."""
CHECKPOINT_MINUTES = 2.0
"""Between checkpoints, where the length is not in minutes."""
FORGETTING_NOTED = 20.0
"""Percent; a note is left beyond it."""


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning came to.

    Attributes:
        folder: the model folder written, ``model``, or ``model-worse`` where it is not better.
        better: whether the model is better on the new validation data than the base after the shift, and has not
            forgotten more than allowed.
        reason: why it is not.
        stages: errors of the base model, of the base model with shifted element energies, and of the new model.
        forgetting: rise of the errors on the base model's validation data (%), None where there is none.
        shift: symbol -> change of the energy of an atom in a crystal (eV).
        steps: steps of the optimiser.
        seconds: of training.
    """

    folder: Path
    better: bool
    reason: str
    stages: tuple[Stage, Stage, Stage]
    forgetting: dict[str, float] | None
    shift: dict[str, float]
    steps: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        stages = [stage.as_dict() for stage in self.stages]
        return {**vars(self), "folder": str(self.folder), "stages": stages}


def finetune(
    model: str | os.PathLike[str],
    data: Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    watcher: Watcher | None = None,
    restart: bool = False,
) -> FinetuneResult:
    """Adapt a model to new data; called again after a kill it goes on from the last checkpoint.

    Args:
        model: a shipped model's name, or a model folder.
        data: labelled files or store folders.
        output: folder for stores, checkpoints, logs, the report and the model.
        options: how.
        watcher: told what happens.
        restart: begin anew where the folder has an earlier fine-tuning.

    Raises:
        ValueError: the data has no labels, unknown elements or too few frames, the folder belongs to another
            fine-tuning, or training diverges.
    """
    prepared = prepare(model, data, output=output, options=options, watcher=watcher, restart=restart)
    return adapt(prepared, watcher=watcher)


def adapt(prepared: Prepared, *, watcher: Watcher | None = None) -> FinetuneResult:
    """Train on prepared data, or on from a checkpoint, and write the model and ``report.json``.

    Raises:
        ValueError: a checkpoint cannot be continued or written, or training diverges.
    """
    watcher = watcher if watcher is not None else Silent()
    run = Run(run_config(prepared), watcher=watcher)
    if run.step:
        watcher.note(f"going on from step {run.step} ({100 * run.progress:.0f} % done)")
    work(run)
    assert run.result is not None
    stage = Stage("fine-tuned", run.result, _errors_on_base(run, prepared))
    start = prepared.stages[1]
    forgotten = forgetting(start, stage)
    reason = judgement(start.new, stage.new, prepared.options.weights)
    reason = reason or forgot_too_much(forgotten, prepared.options.most_forgotten)
    result = FinetuneResult(
        folder=prepared.output / (WORSE if reason else BEST),
        better=not reason,
        reason=reason,
        stages=(*prepared.stages, stage),
        forgetting=forgotten,
        shift=prepared.shift.total,
        steps=run.step,
        seconds=run.seconds,
    )
    _write(run, prepared, result)
    most = max((result.forgetting or {}).values(), default=0.0)
    if most > FORGETTING_NOTED:
        watcher.note(
            f"warning: errors on the base model's validation data rose by up to {most:.0f} %; "
            "a lower learning rate, a larger share of replay or frozen layers keep more"
        )
    return result


def run_config(prepared: Prepared) -> TrainConfig:
    """The training run of a fine-tuning."""
    options, output = prepared.options, prepared.output
    if options.minutes is not None:
        pace: dict[str, Any] = {"minutes": options.minutes, "checkpoint_minutes": options.minutes / VALIDATIONS}
    else:
        steps = options.steps if options.steps is not None else _steps(prepared)
        pace = {
            "steps": steps,
            "validation_steps": max(steps // VALIDATIONS, 1),
            "checkpoint_minutes": CHECKPOINT_MINUTES,
        }
    return TrainConfig(
        train=output / STORES / TRAIN,
        validation=output / STORES / VALIDATION,
        output=output,
        initial=str((output / START).resolve()),
        freeze=options.freeze,
        optimizer="muon",
        learning_rate=options.learning_rate,
        shared_rate=options.shared_rate,
        trained_elements=_new_elements(prepared) if options.shared_rate < 1 else (),
        schedule="cosine",
        warmup_steps=20,
        weights=(options.weights,),
        ema_decay=0.99,
        patience=options.patience,
        slots=options.slots,
        log_every=20,
        seed=options.seed,
        device=options.device,
        clock=options.clock,
        compile=options.compile,
        **pace,
    )


def _new_elements(prepared: Prepared) -> tuple[str, ...]:
    """Symbols of the elements of the new data."""
    return tuple(chemical_symbols[z] for z in FrameStore(prepared.output / STORES / NEW).elements)


def _steps(prepared: Prepared) -> int:
    """Length in steps of so many passes through the new training frames."""
    epochs = prepared.options.epochs if prepared.options.epochs is not None else EPOCHS
    passes = epochs / prepared.facts["training"]["copies"]
    train = FrameStore(prepared.output / STORES / TRAIN)
    return ceil(passes * len(plan(train, prepared.options, factor=1)))


def _errors_on_base(run: Run, prepared: Prepared) -> dict[str, dict[str, float]] | None:
    folder = prepared.output / STORES / BASE_VALIDATION
    if not folder.is_dir():
        return None
    store = FrameStore(folder)
    with run.ema.average_parameters():
        return measure(run.potential, store, plan(store, prepared.options), device=run.config.device)


def _write(run: Run, prepared: Prepared, result: FinetuneResult) -> None:
    """The model folder under its name when it is complete, and the report; what an earlier call wrote is replaced."""
    partial = result.folder.with_name(result.folder.name + ".partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    write_model(run, prepared, result.stages, result.forgetting, partial)
    for name in (BEST, WORSE):
        if (prepared.output / name).is_dir():
            shutil.rmtree(prepared.output / name)
    os.replace(partial, result.folder)
    write_json(
        prepared.output / REPORT,
        {**result.as_dict(), "training": prepared.facts["training"], "doubts": prepared.facts.get("doubts", [])},
    )
