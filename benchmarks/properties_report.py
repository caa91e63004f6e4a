"""Tables and picture of `benchmarks/properties.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from properties_references import LABELS, PROPERTIES
from properties_tasks import QUANTITIES

Record = dict[str, Any]
NAMES = {
    "elastic": "Elastic constants",
    "eos": "Equations of state",
    "phonons": "Phonons",
    "experiment": "Experiment",
}
GOOD_VERDICTS = ("stable", "minimum found")


def pairs_of(records: list[Record], kind: str, quantity: str) -> np.ndarray:
    """All (computed, reference) of a quantity, (crystals, 2)."""
    found = [
        record["pairs"][quantity]
        for record in records
        if record["property"] == kind and quantity in record.get("pairs", {})
    ]
    return np.array(found, dtype=float).reshape(-1, 2)


def statistics(pairs: np.ndarray) -> dict[str, float]:
    """Errors of computed against reference values; relative ones in per cent.

    Args:
        pairs: (crystals, 2).

    Returns:
        Number, mean error and mean absolute error (in the unit), median relative and median absolute relative error,
        share within 10 %, and the slope of the line through the origin (below 1: systematically too small).
    """
    computed, known = pairs.T
    errors = computed - known
    relative = 100.0 * errors / np.abs(known)
    return {
        "crystals": len(pairs),
        "mean error": float(errors.mean()),
        "mean absolute error": float(np.abs(errors).mean()),
        "median error (%)": float(np.median(relative)),
        "median absolute error (%)": float(np.median(np.abs(relative))),
        "within 10 % (%)": float(100.0 * (np.abs(relative) <= 10.0).mean()),
        "slope": float(computed @ known / (known @ known)),
    }


def summarise(records: list[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Statistics by property and quantity."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for kind in PROPERTIES:
        for quantity in QUANTITIES:
            pairs = pairs_of(records, kind, quantity)
            if len(pairs):
                summary.setdefault(kind, {})[quantity] = statistics(pairs)
    return summary


def summary_lines(records: list[Record]) -> list[str]:
    """The statistics as a Markdown table."""
    head = ["property", "quantity", "crystals", "mean error", "mean absolute error", "median error"]
    head += ["median absolute error", "within 10 %", "slope"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for kind, quantities in summarise(records).items():
        for quantity, found in quantities.items():
            cells = [NAMES[kind].lower(), f"{quantity} ({QUANTITIES[quantity]})", str(found["crystals"])]
            cells += [f"{found['mean error']:+.3g}", f"{found['mean absolute error']:.3g}"]
            cells += [f"{found['median error (%)']:+.1f} %", f"{found['median absolute error (%)']:.1f} %"]
            cells += [f"{found['within 10 % (%)']:.0f} %", f"{found['slope']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def section(records: list[Record], kind: str) -> list[str]:
    """What happened to the crystals of a property, and each of them."""
    chosen = sorted((record for record in records if record["property"] == kind), key=lambda item: item["formula"])
    if not chosen:
        return []
    done = [record for record in chosen if "pairs" in record]
    quantities = [name for name in QUANTITIES if any(name in record["pairs"] for record in done)]
    bad: dict[str, int] = {}
    for record in done:
        if record["verdict"] not in GOOD_VERDICTS:
            bad[record["verdict"]] = bad.get(record["verdict"], 0) + 1
    notes = [f"{number} with the verdict “{verdict}”" for verdict, number in bad.items()]
    notes.append(f"{len(chosen) - len(done)} failed")
    lines = [f"## {NAMES[kind]}", "", f"Reference: {LABELS[kind]}. {len(chosen)} crystals: {', '.join(notes)}.", ""]
    head = ["crystal", "source", "atoms", *(f"{name} ({QUANTITIES[name]})" for name in quantities), "verdict"]
    lines += [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    return [*lines, *(_row(record, quantities) for record in chosen), ""]


def _row(record: Record, quantities: list[str]) -> str:
    cells = [record["formula"], record["key"], str(record["n_atoms"])]
    for name in quantities:
        pair = record.get("pairs", {}).get(name)
        cells.append("" if pair is None else f"{pair[0]:.4g} / {pair[1]:.4g}")
    cells.append(record.get("verdict") or f"failed: {record['error']}".replace("|", "/"))
    return f"| {' | '.join(cells)} |"


def report(records: list[Record], settings: dict[str, Any]) -> str:
    """The whole result as Markdown: what was compared, statistics, every crystal."""
    seconds = sum(record["seconds"] for record in records)
    described = ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None)
    lines = ["# Properties against DFT and experiment", "", f"{described}. {seconds:.0f} s of computing in all.", ""]
    lines += [
        "Crystals drawn at random (seeded) from public references, relaxed with the model from the reference's cell",
        "and computed by the package's workflows in double precision; made by `benchmarks/properties.py`. Every",
        "crystal drawn is in the tables, failures and unstable ones too.",
        "",
        "What the labels are: the shipped model is trained on energies, forces and stresses that a teacher",
        "(Nequix-OAM-1-PFT) gave to PBE-like crystals, some of which may be crystals below. The references are other",
        "people's DFT or experiments, with functionals of their own, so not all of a difference is the model's. There",
        "are no long-range electrostatics in the model: the splitting of optical modes in ionic crystals, which the",
        "phonon references hold, is missing. DFT without spin is no fair reference for magnetic elements and oxides.",
        "",
        "Errors are computed less reference. The slope is that of the line through the origin; below 1 the model is",
        "too soft (or its crystals too small).",
        "",
        *summary_lines(records),
        "",
        "![Computed against reference](images/properties.png)",
        "",
        "Below, every crystal as computed / reference.",
        "",
    ]
    for kind in PROPERTIES:
        lines += section(records, kind)
    return "\n".join(lines)


def write_output(path: Path, records: list[Record], settings: dict[str, Any]) -> None:
    """Write the result as Markdown (.md) or JSON (.json)."""
    if path.suffix == ".md":
        path.write_text(report(records, settings), encoding="utf-8")
        return
    content = {"settings": settings, "labels": LABELS, "summary": summarise(records), "crystals": records}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def plot(records: list[Record], path: Path) -> None:
    """Draw computed over reference values, one panel a property and quantity, and write a PNG."""
    summary = summarise(records)
    panels = [(kind, name) for kind, quantities in summary.items() for name in quantities if name not in ("C11", "C12")]
    columns = min(len(panels), 4)
    rows = -(-len(panels) // max(columns, 1))
    figure = Figure(figsize=(3.1 * columns, 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis, (kind, quantity) in zip(grid.ravel(), panels, strict=False):
        computed, known = pairs_of(records, kind, quantity).T
        ends = [min(0.0, float(computed.min())), 1.05 * float(max(computed.max(), known.max()))]
        axis.fill_between([0.0, ends[1]], [0.0, 0.9 * ends[1]], [0.0, 1.1 * ends[1]], color="#e8e8e8")
        axis.plot([0.0, ends[1]], [0.0, ends[1]], color="#999999", lw=0.8)
        axis.plot(known, computed, "o", ms=3.5, color="#2166ac")
        axis.set(xlim=(0.0, ends[1]), ylim=(ends[0], ends[1]), xlabel=f"reference ({QUANTITIES[quantity]})")
        axis.set_title(f"{NAMES[kind]}: {quantity}", fontsize=9)
    for axis in grid.ravel()[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=80)
