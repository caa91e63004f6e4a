"""The end of a property model's training: the model folder with its card, and a parity plot."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forcefield.cards import ending, provenance, section, training_section
from forcefield.models import CARD
from forcefield.tasks.config import PropertyConfig
from forcefield.tasks.loop import PropertyRun, work
from forcefield.tasks.storage import load_property, save_property
from forcefield.train.checkpoint import CHECKPOINT, PREVIOUS
from forcefield.train.export import hardware
from forcefield.train.logs import LOG, TABLES, Watcher

MODEL = "model"
NOT_SHIPPED: Any = {"train": True, "validation": True, "test": True, "output": True, "card": True}
"""Entries of a configuration that are paths of one machine, or stand elsewhere in the card."""


def train_property(config: PropertyConfig, *, watcher: Watcher | None = None, restart: bool = False) -> PropertyRun:
    """Train to the end, or on from a checkpoint, and leave a model folder with its card, and a parity plot.

    Args:
        config: the run.
        watcher: told what happens.
        restart: remove checkpoint and logs of an earlier run in the output folder first.

    Raises:
        ValueError: configuration and data do not fit together, a checkpoint cannot be written, or training diverges.
    """
    if restart:
        for name in (CHECKPOINT, PREVIOUS, LOG, *TABLES.values(), "errors.json"):
            (config.output / name).unlink(missing_ok=True)
    run = PropertyRun(config, watcher=watcher)
    sizes = ", ".join(f"{len(part)} {name}" for name, part in run.data.parts.items())
    run.watcher.note(f"structures: {sizes}")
    if run.step:
        run.watcher.note(f"going on from step {run.step} ({100 * run.progress:.0f} % done)")
    work(run)
    run.watcher.note(f"the model is {export_property(run, config.output / MODEL)}")
    if config.plots:
        _plot(run)
    return run


def export_property(run: PropertyRun, folder: Path) -> Path:
    """Write the averaged weights of a run as a model folder with a card."""
    config = run.config
    with run.ema.average_parameters():
        save_property(
            folder,
            run.model,
            network=config.network,
            hyperparameters=config.hyperparameters,
            licence=config.card.licence,
            labels=config.card.labels,
            training=_facts(run),
            errors=run.errors,
            limits=list(config.card.limits),
        )
    loaded = load_property(folder)
    (folder / CARD).write_text(property_card(config.card.name, loaded.config), encoding="utf-8")
    return folder


def _facts(run: PropertyRun) -> dict[str, Any]:
    store, parts = run.data.store, run.data.parts
    return {
        "data": run.config.card.data,
        "structures": {name: len(part) for name, part in parts.items()},
        "atoms": int(store.n_atoms[parts["train"]].sum()),
        "minutes": round(run.seconds / 60, 1),
        "steps": run.step,
        "epochs": round(run.epoch + run.position / max(run.epoch_steps, 1), 2),
        "hardware": hardware(run.config.device),
        "settings": run.config.model_dump(mode="json", exclude=NOT_SHIPPED),
    }


def property_card(name: str, config: Mapping[str, Any]) -> str:
    """The card of a property model, from its configuration."""
    task, training, errors = config["property"], config["training"], config["errors"]
    unit = f" ({task['unit']})" if task["unit"] else ""
    counts = training["structures"]
    neighbours = "all" if config["max_neighbours"] is None else f"the {config['max_neighbours']} nearest (whole shells)"
    lines = [
        f"# {name}",
        "",
        f"Predicts `{task['key']}`{unit}: {task['shape']}, level {task['level']}"
        + (f", pooling {task['pooling']}." if task["level"] == "graph" else "."),
        f"Body `{config['network']}` with its head {config['parameters']:,} parameters, cutoff {config['cutoff']} Å, "
        f"{neighbours} neighbours, " + provenance(config),
        "",
        *section("Labels", config["labels"]),
        *training_section(
            config,
            f"{counts['train']:,} structures, {training['atoms']:,} atoms; {counts['validation']:,} for validation, "
            f"{counts['test']:,} for the test",
        ),
        *section(
            "Errors",
            f"| structures | MAE | RMSE | median{unit} |",
            "| --- | --- | --- | --- |",
            *[f"| {part} | {e['mae']:.4g} | {e['rmse']:.4g} | {e['median']:.4g} |" for part, e in errors.items()],
        ),
        *ending(config),
    ]
    return "\n".join(lines)


def _plot(run: PropertyRun) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        run.watcher.note('no plot: it needs matplotlib, pip install "gnn-forcefield[plot]"')
        return
    from forcefield.train.plots import parity_figure

    part = "test" if len(run.data.parts["test"]) else "validation"
    task, title = run.config.task, f"{run.config.card.name}: {part}"
    labels, predictions = run.pairs(part)
    path = parity_figure(
        labels, predictions, run.config.output / "parity.png", name=task.key, unit=task.unit, title=title
    )
    run.watcher.note(f"plotted {path}")
