"""Means of correlated numbers with honest errors: block averages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST_BLOCKS = 8


class Mean(NamedTuple):
    """A mean, its standard error, the deviation of the values, and how many independent values they are worth."""

    mean: float
    error: float
    deviation: float
    independent: float


def block_average(values: Array) -> Mean:
    """Average a series whose neighbours are correlated.

    Pairs are averaged again and again; the standard error grows until blocks are independent. The largest with at least
    eight blocks is taken, which is on the safe side.

    Args:
        values: (points,), equally spaced in time.

    Raises:
        ValueError: without values, or with one that is not finite.

    References:
        H. Flyvbjerg, H. G. Petersen, J. Chem. Phys. 91, 461 (1989), https://doi.org/10.1063/1.457480.
    """
    series = np.asarray(values, dtype=float)
    if len(series) == 0 or not np.isfinite(series).all():
        raise ValueError("An average needs one or more finite values.")
    mean, deviation = float(series.mean()), float(series.std(ddof=1)) if len(series) > 1 else 0.0
    if len(series) == 1 or deviation == 0.0:
        return Mean(mean, 0.0 if len(series) > 1 else float("nan"), deviation, float(len(series)))
    errors = [series.std(ddof=1) / np.sqrt(len(series))]
    while len(series) >= 2 * FEWEST_BLOCKS:
        even = series[: len(series) // 2 * 2]
        series = 0.5 * (even[0::2] + even[1::2])
        errors.append(series.std(ddof=1) / np.sqrt(len(series)))
    error = float(max(errors))
    return Mean(mean, error, deviation, (deviation / error) ** 2)
