"""Pictures of a training run or an evaluation: parity plots and learning curves, written as PNG.

Figures are made without matplotlib's `pyplot`, so that no back end is chosen and no window opens. Needs the extra
``plot``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forcefield.units import GPA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNITS: dict[str, tuple[str, str, float]] = {
    "energy": ("energy", "eV/atom", 1.0),
    "forces": ("force components", "eV/Å", 1.0),
    "stress": ("stress components", "GPa", GPA),
    "atomic_energies": ("atomic energies", "eV", 1.0),
}
"""Property -> title, unit shown, and the size of that unit in the package's own."""

FEW_POINTS = 2000
"""Up to so many points each is drawn, beyond it their density."""

CURVE = re.compile(r"(?:.*_)?(?P<quantity>loss|energy|forces|stress|atomic_energies|hessian)(?:_mae|_rmse|_median)?")
"""Columns of a log that are curves: ``loss``, ``forces``, ``validation_energy_mae``, ..."""

Pairs = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Property -> labels and predictions of the same shape, in the package's units (energy in eV/atom)."""


def parity_plot(pairs: Pairs, png_path: str | Path, *, title: str = "") -> Path:
    """Draw predictions over labels, one panel a property, with mean absolute and root mean square errors.

    Args:
        pairs: "energy" (eV/atom), "forces" (eV/Å), "stress" (eV/Å^3, shown in GPa), "atomic_energies" (eV), or some
            of them: labels and predictions; values that are NaN in either are left out.
        png_path: file to write; an existing one is replaced.
        title: heading.

    Raises:
        ValueError: a property is unknown, shapes differ, or there is nothing to draw.
        ImportError: matplotlib is missing.
    """
    known = {name: _finite_pairs(name, *both) for name, both in pairs.items()}
    known = {name: both for name, both in known.items() if both[0].size}
    if not known:
        raise ValueError("there is nothing to draw: no property has both a label and a prediction")
    figure, axes = _panels(len(known), title)
    for panel, (name, (labels, predictions)) in zip(axes, known.items(), strict=True):
        _parity_panel(panel, name, labels, predictions)
    return _save(figure, png_path)


def parity_figure(
    labels: NDArray[np.float64],
    predictions: NDArray[np.float64],
    png_path: str | Path,
    *,
    name: str,
    unit: str = "",
    title: str = "",
) -> Path:
    """Draw predictions of any one property over labels, with mean absolute and root mean square errors.

    Args:
        labels: values of any shape, all finite.
        predictions: of the same shape.
        png_path: file to write; an existing one is replaced.
        name: of the property.
        unit: of both.
        title: heading.

    Raises:
        ImportError: matplotlib is missing.
    """
    figure, axes = _panels(1, title)
    _draw_parity(axes[0], labels.ravel(), predictions.ravel(), name, unit)
    return _save(figure, png_path)


def _finite_pairs(
    name: str, labels: NDArray[np.float64], predictions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if name not in UNITS:
        raise ValueError(f"a parity plot of {name!r} was asked for, but only of {', '.join(UNITS)} there is one")
    if np.shape(labels) != np.shape(predictions):
        raise ValueError(f"{name}: labels have shape {np.shape(labels)}, predictions {np.shape(predictions)}")
    first, second = (np.asarray(values, dtype=float).ravel() / UNITS[name][2] for values in (labels, predictions))
    both = np.isfinite(first) & np.isfinite(second)
    return first[both], second[both]


def _parity_panel(panel: Axes, name: str, labels: NDArray[np.float64], predictions: NDArray[np.float64]) -> None:
    title, unit, _ = UNITS[name]
    _draw_parity(panel, labels, predictions, title, unit)


def _draw_parity(
    panel: Axes, labels: NDArray[np.float64], predictions: NDArray[np.float64], title: str, unit: str
) -> None:
    low = float(min(labels.min(), predictions.min()))
    high = float(max(labels.max(), predictions.max()))
    margin = 0.05 * (high - low) or 1.0
    window = (low - margin, high + margin)
    panel.plot(window, window, color="0.6", linewidth=0.8, zorder=0)
    if labels.size > FEW_POINTS:
        panel.hexbin(labels, predictions, gridsize=120, bins="log", mincnt=1, extent=(*window, *window), linewidths=0)
    else:
        panel.plot(labels, predictions, ".", markersize=4, alpha=0.5)
    error = predictions - labels
    text = (
        f"MAE {np.abs(error).mean():.3g} {unit}\nRMSE {math.sqrt(np.mean(error**2)):.3g} {unit}\n{labels.size} values"
    )
    panel.text(0.04, 0.96, text, transform=panel.transAxes, va="top", fontsize=9)
    panel.set(xlim=window, ylim=window, xlabel=f"label ({unit})", ylabel=f"prediction ({unit})", title=title)
    panel.set_aspect("equal")


def learning_curve_plot(
    log_csv_path: str | Path | Sequence[str | Path], png_path: str | Path, *, title: str = ""
) -> Path:
    """Draw the curves of a training log over the steps, one panel a quantity, on logarithmic axes.

    Args:
        log_csv_path: a CSV file with a heading and a column ``step``, or several, which share the panels. Drawn are
            columns whose name ends in ``loss``, ``energy``, ``forces``, ``stress``, ``atomic_energies`` or
            ``hessian``, with ``_mae``, ``_rmse`` or ``_median`` after it or not. Empty cells are gaps. Rows of
            different ``event``, where there is such a column, are curves apart.
        png_path: file to write; an existing one is replaced.
        title: heading.

    Raises:
        ValueError: there is no such column or no number in them, or a cell is no number.
        OSError: a log cannot be read.
        ImportError: matplotlib is missing.
    """
    paths = [Path(path) for path in ([log_csv_path] if isinstance(log_csv_path, (str, Path)) else log_csv_path)]
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for path in paths:
        for event, step, column, value in _logged(path):
            match = CURVE.fullmatch(column)
            if match is not None and value > 0 and math.isfinite(value):
                curves = panels.setdefault(match["quantity"], {})
                name = f"{event or (path.stem if len(paths) > 1 else '')} {column}".strip()
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    if not panels:
        names = ", ".join(map(str, paths))
        raise ValueError(f"{names}: no curve to draw, that is no column such as loss or forces_mae with numbers in it")
    figure, axes = _panels(len(panels), title)
    for panel, (quantity, curves) in zip(axes, panels.items(), strict=True):
        for label, (steps, values) in curves.items():
            panel.plot(steps, values, label=label, linewidth=1.2, marker="." if len(steps) < 30 else None)
        panel.set(xlabel="step", title=quantity.replace("_", " "), yscale="log")
        panel.grid(True, which="both", color="0.9", linewidth=0.5)
        panel.legend(fontsize=8)
    return _save(figure, png_path)


def _logged(path: Path) -> list[tuple[str, float, str, float]]:
    """Event, step, column and value of every filled cell; a last line cut short by a kill is left out."""
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    if "step" not in (reader.fieldnames or ()):
        raise ValueError(f"{path} is no training log: it has no column step but {reader.fieldnames}")
    cells = []
    for number, row in enumerate(reader, start=2):
        event = str(row.pop("event", None) or "")
        try:
            step = float(row.pop("step"))
            values = {name: float(value) for name, value in row.items() if value and CURVE.fullmatch(name or "")}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        cells += [(event, step, name, value) for name, value in values.items()]
    return cells


def _panels(count: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    """A figure with ``count`` panels, two or three in a row."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "gnn-forcefield[plot]"') from error
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.6 * columns, 4.4 * rows), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure, [figure.add_subplot(rows, columns, k + 1) for k in range(count)]


def _save(figure: Any, png_path: str | Path) -> Path:
    path = Path(png_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130)
    return path
