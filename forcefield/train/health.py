"""Signs that a network has stopped to learn in parts, which no error shows: units that no gradient reaches any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

IDLE = 1e-8
"""A unit counts as idle if its gradient is so much smaller than the largest of any unit."""

ALARMING = 0.25
"""Share of idle units that is worth a warning."""


@torch.no_grad()
def idle_units(named: Iterable[tuple[str, Tensor | None]]) -> dict[str, float]:
    """Share of the output columns of each weight matrix that gradients pass by.

    A unit far on the flat side of its activation function passes nothing on and gets nothing back, for good: a learning
    rate that is too high for the width of a layer ends like that, while the rest of the network goes on learning.

    One batch says little: in a perfect crystal no direction is preferred, and no gradient reaches what tells
    directions. An optimiser's momentum is a mean over enough batches, and forgets within some hundred steps.

    Args:
        named: names of parameters with the mean of their last gradients; what is None or of another shape is left out.

    Returns:
        Parameter name -> share between 0 and 1.
    """
    columns = {
        name: gradient.abs().amax(dim=0)
        for name, gradient in named
        if gradient is not None and gradient.dim() == 2 and min(gradient.shape) > 1
    }
    if not columns:
        return {}
    largest = max(float(column.max()) for column in columns.values())
    return {name: float((column <= IDLE * largest).double().mean()) for name, column in columns.items()}


def warning_of(shares: Mapping[str, float]) -> str:
    """What to say of matrices most of whose units are idle; an empty text where all is well."""
    worst = {name: share for name, share in shares.items() if share > ALARMING}
    if not worst:
        return ""
    named = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in sorted(worst.items(), key=lambda item: -item[1])[:5]
    )
    more = f" and {len(worst) - 5} more" if len(worst) > 5 else ""
    return (
        f"no gradient reaches many units of {named}{more}: this part of the network is idle and stays so. Start again "
        "with a lower learning_rate, a longer warm-up, or scale_by_inputs"
    )
