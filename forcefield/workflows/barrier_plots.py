"""Figure of a barrier."""

from __future__ import annotations

from pathlib import Path

from forcefield.workflows.barrier import BarrierResult
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure


def plot_barrier(result: BarrierResult, path: Path) -> Path:
    """Draw energy along the path: images, the fit through energies and forces, and the barrier.

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    figure, (axis,) = new_figure()
    axis.plot(result.fit_path, result.fit_energies, color=BLUE, lw=1.2)
    axis.plot(result.path, result.energies, "o", color=BLUE, ms=4)
    axis.plot(result.path[result.highest], result.energies[result.highest], "o", color=ORANGE, ms=6)
    axis.axhline(0.0, color=GREY, lw=0.6)
    axis.set(xlabel="path (Å)", ylabel="energy (eV)")
    axis.set_title(f"forward {result.forward:.3f} eV, reverse {result.reverse:.3f} eV ({result.verdict})", fontsize=9)
    return save_figure(figure, path)
