"""Labels that contradict a model in a way that a mistake of the file would: sign, unit, order of the stress components.

A model that is wrong by a tenth still knows which way a force points and how large it is within a factor of two. Where
another sign, unit or order of the labels agrees with the model much better than the one that was read, the file is to
be doubted, not the model: conversions between programs lose them, and nothing else shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from forcefield.data.labels import INSIDE, UNITS, VOIGT
from forcefield.train.comparison import Comparison
from forcefield.units import GPA

FEWEST_FRAMES = 5
"""Of a kind; fewer can agree by chance."""

RELATED = 0.8
"""Correlation of labels and predictions from which the size of one says something about the other."""

OPPOSED = -0.5
"""Correlation below which the sign is turned."""

SIZES = (0.5, 2.0)
"""Size of the labels over that of the predictions that a soft or poor model may have."""

UNIT_TOLERANCE = 1.35
"""Factor within which a unit has to explain the size of the labels."""

WEAKEST = {"forces": 0.05, "stress": 0.3 * GPA}
"""Root mean square (eV/Å, eV/Å^3) of predictions below which nothing is said."""

NAMED = 6
"""Kinds named for each doubt."""

REORDERED = 0.6
"""Share of the error that is left where another order of the components is the right one."""

Values = NDArray[np.float64]


def label_doubts(comparison: Comparison) -> list[str]:
    """What is suspicious about labels, a sentence each, with the kinds of frames of which it is true.

    Args:
        comparison: labels, and predictions of a model that knows the materials roughly.
    """
    kinds = np.array(comparison.kinds)
    found: dict[str, list[str]] = {}
    for kind in sorted(set(comparison.kinds)):
        for doubt, detail in _of_frames(comparison, kinds == kind):
            found.setdefault(doubt, []).append(f"{kind or 'frames without a kind'}: {detail}")
    return [f"{doubt} [{'; '.join(_first(where))}]" for doubt, where in found.items()]


def _first(where: list[str]) -> list[str]:
    return where if len(where) <= NAMED else [*where[:NAMED], f"{len(where) - NAMED} more kinds"]


def _of_frames(comparison: Comparison, frames: NDArray[np.bool_]) -> Iterator[tuple[str, str]]:
    """Doubts about the labels of some frames, and the figures behind each."""
    if frames.sum() < FEWEST_FRAMES:
        return
    atoms = frames[comparison.frame_of_atom]
    for label, rows in (("forces", atoms), ("stress", frames)):
        known, predicted = (side[rows] for side in getattr(comparison, label))
        whole = np.isfinite(known + predicted).all(axis=1)
        known, predicted = known[whole], predicted[whole]
        if len(known) < FEWEST_FRAMES or _size(predicted) < WEAKEST[label] or not known.any():
            continue
        doubt = _sign_or_unit(label, known, predicted)
        if doubt is None and label == "stress":
            doubt = _order(known[:, 3:], predicted[:, 3:])
        if doubt is not None:
            yield doubt


def _size(values: Values) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _sign_or_unit(label: str, known: Values, predicted: Values) -> tuple[str, str] | None:
    related = float((known * predicted).sum() / np.sqrt((known**2).sum() * (predicted**2).sum()))
    if OPPOSED < related < RELATED:
        return None
    ratio, unit = _size(known) / _size(predicted), INSIDE[label]
    if not SIZES[0] < ratio < SIZES[1]:
        unit = _unit(UNITS[label], ratio) or unit
    sign = "-" if related < 0 else ""
    if unit == INSIDE[label] and not sign:
        return None
    return (
        f"{label}: labels look like {sign}{unit}; --units {label}={sign}{unit} reads them so",
        f"correlation {related:.2f} with the model, {ratio:.3g} times as large",
    )


def _unit(factors: Mapping[str, float], ratio: float) -> str | None:
    """The unit in which labels are so many times as large as in the package's own."""
    misfit = {unit: abs(np.log(ratio * factor)) for unit, factor in factors.items()}
    best = min(misfit, key=lambda unit: misfit[unit])
    return best if misfit[best] < np.log(UNIT_TOLERANCE) else None


def _order(known: Values, predicted: Values) -> tuple[str, str] | None:
    """Whether the shear components agree much better in another order."""
    if _size(predicted) < WEAKEST["stress"]:
        return None
    errors = {order: float(np.abs(known[:, order] - predicted).mean()) for order in permutations(range(3))}
    as_read = errors[0, 1, 2]
    best = min(errors, key=lambda order: errors[order])
    if errors[best] > REORDERED * as_read:
        return None
    shear = [""] * 3
    for place, component in zip(best, VOIGT[3:], strict=True):
        shear[place] = component
    order = " ".join((*VOIGT[:3], *shear))
    return (
        f"stress: components seem to be in the order {order}; --stress-order '{order}' reads them so",
        f"shear {errors[best] / GPA:.2g} GPa from the model's instead of {as_read / GPA:.2g}",
    )
