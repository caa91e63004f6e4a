"""Figure of a relaxation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forcefield.workflows.plots import BLUE, ORANGE, new_figure, save_figure
from forcefield.workflows.relax_result import RelaxResult, RelaxStep


def plot_relaxation(steps: Sequence[RelaxStep], result: RelaxResult, path: Path, *, fmax: float, smax: float) -> Path:
    """Draw energy, largest force and (for a variable cell) stress deviation of every step, with their limits.

    Args:
        steps: what a callback of `relax` was told.
        result: of the relaxation.
        path: of the figure.
        fmax: largest force accepted (eV/Å).
        smax: largest stress deviation accepted (GPa).

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    stressed = bool(steps) and steps[-1].max_stress is not None
    columns = 3 if stressed else 2
    figure, axes = new_figure(columns=columns, width=3.6 * columns, height=3.0)
    numbers = [step.step for step in steps]
    per_atom = 1.0e3 / len(result.atoms)
    axes[0].plot(numbers, [per_atom * (step.energy - result.energy) for step in steps], color=BLUE, lw=1.2)
    axes[0].set(xlabel="step", ylabel="energy above the last (meV/atom)")
    axes[0].set_title(f"{result.verdict}, {result.energy_per_atom:.4f} eV/atom", fontsize=9)
    _draw_limited(axes[1], numbers, [step.max_force for step in steps], fmax, "largest force (eV/Å)")
    if stressed:
        deviations = [math.nan if step.max_stress is None else step.max_stress for step in steps]
        _draw_limited(axes[2], numbers, deviations, smax, "stress off its target (GPa)")
    return save_figure(figure, path)


def _draw_limited(axis: Any, numbers: Sequence[int], values: Sequence[float], limit: float, label: str) -> None:
    """Draw a quantity on its way below a limit; zeros, which a logarithmic axis cannot show, are left out."""
    shown = [value if value > 0.0 else math.nan for value in values]
    axis.plot(numbers, shown, color=BLUE, lw=1.2)
    axis.axhline(limit, color=ORANGE, lw=1.0)
    axis.set(xlabel="step", ylabel=label)
    axis.set_title(f"limit {limit:g}", fontsize=9, color=ORANGE)
    if any(value > 0.0 for value in values):
        axis.set_yscale("log")
