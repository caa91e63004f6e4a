"""What `get_confidence` finds: calibration of the model, altered crystals, and what looking costs; docs/confidence.md.

    python benchmarks/confidence.py --output table.md
    python benchmarks/confidence.py --reference module:Class      # and how often a warning is right

The calibration is what `forcefield confidence` measured on validation materials that it was not calibrated with. The
altered structures are made here from those of examples/structures, seeded. With an ASE calculator that the model should
agree with, such as the one that labelled its data, a warning is compared with the error.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import BaseCalculator
from ase.io import read

from forcefield import GNNCalculator
from forcefield.calculator import OutsideDataWarning
from forcefield.cli.io import load_calculator
from forcefield.confidence_files import load_domain
from forcefield.models import model_folder

STRUCTURES = Path(__file__).parents[1] / "examples" / "structures"
SUFFIXES = {".cif", ".xyz", ".extxyz", ".xsf", ".POSCAR"}
MOST_ATOMS = 60
WRONG_ENERGY, WRONG_FORCE = 0.15, 1.0
"""Errors of the energy (eV/atom) and of the mean force (eV/Å) beyond which a warning is due."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="model with confidence data")
    parser.add_argument("--reference", metavar="MODULE:CLASS", help="ASE calculator that tells right from wrong")
    parser.add_argument("--output", type=Path, help="Markdown file")
    options = parser.parse_args()
    lines = [*calibration(load_domain(model_folder(options.model)).facts), ""]
    lines += [*altered_table(options.model), ""]
    if options.reference:
        lines += [*right_warnings(options.model, load_calculator(options.reference, None, None, None)), ""]
    lines += [*silence(options.model), "", *overhead(options.model)]
    report = "\n".join(lines)
    print(report)
    if options.output:
        options.output.write_text(report + "\n", encoding="utf-8")


def calibration(facts: dict[str, Any]) -> list[str]:
    """Tables of the facts."""
    found = facts["quality"]
    lines = ["| atoms ranked by | rank correlation with the error | worst tenth caught |", "| --- | --- | --- |"]
    for name, value in found["spearman"].items():
        lines.append(f"| {name.replace('_', ' ')} | {value:.2f} | {100 * found['worst_tenth_caught'][name]:.0f} % |")
    lines += ["", "| atoms | share | expected (eV/Å) | found: mean | median | 90 % below |", "| --- " * 6 + "|"]
    named = list(found["by_verdict"].items())
    named += [(f"tenth {k}", entry) for k, entry in enumerate(found["by_tenth"], start=1)]
    for name, entry in named:
        cells = [entry[key] for key in ("expected", "found", "found_median", "found_90")]
        numbers = " | ".join("-" if value is None else f"{value:.2f}" for value in cells)
        lines.append(f"| {name} | {100 * entry['share']:.2f} % | {numbers} |")
    return lines


def structures() -> Iterator[tuple[str, Atoms]]:
    """The example structures."""
    for path in sorted(STRUCTURES.iterdir()):
        if path.suffix in SUFFIXES:
            atoms = read(path, format="vasp" if path.suffix == ".POSCAR" else None)
            assert isinstance(atoms, Atoms)
            yield path.name, atoms


def scaled(factor: float) -> Callable[[Atoms, np.random.Generator], Atoms]:
    """Cell and atoms stretched by a factor."""

    def change(atoms: Atoms, _: np.random.Generator) -> Atoms:
        atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
        return atoms

    return change


def rattled(size: float) -> Callable[[Atoms, np.random.Generator], Atoms]:
    """Atoms displaced by a normal distribution (Å)."""

    def change(atoms: Atoms, generator: np.random.Generator) -> Atoms:
        atoms.positions += generator.normal(scale=size, size=atoms.positions.shape)
        return atoms

    return change


def random_positions(atoms: Atoms, generator: np.random.Generator) -> Atoms:
    """The same cell with atoms anywhere."""
    atoms.set_scaled_positions(generator.random((len(atoms), 3)))
    return atoms


CHANGES: dict[str, Callable[[Atoms, np.random.Generator], Atoms]] = {
    "as it is": scaled(1.0),
    **{f"lengths x {factor}": scaled(factor) for factor in (0.95, 1.05, 0.9, 1.1, 0.8, 1.2, 0.7, 1.35, 1.6)},
    **{f"displaced by {size} Å": rattled(size) for size in (0.1, 0.2, 0.3, 0.6)},
    "random positions": random_positions,
}


def altered_crystals() -> list[Atoms]:
    """Those of the example structures that are changed."""
    return [atoms for _, atoms in structures() if atoms.pbc.all() and len(atoms) <= MOST_ATOMS]


def altered_table(model: str) -> list[str]:
    """How the crystals among the examples are judged after each change."""
    calculator = GNNCalculator(model, confidence=False, check_overlaps=False)
    crystals = altered_crystals()
    lines = [
        f"| {len(crystals)} crystals | inside | at the edge | outside | warns | expected force error (eV/Å) |",
        "| --- " * 6 + "|",
    ]
    for name, change in CHANGES.items():
        generator = np.random.default_rng(0)
        found = [calculator.get_confidence(change(atoms.copy(), generator)) for atoms in crystals]
        shares = [
            np.mean([one.verdict == verdict for one in found]) for verdict in ("inside", "at the edge", "outside")
        ]
        shares.append(np.mean([one.is_far for one in found]))
        error = np.median([one.force_error.mean() for one in found])
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + f" | {error:.2f} |")
    return lines


def right_warnings(model: str, reference: BaseCalculator) -> list[str]:
    """For each change: errors against the reference, and how many wrong and how many right results warn."""
    calculator = GNNCalculator(model, confidence=False, check_overlaps=False)
    crystals = altered_crystals()
    lines = [
        "| | energy error, median (meV/atom) | force error, median (eV/Å) | wrong | these warn | right | these warn |",
        "| --- " * 7 + "|",
    ]
    totals = np.zeros(4, dtype=int)
    for name, change in CHANGES.items():
        generator = np.random.default_rng(0)
        rows = [judged(calculator, reference, change(atoms.copy(), generator)) for atoms in crystals]
        energy, force, warned = (np.array(column) for column in zip(*rows, strict=True))
        wrong = (energy > WRONG_ENERGY) | (force > WRONG_FORCE)
        counts = [wrong.sum(), (wrong & warned).sum(), (~wrong).sum(), (~wrong & warned).sum()]
        totals += counts
        figures = f"{1000 * np.median(energy):.0f} | {np.median(force):.2f}"
        lines.append(f"| {name} | {figures} | " + " | ".join(str(count) for count in counts) + " |")
    return [*lines, "| all | | | " + " | ".join(str(count) for count in totals) + " |"]


def judged(calculator: GNNCalculator, reference: BaseCalculator, atoms: Atoms) -> tuple[float, float, bool]:
    """Errors of energy (eV/atom) and forces (mean, eV/Å) of a structure, and whether it warns."""
    energy = calculator.get_potential_energy(atoms) - reference.get_potential_energy(atoms)
    forces = calculator.get_forces(atoms) - reference.get_forces(atoms)
    far = calculator.get_confidence(atoms).is_far
    return abs(energy) / len(atoms), float(np.linalg.norm(forces, axis=1).mean()), far


def silence(model: str) -> list[str]:
    """Which of the example structures warn in a calculator with its defaults."""
    loud = []
    for name, atoms in structures():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            GNNCalculator(model).get_potential_energy(atoms)
        if any(issubclass(one.category, OutsideDataWarning) for one in caught):
            loud.append(name)
    count = sum(1 for _ in structures())
    return [f"{len(loud)} of {count} example structures warn{': ' + ', '.join(loud) if loud else ''}."]


def overhead(model: str, repeats: int = 7) -> list[str]:
    """Time of forces of a new structure with and without looking, and of `get_confidence` after them (CPU)."""
    lines = [
        f"| silicon atoms ({torch.get_num_threads()} thread) | forces (ms) | forces, looked at (ms) | "
        "`get_confidence` after them (ms) |",
        "| --- " * 4 + "|",
    ]
    for count in (1, 3):
        atoms = bulk("Si", cubic=True) * (count, count, count)
        times: dict[str, list[float]] = {"off": [], "on": [], "after": []}
        engines = {
            name: GNNCalculator(model, device="cpu", skin=0.0, confidence=name == "on") for name in ("off", "on")
        }
        for k in range(repeats + 1):
            moved = atoms.copy()
            moved.rattle(0.01, seed=k)
            for name, engine in engines.items():
                times[name].append(_milliseconds(lambda e=engine, a=moved: e.get_forces(a)))
            times["after"].append(_milliseconds(lambda e=engines["on"], a=moved: e.get_confidence(a)))
        best = [f"{min(values[1:]):.1f}" for values in times.values()]
        lines.append(f"| {len(atoms)} | " + " | ".join(best) + " |")
    return lines


def _milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1000.0 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
