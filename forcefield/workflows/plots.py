"""Figures of the workflows: matplotlib's objects without pyplot, so that no global state or window is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forcefield.workflows.outcome import require_package

BLUE, ORANGE, GREY = "#2166ac", "#d6604d", "#666666"
DOTS_PER_INCH = 160  # of the files


def new_figure(
    *, columns: int = 1, width: float = 5.0, height: float = 3.6, ratios: Sequence[float] | None = None
) -> Any:
    """Make a figure with a row of axes.

    Args:
        columns: number of axes.
        width: of the figure (inches).
        height: of the figure (inches).
        ratios: relative widths of the axes.

    Returns:
        (figure, list of axes).

    Raises:
        ImportError: without matplotlib.
    """
    figure_class = require_package("matplotlib.figure").Figure
    figure = figure_class(figsize=(width, height), layout="constrained")
    grid = figure.subplots(1, columns, squeeze=False, width_ratios=ratios)
    axes = list(grid[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as PNG (`DOTS_PER_INCH`) and give the path back.

    Raises:
        OSError: if it cannot be written.
    """
    figure.savefig(path, dpi=DOTS_PER_INCH, format="png")
    return path
