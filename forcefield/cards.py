"""Parts that the cards of all models have in common: trained here, fine-tuned, imported or of a property."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def provenance(config: Mapping[str, Any]) -> str:
    """Elements, licence and the version that wrote the model, in a line."""
    return (
        f"{len(config['elements'])} elements. Licence of the weights: {config['licence']}. "
        f"Written by version {config['package_version']} of the package, model format {config['format']}."
    )


def section(title: str, *lines: str) -> list[str]:
    """A heading, the lines under it and an empty one."""
    return [f"## {title}", "", *lines, ""]


def training_section(config: Mapping[str, Any], amount: str) -> list[str]:
    """What a model was trained on and how.

    Args:
        config: of the model, with the entry ``training``.
        amount: how many frames or structures the data are.
    """
    training = config["training"]
    went = (
        f"{training['minutes']:.0f} minutes on {training['hardware']}: {training['steps']:,} steps, "
        f"{training['epochs']} passes through the data"
    )
    if training.get("minutes_before"):
        went += (
            f", after {training['minutes_before']:.0f} minutes and {training['steps_before']:,} steps of the model "
            "that it started from"
        )
    return section(
        "Training",
        f"{training['data']} ({amount}). {went}.",
        "",
        "```json",
        json.dumps({"network": config["network"], "hyperparameters": config["hyperparameters"]}),
        json.dumps(training["settings"], indent=1, ensure_ascii=False),
        "```",
    )


def ending(config: Mapping[str, Any], no_limits: str = "None known.") -> list[str]:
    """Known limits and elements.

    Args:
        config: of the model.
        no_limits: what to say where there are none.
    """
    limits = [f"- {limit}" for limit in config["limits"]] or [no_limits]
    return [*section("Known limits", *limits), *section("Elements", " ".join(config["elements"]))]
