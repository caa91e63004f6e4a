"""Picture of the lattice-parameter benchmark: relaxed against measured lengths, and the error of each crystal.

python benchmarks/lattice_plot.py docs/lattice_parameters.json docs/images/lattice_parameters.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"compound": "#1f5fa8", "metal": "#b0751a", "layered": "#b53b52", "molecular": "#2c8a4b"}


def main() -> None:
    """Read the JSON, write the PNG."""
    source, target = (Path(name) for name in sys.argv[1:3])
    content = json.loads(source.read_text(encoding="utf-8"))
    crystals = [crystal for crystal in content["crystals"] if "relaxed" in crystal]
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
    colours = colour_of([crystal["bonding"] for crystal in crystals])
    parity(left, crystals, colours)
    errors(right, crystals, colours)
    figure.savefig(target, dpi=130)


def colour_of(kinds: list[str]) -> dict[str, str]:
    """A colour for each kind of bonding, the usual ones fixed."""
    spare = iter(("#555555", "#00868b", "#8b5a2b", "#4b0082"))
    return {kind: COLOURS.get(kind) or next(spare) for kind in dict.fromkeys(kinds)}


def parity(axes: Axes, crystals: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """Relaxed lengths over measured ones, with a band of 5 %."""
    longest = max(max(crystal["experiment"][:3]) for crystal in crystals) * 1.06
    axes.fill_between([0, longest], [0, 0.95 * longest], [0, 1.05 * longest], color="#e8e8e8", label="within 5 %")
    axes.plot([0, longest], [0, longest], color="#999999", lw=1)
    for kind, colour in colours.items():
        chosen = [crystal for crystal in crystals if crystal["bonding"] == kind]
        x = [length for crystal in chosen for length in crystal["experiment"][:3]]
        y = [length for crystal in chosen for length in crystal["relaxed"][:3]]
        axes.scatter(x, y, s=14, color=colour, label=kind, zorder=3)
    axes.set(xlim=(2, longest), ylim=(2, longest), xlabel="experiment a, b, c (Å)", ylabel="relaxed a, b, c (Å)")
    axes.legend(frameon=False, fontsize=8)


def errors(axes: Axes, crystals: list[dict[str, Any]], colours: dict[str, str]) -> None:
    """Errors of the independent lengths of each crystal, cut at 12 %."""
    axes.axhspan(-5, 5, color="#e8e8e8")
    axes.axhline(0, color="#999999", lw=1)
    ordered = sorted(crystals, key=lambda crystal: (list(colours).index(crystal["bonding"]), crystal["formula"]))
    for place, crystal in enumerate(ordered):
        for error in crystal["independent"]:
            shown = max(-12.0, min(12.0, error))
            marker = "o" if shown == error else ("^" if error > 0 else "v")
            axes.scatter(place, shown, s=16, marker=marker, color=colours[crystal["bonding"]], zorder=3)
    axes.set_xticks(range(len(ordered)), [crystal["formula"] for crystal in ordered], rotation=90, fontsize=7)
    axes.set(ylim=(-12.8, 12.8), xlim=(-1, len(ordered)), ylabel="error of the lattice parameter (%)")


if __name__ == "__main__":
    main()
