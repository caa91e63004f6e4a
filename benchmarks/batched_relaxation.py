"""Structures relaxed per minute: many at once against one by one, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/batched_relaxation.py --structures 100 --max-edges 3000,12000 --output speed.md
    python benchmarks/batched_relaxation.py --device cuda --structures 2000 --alone 50

The structures are small crystals of `examples/structures`, each displaced and strained in its own way, so that they
need different numbers of steps. One by one only the first `--alone` of them are relaxed, which gives the rate; their
final energies and volumes are compared with those of the batch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from ase.io import read

from forcefield import GNNCalculator
from forcefield.workflows import RelaxResult, relax
from forcefield.workflows.batched import relax_many

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "structures"
CRYSTALS = ("Al.cif", "NaCl.cif", "Si.cif", "MgO.cif", "GaN.cif", "TiO2_rutile.cif", "CaF2.cif", "Mg.cif", "ZnS.cif")
HEAD = (
    "| way | neighbour pairs | structures | steps | seconds | CPU seconds | structures/minute | per CPU minute "
    "| faster by |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Row:
    """One way of relaxing the structures."""

    way: str
    max_edges: int | None
    structures: int
    steps: int
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Structures per minute of CPU time, or of the clock where the work is done on a GPU."""
        return 60.0 * self.structures / self.cpu

    def line(self, reference: Row, *, by_clock: bool) -> str:
        """Row of the table."""
        speed, base = (60.0 * row.structures / (row.wall if by_clock else row.cpu) for row in (self, reference))
        cells = [self.way, "-" if self.max_edges is None else f"{self.max_edges:,}", str(self.structures)]
        cells += [str(self.steps), f"{self.wall:.1f}", f"{self.cpu:.1f}", f"{60.0 * self.structures / self.wall:.1f}"]
        cells += [f"{self.rate:.1f}", "-" if self is reference else f"{speed / base:.1f} times"]
        return "| " + " | ".join(cells) + " |"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--structures", type=int, default=45)
    parser.add_argument("--alone", type=int, help="structures relaxed one by one  [default: all]")
    parser.add_argument("--max-edges", default="12000", help="sizes of the batch, separated by commas")
    parser.add_argument("--engines", default="own", help="own, torch-sim or own,torch-sim")
    parser.add_argument("--optimizer", default="FIRE", choices=["FIRE", "LBFGS"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--output", type=Path, help="write the report there")
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    options.max_edges = [int(word) for word in options.max_edges.split(",")]
    options.engines = options.engines.split(",")
    options.alone = min(options.structures, options.alone or options.structures)
    return options


def make_structures(count: int) -> list[ase.Atoms]:
    """Small crystals in turn, each displaced by 0.06 Å and strained by up to 4 %."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        atoms = read(FOLDER / CRYSTALS[number % len(CRYSTALS)])
        assert isinstance(atoms, ase.Atoms)
        atoms.calc = None
        strain = random.uniform(-0.04, 0.04, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += random.normal(0.0, 0.06, atoms.positions.shape)
        made.append(atoms)
    return made


def timed(way: str, max_edges: int | None, work: Callable[[], list[RelaxResult]]) -> tuple[Row, list[RelaxResult]]:
    """Run and measure."""
    wall, cpu = time.perf_counter(), time.process_time()
    results = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(way, max_edges, len(results), sum(result.steps for result in results), wall, cpu), results


def measure(options: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """All rows, the one by one first, and the largest differences from it."""
    calculator = GNNCalculator(options.model, device=options.device, dtype=options.dtype)
    own = {"cell": True, "optimizer": options.optimizer, "steps": options.steps}
    structures = make_structures(options.structures)
    relax(structures[0], calculator, **own)  # what is done once only

    def together(engine: str, max_edges: int) -> list[RelaxResult]:
        outcomes = relax_many(structures, calculator, max_edges=max_edges, engine=engine, **own)
        failed = [outcome.error for outcome in outcomes if outcome.result is None]
        if failed:
            raise RuntimeError(f"{len(failed)} structures failed, the first because: {failed[0]}")
        return [outcome.result for outcome in outcomes if outcome.result is not None]

    first, alone = timed("one by one", None, lambda: [relax(s, calculator, **own) for s in structures[: options.alone]])
    print(HEAD, first.line(first, by_clock=False), sep="\n", flush=True)
    rows, differences = [first], {"energy (eV/atom)": 0.0, "volume (%)": 0.0}
    for engine, max_edges in product(options.engines, options.max_edges):
        if engine != "own":
            together(engine, max_edges)  # its modules are loaded once only
        way = "batch" if engine == "own" else f"batch, {engine}"
        row, results = timed(way, max_edges, partial(together, engine, max_edges))
        print(row.line(first, by_clock=calculator.model.potential.device.type != "cpu"), flush=True)
        rows.append(row)
        for name, value in compare(results, alone).items():
            differences[name] = max(differences[name], value)
    return rows, differences


def compare(results: list[RelaxResult], reference: list[RelaxResult]) -> dict[str, float]:
    """Largest differences of the structures that both have."""
    pairs = list(zip(results, reference, strict=False))
    energy = max(abs(one.energy_per_atom - other.energy_per_atom) for one, other in pairs)
    volume = max(abs(one.atoms.get_volume() / other.atoms.get_volume() - 1.0) for one, other in pairs)
    return {"energy (eV/atom)": energy, "volume (%)": 100.0 * volume}


def main() -> None:
    options = parse_arguments()
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        rows, differences = measure(options)
    finally:
        torch.set_num_threads(before)
    on_gpu = options.device != "cpu" and torch.cuda.is_available()
    machine = {
        "device": torch.cuda.get_device_name(0) if on_gpu else f"CPU ({platform.machine()}), {options.threads} thread",
        "torch": torch.__version__,
        "optimizer": options.optimizer,
        "precision": options.dtype,
        "load average": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }
    lines = [f"{name}: {value}  " for name, value in machine.items()]
    lines += ["", HEAD, *(row.line(rows[0], by_clock=on_gpu) for row in rows), ""]
    lines.append("Largest differences from one by one: " + ", ".join(f"{v:.1e} {k}" for k, v in differences.items()))
    print("", lines[-1], sep="\n")
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if options.json:
        content: dict[str, Any] = {"machine": machine, "rows": [asdict(row) for row in rows], "largest": differences}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
