"""Relax the crystals of `examples/structures` and compare their lattice parameters with experiment.

    python benchmarks/lattice_parameters.py --output lattice.md lattice.json
    python benchmarks/lattice_parameters.py --model default --files LiFePO4.cif MgO.cif
    python benchmarks/lattice_parameters.py --calculator ase.calculators.emt:EMT --files Cu.cif Al.cif

Positions and cell are relaxed from the experimental structure, as a user would, with the space group kept (`--free`
lets go of it and shows whether the crystal stays in it). Experiments were done at room temperature in most cases and
models give the static lattice, a difference of 0.1 to 0.5 % in most crystals. Runs on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.calculators.calculator import BaseCalculator
from ase.io import read

from forcefield.workflows import relax

STRUCTURES = Path(__file__).resolve().parents[1] / "examples" / "structures"
LENGTHS = ("a", "b", "c")
ANGLES = ("alpha", "beta", "gamma")
LIMITS = (5.0, 2.0)  # per cent


@dataclass(frozen=True)
class Row:
    """One crystal: lengths in Å, angles in degrees, errors in per cent of experiment, time in s."""

    file: str
    formula: str
    bonding: str
    spacegroup_experiment: str
    spacegroup_before: str
    spacegroup_after: str
    symmetry_kept: bool
    experiment: list[float]  # a, b, c, alpha, beta, gamma
    relaxed: list[float]  # the same
    errors: list[float]  # of a, b, c
    angle_error: float  # largest, degrees
    volume_error: float
    independent: list[float]  # errors of those lengths that symmetry does not make equal
    converged: bool
    reason: str
    steps: int
    seconds: float
    temperature_K: float
    source: str

    @property
    def worst(self) -> float:
        """The largest of the errors of a, b, c without sign (%)."""
        return max(abs(error) for error in self.errors)


@dataclass(frozen=True)
class Failure:
    """A crystal that the calculator or the relaxation refused, with what it said. It counts as wrong."""

    file: str
    formula: str
    bonding: str
    error: str


def load_calculator(name: str) -> BaseCalculator:
    """Import "module:Class" and call it without arguments.

    Raises:
        ValueError: if the text has not this form or the module has no such class.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"--calculator is {name!r}, but must be module:Class, such as ase.calculators.emt:EMT.")
    loaded = importlib.import_module(module)
    if not hasattr(loaded, attribute):
        raise ValueError(f"Module {module} has no {attribute}; check the text after the colon in {name!r}.")
    return getattr(loaded, attribute)()


def independent_lengths(spacegroup: int) -> tuple[int, ...]:
    """Which of a, b, c differ by symmetry: cubic a, tetragonal to hexagonal a and c, lower ones all three."""
    if spacegroup >= 195:
        return (0,)
    return (0, 2) if spacegroup >= 75 else (0, 1, 2)


def relax_crystal(file: str, entry: dict[str, Any], calculator: BaseCalculator, options: dict[str, Any]) -> Row:
    """Relax one crystal from its experimental structure and compare the cells."""
    start = time.perf_counter()
    result = relax(read(STRUCTURES / file), calculator, cell=True, **options)
    seconds = time.perf_counter() - start
    experiment = np.array([entry[name] for name in (*LENGTHS, *ANGLES)])
    relaxed = result.atoms.cell.cellpar()
    errors = 100.0 * (relaxed[:3] / experiment[:3] - 1.0)
    assert result.volume_change is not None
    return Row(
        file=file,
        formula=entry["formula"],
        bonding=entry["bonding"],
        spacegroup_experiment=f"{entry['symbol']} ({entry['spacegroup']})",
        spacegroup_before=str(result.spacegroup_before),
        spacegroup_after=str(result.spacegroup_after),
        symmetry_kept=result.spacegroup_after is not None and result.spacegroup_after.number == entry["spacegroup"],
        experiment=experiment.tolist(),
        relaxed=relaxed.tolist(),
        errors=errors.tolist(),
        angle_error=float(np.abs(relaxed[3:] - experiment[3:]).max()),
        volume_error=100.0 * result.volume_change,
        independent=errors[list(independent_lengths(entry["spacegroup"]))].tolist(),
        converged=result.converged,
        reason=result.reason,
        steps=result.steps,
        seconds=seconds,
        temperature_K=entry["temperature_K"],
        source=entry["source"],
    )


def run_benchmark(files: Iterable[str], calculator: BaseCalculator, options: dict[str, Any]) -> list[Row | Failure]:
    """Relax each crystal in turn, printing a line for each; one that fails is reported and does not stop the others."""
    entries = load_crystals()
    rows: list[Row | Failure] = []
    for file in files:
        entry = entries[file]
        try:
            row: Row | Failure = relax_crystal(file, entry, calculator, options)
        except Exception as error:  # whatever a calculator says of a structure belongs into its row
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            row = Failure(file, entry["formula"], entry["bonding"], text)
        rows.append(row)
        print(progress_line(row), flush=True)
    return rows


def load_crystals() -> dict[str, dict[str, Any]]:
    """The crystals of `experiment.json`, without slabs, chains and molecules."""
    entries = json.loads((STRUCTURES / "experiment.json").read_text(encoding="utf-8"))
    return {file: entry for file, entry in entries.items() if entry["kind"] == "crystal"}


def progress_line(row: Row | Failure) -> str:
    """One line for the terminal while the benchmark runs."""
    if isinstance(row, Failure):
        return f"{row.file:20s} failed: {row.error}"
    errors = " ".join(f"{error:+6.2f}" for error in row.errors)
    kept = "" if row.symmetry_kept else f"  now {row.spacegroup_after}"
    return f"{row.file:20s} {errors} %  {row.reason}, {row.steps} steps, {row.seconds:.1f} s{kept}"


def summarise(rows: list[Row | Failure]) -> dict[str, Any]:
    """Shares of crystals with a, b and c all within the limits, and mean errors over the independent lengths (%)."""
    done = [row for row in rows if isinstance(row, Row)]
    lengths = np.array([error for row in done for error in row.independent])
    summary: dict[str, Any] = {"crystals": len(rows), "failed": len(rows) - len(done)}
    for limit in LIMITS:
        summary[f"within_{limit:g}_percent"] = sum(row.worst <= limit for row in done)
    summary |= {
        "converged": sum(row.converged for row in done),
        "symmetry_kept": sum(row.symmetry_kept for row in done),
        "mean_absolute_error_percent": float(np.abs(lengths).mean()) if done else None,
        "mean_error_percent": float(lengths.mean()) if done else None,
        "largest_angle_error_degrees": max((row.angle_error for row in done), default=None),
        "seconds": sum(row.seconds for row in done),
    }
    return summary


def summary_lines(rows: list[Row | Failure]) -> list[str]:
    """The summary of all crystals and of each kind of bonding as a Markdown table."""
    head = ["crystals", "number", *(f"within {limit:g} %" for limit in LIMITS), "mean absolute error", "mean error"]
    head += ["converged", "space group kept"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    kinds = list(dict.fromkeys(row.bonding for row in rows))
    for kind in ["all", *(kinds if len(kinds) > 1 else [])]:
        summary = summarise([row for row in rows if kind in ("all", row.bonding)])
        number = summary["crystals"]
        cells = [kind, str(number)]
        for limit in LIMITS:
            count = summary[f"within_{limit:g}_percent"]
            cells.append(f"{count} ({100 * count / number:.0f} %)")
        for name, form in (("mean_absolute_error_percent", ".2f"), ("mean_error_percent", "+.2f")):
            cells.append("" if summary[name] is None else f"{summary[name]:{form}} %")
        lines.append(f"| {' | '.join([*cells, str(summary['converged']), str(summary['symmetry_kept'])])} |")
    return lines


def table_lines(rows: list[Row | Failure]) -> list[str]:
    """All crystals as a Markdown table."""
    head = ["file", "formula", "space group", "a, b, c relaxed (Å)", "experiment (Å)", "errors (%)", "angles (°)"]
    head += ["volume (%)", "converged", "steps"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in rows:
        if isinstance(row, Failure):
            lines.append(f"| {row.file} | {row.formula} | failed: {row.error} |" + " |" * (len(head) - 3))
            continue
        group = row.spacegroup_before
        if row.spacegroup_after != row.spacegroup_before:
            group += f" → {row.spacegroup_after}"
        relaxed = ", ".join(f"{value:.3f}" for value in row.relaxed[:3])
        experiment = ", ".join(f"{value:.3f}" for value in row.experiment[:3])
        errors = ", ".join(f"{value:+.2f}" for value in row.errors)
        converged = "yes" if row.converged else row.reason
        cells = [row.file, row.formula, group, relaxed, experiment, errors, f"{row.angle_error:.2f}"]
        cells += [f"{row.volume_error:+.1f}", converged, str(row.steps)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def report(rows: list[Row | Failure], settings: dict[str, Any]) -> str:
    """The whole result as Markdown: settings, summary, table, sources."""
    lines = ["# Lattice parameters against experiment", ""]
    lines += [", ".join(f"{name} {value}" for name, value in settings.items()), "", *summary_lines(rows), ""]
    lines += ["The angle is the largest change of alpha, beta, gamma.", "", *table_lines(rows), "", "Experiment:", ""]
    lines += [f"- {row.file} ({row.temperature_K:g} K): {row.source}" for row in rows if isinstance(row, Row)]
    return "\n".join(lines) + "\n"


def write_output(path: Path, rows: list[Row | Failure], settings: dict[str, Any]) -> None:
    """Write the result as Markdown (.md) or JSON (.json)."""
    if path.suffix == ".md":
        path.write_text(report(rows, settings), encoding="utf-8")
        return
    content = {"settings": settings, "summary": summarise(rows), "crystals": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line and refuse unknown files and formats before anything is computed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--model", default="default", help="name or path of a model (default: the shipped one)")
    choice.add_argument("--calculator", metavar="MODULE:CLASS", help="another ASE calculator, called without arguments")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="only these files of examples/structures")
    parser.add_argument("--output", nargs="+", type=Path, default=[], metavar="PATH", help="write .md and/or .json")
    parser.add_argument("--free", action="store_true", help="do not hold the space group during the relaxation")
    parser.add_argument("--optimizer", default="LBFGS", help="as in forcefield.workflows.relax (default: LBFGS)")
    parser.add_argument("--fmax", type=float, default=0.02, help="largest force accepted (eV/Å, default 0.02)")
    parser.add_argument("--steps", type=int, default=300, help="most optimizer steps a crystal (default 300)")
    options = parser.parse_args(arguments)
    known = load_crystals()
    options.files = options.files or list(known)
    if unknown := [file for file in options.files if file not in known]:
        parser.error(f"no crystal {', '.join(unknown)} in experiment.json; it has {', '.join(known)}")
    if wrong := [str(path) for path in options.output if path.suffix not in (".md", ".json")]:
        parser.error(f"--output {', '.join(wrong)}: the name must end in .md or .json")
    return options


def main() -> int:
    """Run the benchmark; the exit status is 1 where a crystal failed."""
    options = parse_arguments()
    torch.set_num_threads(1)
    if options.calculator:
        name, calculator = options.calculator, load_calculator(options.calculator)
    else:
        from forcefield.calculator import GNNCalculator  # a comparison of other calculators does without a model

        name, calculator = f"model {options.model}", GNNCalculator(options.model)
    settings = {
        "calculator": name,
        "torch": torch.__version__,
        "ase": ase.__version__,
        "threads": torch.get_num_threads(),
        "optimizer": options.optimizer,
        "fmax (eV/Å)": options.fmax,
        "steps at most": options.steps,
        "space group": "free" if options.free else "held",
    }
    print(", ".join(f"{key} {value}" for key, value in settings.items()), flush=True)
    chosen = {name: getattr(options, name) for name in ("fmax", "steps", "optimizer")}
    rows = run_benchmark(options.files, calculator, {**chosen, "symmetry": not options.free})
    print("\n" + report(rows, settings))
    for path in options.output:
        write_output(path, rows, settings)
    return int(any(isinstance(row, Failure) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
