"""What a fine-tuning has changed: errors before and after, forgetting, and whether the model is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forcefield.train.config import LossWeights

LABELS = ("energy", "forces", "stress")
WORSE_BY = 0.1
"""Relative rise of the error of one label beyond which a model is worse, whatever the others have gained."""

Errors = Mapping[str, Mapping[str, float]]
"""What `forcefield.train.metrics.measure` returns: kind of frame ("all" for the total) -> errors."""


@dataclass(frozen=True)
class Stage:
    """Errors of one state of the model.

    Attributes:
        name: which state.
        new: on the validation part of the new data.
        base: on validation data of the base model, None where there is none.
    """

    name: str
    new: Errors
    base: Errors | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, "new": dict(self.new), "base": None if self.base is None else dict(self.base)}


def score(errors: Errors, weights: LossWeights) -> float:
    """Mean absolute errors of energy, forces and stress in total, weighted as in the loss."""
    return sum(getattr(weights, label) * errors["all"].get(f"{label}_mae", 0.0) for label in LABELS)


def changes(before: Errors, after: Errors) -> dict[str, float]:
    """Relative change of each mean absolute error, in percent."""
    one, other = before["all"], after["all"]
    keys = {label: f"{label}_mae" for label in LABELS}
    return {label: 100 * (other[key] / one[key] - 1) for label, key in keys.items() if one.get(key) and key in other}


def judgement(before: Errors, after: Errors, weights: LossWeights) -> str:
    """Why a model is not better than the one before; an empty text where it is better.

    It is better if the weighted sum of the errors on the new validation data has fallen and no label's error has risen
    by more than a tenth. What is compared is the base model after the refit of its element energies, so that this
    refit alone is no success.
    """
    was, now = score(before, weights), score(after, weights)
    if not now < was:
        return f"the weighted error on the new validation data did not fall ({was:.4g} before, {now:.4g} after)"
    for label, change in changes(before, after).items():
        if change > 100 * WORSE_BY:
            return f"the {label} error on the new validation data rose by {change:.0f} %"
    return ""


def forgetting(before: Stage, after: Stage) -> dict[str, float] | None:
    """Rise of each error on the base model's validation data in percent; None where it was not measured."""
    if before.base is None or after.base is None:
        return None
    return changes(before.base, after.base)


def forgot_too_much(forgotten: dict[str, float] | None, most: float) -> str:
    """Why a model has lost too much of what its base knew; an empty text where it has not, or nobody measured.

    Args:
        forgotten: rise of each error on the base model's validation data in percent.
        most: largest rise that counts as nothing worse than a price (%).
    """
    lost = [f"{label} {change:+.0f} %" for label, change in (forgotten or {}).items() if change > most]
    return (
        f"errors on the base model's validation data rose by more than {most:.0f} %: {', '.join(lost)}" if lost else ""
    )
