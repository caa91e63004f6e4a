"""The model folder of a fine-tuning, with a card that says what it was, what it learned and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forcefield.models import CARD, load_model, save_model
from forcefield.train.export import About, card, error_table, training_facts
from forcefield.train.finetune_prepare import Prepared, sample_of
from forcefield.train.finetune_report import Stage
from forcefield.train.loop import Run
from forcefield.train.replay import REPLAY


def write_model(
    run: Run,
    prepared: Prepared,
    stages: Sequence[Stage],
    forgotten: Mapping[str, float] | None,
    folder: Path,
) -> None:
    """Write the averaged weights as a model folder.

    Args:
        run: the finished training.
        prepared: what it started from.
        stages: errors of the base model, after the shift, and of the fine-tuned model.
        forgotten: rise of the errors on the base model's validation data (%).
        folder: model folder to write.
    """
    about = _about(prepared)
    with run.ema.average_parameters():
        save_model(
            folder,
            run.potential,
            network=run.config.network,
            hyperparameters=run.config.hyperparameters,
            default=False,
            licence=about.licence,
            labels=about.labels,
            training=training_facts(run, about),
            validation={"data": about.validation, "errors": stages[-1].new},
            limits=list(about.limits),
            finetuned=_record(prepared, stages, forgotten),
        )
    config = load_model(folder).config
    text = card(about.name, config) + "\n".join(["", *_section(stages, config["finetuned"])]) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")


def _about(prepared: Prepared) -> About:
    base, options = prepared.base.config, prepared.options
    names = ", ".join(file.name for file in prepared.files)
    frames = prepared.facts["training"]["frames"]
    replay = "" if options.no_replay else f", and frames replayed from the training data of {prepared.base.name}"
    return About(
        name=options.name or f"{prepared.base.name} fine-tuned",
        labels=f"New data: {options.labels}\n\nBase model {prepared.base.name}: {base.get('labels', 'not stated')}",
        data=f"{frames} new frames of {names}{replay}; the frames below count repeated and replayed ones",
        validation=f"{prepared.facts['validation']['how']} (new data; it also decided when to stop)",
        licence=f"{base.get('licence', 'not stated')} ({prepared.base.name}; the new data may have its own terms)",
        limits=(
            f"Fine-tuned on {frames} frames of {names}: accurate near these, and elsewhere at most as good as "
            f"{prepared.base.name}.",
            *base.get("limits", ()),
        ),
    )


def _record(prepared: Prepared, stages: Sequence[Stage], forgotten: Mapping[str, float] | None) -> dict[str, Any]:
    """The entry ``finetuned`` of the model's configuration."""
    base = prepared.base
    earlier = base.config.get("finetuned")
    _, since = sample_of(prepared.source, base, REPLAY)
    return {
        "base": base.name,
        "base_sha256": base.config["sha256"],
        "data": [file.name for file in prepared.files],
        "frozen": list(prepared.options.freeze),
        "shared_rate": prepared.options.shared_rate,
        "shift": prepared.shift.as_dict(),
        "samples": base.name if earlier is None else earlier["samples"],
        "shift_since_samples": (since + prepared.shift).as_dict(),
        "errors": [{"name": s.name, "new": s.new["all"], "base": s.base and s.base["all"]} for s in stages],
        "forgetting_percent": None if forgotten is None else dict(forgotten),
    }


def _section(stages: Sequence[Stage], record: Mapping[str, Any]) -> list[str]:
    """Markdown about the fine-tuning."""
    lines = [
        "## Fine-tuning",
        "",
        f"From `{record['base']}` (weights {record['base_sha256'][:12]}). On the new data:",
        "",
    ]
    lines += error_table({stage.name: stage.new["all"] for stage in stages})
    bases = {stage.name: stage.base["all"] for stage in stages[1:] if stage.base is not None}
    if bases:
        lines += ["", f"On validation data of `{record['base']}`, its labels moved to the new energy scale:", ""]
        lines += error_table(bases)
    if record["forgetting_percent"]:
        parts = ", ".join(f"{label} {change:+.1f} %" for label, change in record["forgetting_percent"].items())
        lines += ["", f"Forgetting (change of these errors): {parts}."]
    tables = record["shift"]
    total = {symbol: energy + tables["bound"].get(symbol, 0.0) for symbol, energy in tables["isolated"].items()}
    if total:
        parts = ", ".join(f"{symbol} {energy:+.4f}" for symbol, energy in total.items())
        lines += ["", f"Element energies were shifted by (eV): {parts}."]
    return lines
