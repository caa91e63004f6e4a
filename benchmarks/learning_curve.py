"""The learning curve of a run: a table, the slope that more time would follow, and a picture.

    python benchmarks/learning_curve.py RUN/log.jsonl --output curve.md --picture curve.png

Reads what `forcefield train` logged. The slope is that of a straight line through the logarithms of error and training
time from a third of the run on, where the learning rate has come down from its plateau; the forecast continues it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = {
    "energy_mae": ("energy MAE (meV/atom)", 1e3),
    "forces_mae": ("forces MAE (meV/Å)", 1e3),
    "atomic_energies_mae": ("atomic energies MAE (meV)", 1e3),
}


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="log.jsonl of a run")
    parser.add_argument("--output", type=Path, help="Markdown file")
    parser.add_argument("--picture", type=Path, help="PNG file")
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.log.read_text(encoding="utf-8").splitlines()]
    entries = [line for line in lines if line["event"] == "validation"]
    report = text(entries, [line for line in lines if line["event"] == "result"])
    print(report)
    if options.output:
        options.output.write_text(report + "\n", encoding="utf-8")
    if options.picture:
        picture(entries, options.picture)


def column(entries: list[dict[str, Any]], name: str) -> NDArray[np.float64]:
    """One quantity over the run."""
    return np.array([entry[name] for entry in entries], dtype=float)


def slope(entries: list[dict[str, Any]], name: str) -> float:
    """Exponent p of error ~ time^p in the last two thirds of the run."""
    minutes = column(entries, "minutes")
    late = minutes >= minutes[-1] / 3
    return float(np.polyfit(np.log(minutes[late]), np.log(column(entries, name)[late]), 1)[0])


def text(entries: list[dict[str, Any]], results: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["minutes", "step", "atoms seen", "learning rate", *(label for label, _ in COLUMNS.values())]
    lines = ["# Learning curve", "", "| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for entry in entries:
        errors = [f"{scale * entry[name]:.0f}" for name, (_, scale) in COLUMNS.items()]
        counts = [f"{entry['minutes']:.0f}", f"{entry['step']:,}", f"{entry['atoms_seen']:,}", f"{entry['lr']:.1e}"]
        lines.append("| " + " | ".join(counts + errors) + " |")
    lines += ["", f"Quick validations on {entries[-1]['frames']:.0f} frames, always the same ones."]
    if results:
        final = [f"{label} {scale * results[-1][name]:.0f}" for name, (label, scale) in COLUMNS.items()]
        lines[-1] += f" The whole validation split at the end: {', '.join(final)}."
    lines += [
        "",
        "From a third of the run on the errors fall as a power of the time (the falling learning rate included):",
        "",
    ]
    for name, (label, scale) in COLUMNS.items():
        power = slope(entries, name)
        now = scale * (results or entries)[-1][name]
        lines.append(f"- {label}: time^{power:.2f}; four times as long would give about {now * 4**power:.0f}")
    return "\n".join(lines)


def picture(entries: list[dict[str, Any]], path: Path) -> None:
    """Errors against time, both logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (label, scale) in COLUMNS.items():
        axes.loglog(column(entries, "minutes"), scale * column(entries, name), marker="o", label=label)
    axes.set(xlabel="minutes of training on one core", ylabel="validation error")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
