"""From a training run to a model folder with its card: every figure of the card comes from the run itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from forcefield.cards import ending, provenance, section, training_section
from forcefield.models import CARD, load_model, save_model
from forcefield.train.loop import Run

PATHS = {"train", "validation", "output", "initial", "isolated_energies", "reference_energies"}
NOT_SHIPPED: Any = {**dict.fromkeys(PATHS, True), "card": True, "hessian": {"file"}}
"""Entries of a configuration that are paths of one machine, or stand elsewhere in the card."""


@dataclass(frozen=True)
class About:
    """What a card says that no run can know.

    Attributes:
        name: of the model.
        labels: where the labels come from, and what they are.
        data: the training data and its licence.
        validation: the validation data.
        licence: of the weights.
        limits: known limits, one sentence each.
        default: whether ``GNNCalculator()`` uses this model.
    """

    name: str
    labels: str
    data: str
    validation: str
    licence: str = "MIT"
    limits: tuple[str, ...] = ()
    default: bool = False


def export(
    run: Run, folder: str | os.PathLike[str], about: About, *, errors: Mapping[str, Mapping[str, float]] | None = None
) -> Path:
    """Write the averaged weights of a run as a model folder, with errors measured on the whole validation store.

    Args:
        run: finished or not; the card says how far it was.
        folder: model folder to write.
        about: what the run cannot know.
        errors: what `Run.validate` said of the whole validation store; measured anew if not given.
    """
    errors = run.validate() if errors is None else errors
    with run.ema.average_parameters():
        save_model(
            folder,
            run.potential,
            network=run.config.network,
            hyperparameters=run.config.hyperparameters,
            default=about.default,
            licence=about.licence,
            labels=about.labels,
            training=training_facts(run, about),
            validation={"data": about.validation, "errors": errors},
            limits=list(about.limits),
        )
    model = load_model(folder)
    text = card(about.name, model.config)
    Path(folder, CARD).write_text(text, encoding="utf-8")
    return Path(folder)


def training_facts(run: Run, about: About) -> dict[str, Any]:
    """How the run went: time, epochs, hardware, settings; and what the model that it started from had behind it."""
    settings = run.config.model_dump(mode="json", exclude=NOT_SHIPPED)
    settings["started_from"] = None if run.config.initial is None else Path(run.config.initial).name
    return {
        "data": about.data,
        "frames": len(run.train),
        "atoms": int(run.train.first_atom[-1]),
        "minutes": round(run.seconds / 60, 1),
        "steps": run.step,
        "atoms_seen": run.atoms_seen,
        "steps_skipped": run.skipped,
        "epochs": round(run.atoms_seen / int(run.train.first_atom[-1]), 2),
        "hardware": hardware(run.config.device),
        **_before(run.config.initial),
        "settings": settings,
    }


def _before(initial: str | None) -> dict[str, Any]:
    """Minutes and steps of the model that a run started from, those before it included; nothing without one."""
    if initial is None:
        return {}
    earlier = load_model(initial).config.get("training", {})
    return {f"{name}_before": earlier.get(name, 0) + earlier.get(f"{name}_before", 0) for name in ("minutes", "steps")}


def hardware(device: str) -> str:
    """The processor and the number of threads, or the GPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def processor() -> str:
    """Model name of the CPU where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def card(name: str, config: Mapping[str, Any]) -> str:
    """The card of a model, from its configuration."""
    training = config["training"]
    lines = [
        f"# {name}",
        "",
        f"Network `{config['network']}` with {config['parameters']:,} parameters, cutoff {config['cutoff']} Å, "
        + provenance(config),
        "",
        *section("Labels", config["labels"]),
        *training_section(config, f"{training['frames']:,} frames, {training['atoms']:,} atoms"),
        *section(
            "Errors",
            f"Against the labels, on {config['validation']['data']}.",
            "",
            *error_table(config["validation"]["errors"]),
        ),
        *ending(config),
    ]
    return "\n".join(lines)


def error_table(errors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Markdown table of mean absolute errors (and root mean square, median where they say more) by kind of frame."""
    head = "| kind of frame | frames | energy MAE / RMSE / median (meV/atom) | forces MAE / RMSE / median (meV/Å) "
    lines = [head + "| stress MAE (GPa) | atomic energies MAE (meV) |", "| --- " * 6 + "|"]
    for kind, values in errors.items():
        cells = [
            "all" if kind == "all" else kind,
            f"{values['frames']:.0f}",
            _triple(values, "energy"),
            _triple(values, "forces"),
            _one(values, "stress_mae", 160.21766, 2),
            _one(values, "atomic_energies_mae", 1000, 0),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _triple(values: Mapping[str, float], name: str) -> str:
    return " / ".join(_one(values, f"{name}_{kind}", 1000, 0) for kind in ("mae", "rmse", "median"))


def _one(values: Mapping[str, float], key: str, factor: float, digits: int) -> str:
    return f"{values[key] * factor:.{digits}f}" if key in values else "-"
