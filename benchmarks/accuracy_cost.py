"""Accuracy against cost of the installed models: which one earns its place?

    python benchmarks/accuracy_cost.py VALIDATION --output docs/models.md --picture docs/images/accuracy_cost.png

VALIDATION is a store or file of frames on the models' energy scale that none of them was trained on. The cost is the
processor time of energy, forces and stress of 512 rattled atoms of rock salt through ASE on one thread, the shortest of
some calls made in turn for all models. Prints Markdown.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from ase.build import bulk
from matplotlib.figure import Figure

from forcefield import GNNCalculator
from forcefield.models import list_models, load_model
from forcefield.train.breakdown import errors
from forcefield.train.comparison import compare
from forcefield.train.evaluate import predict_data
from forcefield.train.export import hardware

REPEATS = 8


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--models", nargs="+", default=[model["name"] for model in list_models()])
    parser.add_argument("--output", type=Path, help="Markdown file")
    parser.add_argument("--picture", type=Path, help="PNG file")
    options = parser.parse_args()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        costs = cost(options.models)
        rows = [row(name, options.validation, costs[name]) for name in options.models]
    finally:
        torch.set_num_threads(before)
    text = markdown(rows)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    if options.picture is not None:
        draw(rows, options.picture)


def cost(models: list[str]) -> dict[str, float]:
    """Processor time for each atom (µs) of each model."""
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=0)
    calculators = {name: GNNCalculator(name, device="cpu", confidence=False) for name in models}
    best = dict.fromkeys(models, float("inf"))
    for repeat in range(REPEATS + 1):
        for name, calculator in calculators.items():
            moved = atoms.copy()
            moved.rattle(1e-3, seed=repeat + 1)
            start = time.process_time()
            calculator.calculate(moved)
            if repeat:  # the first call warms up
                best[name] = min(best[name], time.process_time() - start)
    return {name: 1e6 * seconds / len(atoms) for name, seconds in best.items()}


def row(name: str, validation: Path, microseconds: float) -> dict[str, Any]:
    """One model's line."""
    model = load_model(name)
    found = errors(compare(predict_data(model.potential, validation)))["all"]
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.potential.network.parameters()),
        "microseconds": microseconds,
        "energy": 1e3 * found["energy"]["mae"],
        "forces": 1e3 * found["forces"]["mae"],
        "stress": found["stress"]["mae"],
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "# Accuracy and cost of the shipped models",
        "",
        f"`python benchmarks/accuracy_cost.py VALIDATION` on {hardware('cpu')}: errors against the labels of the "
        "validation split, time of energy, forces and stress of 512 atoms of rock salt on one thread.",
        "",
        "| model | parameters | µs/atom | atoms/s | energy MAE (meV/atom) | forces MAE (meV/Å) | stress MAE (GPa) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['name']} | {r['parameters']:,} | {r['microseconds']:.0f} | {1e6 / r['microseconds']:,.0f} "
        f"| {r['energy']:.0f} | {r['forces']:.0f} | {r['stress']:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Errors of forces and energy over the cost."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axes, key, unit in zip(figure.subplots(1, 2), ("forces", "energy"), ("meV/Å", "meV/atom"), strict=True):
        for r in rows:
            axes.scatter(r["microseconds"], r[key], s=40, color="#1f5fa8")
            axes.annotate(r["name"], (r["microseconds"], r[key]), xytext=(6, 4), textcoords="offset points")
        axes.set(xlabel="µs per atom, one thread", ylabel=f"{key} MAE ({unit})")
        axes.set_xlim(0, 1.4 * max(r["microseconds"] for r in rows))
        axes.set_ylim(0, 1.25 * max(r[key] for r in rows))
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
