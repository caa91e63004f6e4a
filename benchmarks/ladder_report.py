"""Table, JSON and picture of `benchmarks/ladder.py`, from the figures of the finished runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forcefield.units import GPA

Rows = Mapping[str, Sequence[Mapping[str, Any]]]

HEAD = (
    "| network | parameters | peak rate | steps | atoms seen | time (s) | training atoms/s | inference atoms/s "
    "| energy MAE (meV/atom) | forces MAE (meV/Å) | stress MAE (GPa) | equivariance error |\n" + "| --- " * 12 + "|"
)
TITLES = {"time": "At equal time", "epochs": "At equal epochs"}


def write_report(folder: Path, rows: Rows, about: Mapping[str, Any]) -> str:
    """Write ``ladder.md``, ``ladder.json`` and, if matplotlib is installed, ``images/ladder.png``; returns the text.

    Args:
        folder: where they go.
        rows: comparison ("time", "epochs") -> a mapping for each network.
        about: settings, data and hardware of the runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = picture(folder / "images" / "ladder.png", rows)
    text = markdown(rows, about, drawn)
    (folder / "ladder.md").write_text(text, encoding="utf-8")
    content = {"about": about, **rows}
    (folder / "ladder.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return text


def markdown(rows: Rows, about: Mapping[str, Any], drawn: bool) -> str:
    """The page."""
    used = sum(row["seconds"] for part in rows.values() for row in part) / 60
    data = "the sample that the shipped model carries" if about["shipped_sample"] else "the training store"
    lines = [
        "# The ladder of potentials",
        "",
        f"Written by `benchmarks/ladder.py`. Every network at its default size, trained on {data} "
        f"({about['training_frames']:,} frames, {about['training_atoms']:,} atoms) and measured on "
        f"{about['validation_frames']:,} frames of materials that it never saw. Same loss (energy, forces, stress), "
        f"batches of {about['slots']:,} padded edges, {about['optimizer']} with a peak learning rate of "
        f"{about['learning_rate']:g} (less where the table says so, for networks that did not learn at it) that falls "
        f"to zero, one thread of {about['hardware']}, one run each, "
        f"{used:.0f} minutes of processor time altogether. **These are short runs**: they say what a network learns "
        "first, not how good it can become, and differences of a tenth may turn with another seed.",
        "",
        "Time is processor time of the training. The equivariance error is the largest difference between the forces "
        "of a turned and inverted structure and the turned forces, over the root mean square force, in float32.",
    ]
    if drawn:
        lines += ["", "![Errors of forces and energies against training speed](images/ladder.png)"]
    for comparison, part in rows.items():
        amount = f"{about['minutes']:g} minutes each" if comparison == "time" else f"{about['epochs']:g} epochs each"
        lines += ["", f"## {TITLES[comparison]}: {amount}", "", HEAD, *[line(row) for row in part]]
    return "\n".join(lines) + "\n"


def line(row: Mapping[str, Any]) -> str:
    """One network's line."""
    counts = [f"{row['parameters']:,}", f"{row['learning_rate']:g}", f"{row['steps']:,}", f"{row['atoms_seen']:,}"]
    speeds = [f"{row[name]:,.0f}" for name in ("seconds", "training_speed", "inference_speed")]
    errors = [f"{1e3 * row['energy_mae']:.0f}", f"{1e3 * row['forces_mae']:.0f}", f"{row['stress_mae'] / GPA:.2f}"]
    return "| " + " | ".join([row["network"], *counts, *speeds, *errors, f"{row['equivariance']:.0e}"]) + " |"


def picture(path: Path, rows: Rows) -> bool:
    """Forces and energies against the training speed, both comparisons; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    quantities = (("forces_mae", "forces MAE (meV/Å)"), ("energy_mae", "energy MAE (meV/atom)"))
    for axes_of, (quantity, label) in zip(panels, quantities, strict=True):
        for axes, (comparison, part) in zip(axes_of, rows.items(), strict=True):
            for row in part:
                place = (row["training_speed"], 1e3 * row[quantity])
                axes.plot(*place, "o", color="#b53b52" if row["network"] == "density" else "#1f5fa8")
                axes.annotate(row["network"], place, xytext=(4, 3), textcoords="offset points", fontsize=8)
            axes.set(xscale="log", yscale="log", ylabel=label, title=TITLES[comparison])
    for axes in panels[-1]:
        axes.set_xlabel("training speed (atoms/s of one core)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return True
