"""Calibration of the expected force error, and how good it is on frames that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from forcefield.confidence import TrainingDomain, log_terms

Array = NDArray[np.float64]

SMALLEST_ERROR = 1.0e-3
"""Added to an error before its logarithm is taken (eV/Å)."""
PRIOR_ATOMS = 20.0
"""Atoms of the mean element that an element's own error is mixed with."""
BINS = 40


def calibrate(
    distance: Array, force: Array, error: Array, numbers: NDArray[np.int64], elements: NDArray[np.int64], floor: float
) -> dict[str, Array]:
    """Fit the expected force error: a formula for its logarithm, then a table from there to the mean error.

    Args:
        distance: (atoms,) from the training data.
        force: (atoms,) predicted size (eV/Å).
        error: (atoms,) size of the error (eV/Å).
        numbers: (atoms,) atomic numbers.
        elements: (elements,) those with an offset, sorted.
        floor: of the force (eV/Å).

    Returns:
        coefficients, offsets, scores and errors of `forcefield.confidence.TrainingDomain`.
    """
    terms, target = log_terms(distance, force, floor), np.log(error + SMALLEST_ERROR)
    element = np.minimum(np.searchsorted(elements, numbers), len(elements) - 1)
    known = elements[element] == numbers
    offsets, coefficients = np.zeros(len(elements)), np.zeros(3)
    size = np.bincount(element[known], minlength=len(elements))
    for _ in range(8):
        coefficients = _non_negative_slopes(terms, target - np.where(known, offsets[element], 0.0))
        residual = target - terms @ coefficients
        offsets = np.bincount(element[known], residual[known], minlength=len(elements)) / (size + PRIOR_ATOMS)
    score = terms @ coefficients + np.where(known, offsets[element], 0.0)
    scores, errors = mean_curve(score, error)
    return {"coefficients": coefficients, "offsets": offsets, "scores": scores, "errors": errors}


def _non_negative_slopes(terms: Array, target: Array) -> Array:
    """Least squares in which neither a larger force nor a larger distance makes the error smaller."""
    used = [0, 1, 2]
    while True:
        found = np.zeros(3)
        found[used] = np.linalg.lstsq(terms[:, used], target, rcond=None)[0]
        negative = [k for k in used[1:] if found[k] < 0]
        if not negative:
            return found
        used.remove(min(negative, key=lambda k: found[k]))


def mean_curve(score: Array, error: Array) -> tuple[Array, Array]:
    """Mean error against score in bins of equally many atoms, made increasing by pooling neighbours that are not.

    Returns:
        (bins,) mean scores, (bins,) mean errors.
    """
    order = np.argsort(score, kind="stable")
    groups = [group for group in np.array_split(order, min(BINS, len(order))) if len(group)]
    blocks: list[tuple[float, float, float]] = []  # atoms, sum of scores, sum of errors
    for group in groups:
        blocks.append((float(len(group)), float(score[group].sum()), float(error[group].sum())))
        while len(blocks) > 1 and blocks[-2][2] / blocks[-2][0] >= blocks[-1][2] / blocks[-1][0]:
            second, first = blocks.pop(), blocks.pop()
            blocks.append((first[0] + second[0], first[1] + second[1], first[2] + second[2]))
    return np.array([b[1] / b[0] for b in blocks]), np.array([b[2] / b[0] for b in blocks])


def quality(domain: TrainingDomain, distance: Array, expected: Array, force: Array, error: Array) -> dict[str, Any]:
    """How well distance and expected error find the errors that there are.

    Args:
        domain: with its limits.
        distance: (atoms,) from the training data.
        expected: (atoms,) force error (eV/Å).
        force: (atoms,) predicted size (eV/Å), as a third way to rank.
        error: (atoms,) found (eV/Å).

    Returns:
        Atoms, rank correlations, shares of the worst tenth that are in the tenth ranked worst, the table of expected
        and found errors by tenths, and that by verdict.
    """
    ranks = {"expected_error": expected, "distance": distance, "force": force}
    limits = [-np.inf, domain.edge_distance, domain.outside_distance, np.inf]
    classes = {}
    for name, low, high in zip(("inside", "at the edge", "outside"), limits[:-1], limits[1:], strict=True):
        members = (distance > low) & (distance <= high)
        classes[name] = _means(expected[members], error[members], len(error))
    tenths = np.array_split(np.argsort(expected, kind="stable"), 10)
    return {
        "atoms": len(error),
        "mean_error": float(error.mean()),
        "spearman": {name: _spearman(values, error) for name, values in ranks.items()},
        "worst_tenth_caught": {name: caught(values, error) for name, values in ranks.items()},
        "by_tenth": [_means(expected[tenth], error[tenth], len(error)) for tenth in tenths if len(tenth)],
        "by_verdict": classes,
    }


def caught(rank: Array, error: Array, *, share: float = 0.1) -> float:
    """Share of the atoms with the largest errors that are among equally many with the largest rank."""
    count = max(int(share * len(error)), 1)
    worst, flagged = np.argsort(-error, kind="stable")[:count], np.argsort(-rank, kind="stable")[:count]
    return len(np.intersect1d(worst, flagged)) / count


def _spearman(rank: Array, error: Array) -> float | None:
    if len(error) < 3 or np.ptp(rank) == 0 or np.ptp(error) == 0:
        return None
    return float(spearmanr(rank, error).statistic)


def _means(expected: Array, error: Array, total: int) -> dict[str, float | None]:
    """Share of the atoms, mean expected and found error, and the error that nine tenths stay below (eV/Å)."""
    if len(error) == 0:
        return {"share": 0.0, "expected": None, "found": None, "found_median": None, "found_90": None}
    return {
        "share": len(error) / total,
        "expected": float(expected.mean()),
        "found": float(error.mean()),
        "found_median": float(np.median(error)),
        "found_90": float(np.quantile(error, 0.9)),
    }
