"""Peak memory of a call on a CPU against atoms and neighbours, and the fit behind `calc.estimate_memory(atoms)`.

    OMP_NUM_THREADS=1 python benchmarks/memory.py            # measure, fit, compare (Linux)
    python benchmarks/memory.py --output docs/memory.json

Each structure is computed in a process of its own, by the calculator, with neighbour search and all. The peak is that
of the resident memory (VmHWM) after a first small call, so that the model and the libraries do not count. The
structures of `HELD_OUT` are not part of the fit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from scipy.optimize import nnls

CRYSTALS = {
    "NaCl": ("NaCl", {"crystalstructure": "rocksalt", "a": 5.64, "cubic": True}),
    "Ni": ("Ni", {"cubic": True}),
    "W": ("W", {"cubic": True}),
    "Si": ("Si", {"cubic": True}),
    "C": ("C", {"cubic": True}),
}
SIZES = {
    "NaCl": (64, 216, 1000, 4096),
    "Ni": (108, 500, 2048, 4000),
    "W": (128, 1024, 3456),
    "Si": (64, 1000, 4096),
    "C": (216, 1000, 4096),
}
HELD_OUT = ("W", "Si")


def main() -> None:
    """Measure every structure, fit, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("CRYSTAL", "ATOMS", "DTYPE"), help="measure one, in this process")
    parser.add_argument("--rows", type=Path, help="rows measured before, as JSON")
    parser.add_argument("--output", type=Path, help="where to write rows and constants as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]), options.one[2])))
        return
    rows = json.loads(options.rows.read_text())["rows"] if options.rows else measure_all()
    constants = fit([row for row in rows if row["crystal"] not in HELD_OUT and row["dtype"] == "float32"])
    report(rows, constants)
    if options.output:
        options.output.write_text(json.dumps({"constants": constants, "rows": rows}, indent=1) + "\n")


def measure_all() -> list[dict[str, Any]]:
    """Measure every structure in its own process."""
    cases = [(crystal, size, "float32") for crystal, sizes in SIZES.items() for size in sizes]
    rows = []
    for case in [*cases, ("NaCl", 1000, "float64"), ("Ni", 2048, "float64")]:
        command = [sys.executable, __file__, "--one", *map(str, case)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    return rows


def build(crystal: str, size: int) -> Atoms:
    """About so many atoms of a crystal, displaced at random."""
    symbol, options = CRYSTALS[crystal]
    cell = bulk(symbol, **options)
    atoms = cell * ((round((size / len(cell)) ** (1 / 3)),) * 3)
    atoms.rattle(0.05, seed=1)
    return atoms


def measure(crystal: str, size: int, dtype: str) -> dict[str, Any]:
    """Peak memory of one call in this process, in bytes, and what it is estimated from."""
    import torch

    from forcefield import GNNCalculator
    from forcefield.memory import reference_graph, size_of, tensor_bytes

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    calculator = GNNCalculator(device="cpu", dtype=dtype)
    first = bulk("NaCl", "rocksalt", a=5.64)
    first.calc = calculator
    first.get_forces()
    atoms = build(crystal, size)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    atoms.calc = calculator
    atoms.get_forces()
    peak = resident("VmHWM") - before
    found = size_of(calculator.graph(atoms))
    tensors = tensor_bytes(calculator.model.potential, reference_graph(calculator.model.potential))
    return {
        **{"crystal": crystal, "dtype": dtype, "atoms": found.atoms, "edges": found.edges, "most": found.most},
        **{"peak": peak, "estimate": calculator.estimate_memory(atoms), "reference_tensors": tensors},
    }


def resident(name: str) -> int:
    """A figure of the process's memory (bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{name} is not in /proc/self/status; this benchmark needs Linux")


def columns(row: dict[str, Any]) -> list[float]:
    """What the constants of `forcefield.memory` multiply, for the shipped model."""
    from forcefield import GNNCalculator
    from forcefield.memory import Size, counts

    network = GNNCalculator(device="cpu").model.potential.network
    return list(counts(Size(row["atoms"], row["edges"], row["most"]), network))


def fit(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Constants of `forcefield.memory` by least squares of the relative error."""
    table = np.array([[1.0, *columns(row)] for row in rows])
    peaks = np.array([row["peak"] for row in rows], dtype=float)
    solution, _ = nnls(table / peaks[:, None], np.ones(len(rows)))
    names = ("BASE", "PER_SLOT", "PER_ATOM", "PER_SLOT_OUTSIDE_BLOCK", "PER_ATOM_OUTSIDE_BLOCK")
    return {**dict(zip(names, solution.tolist(), strict=True)), "REFERENCE_TENSORS": rows[0]["reference_tensors"]}


def predicted(row: dict[str, Any], constants: dict[str, float]) -> float:
    """What the constants say of a row (bytes)."""
    base, *rest = list(constants.values())[:4]
    fitted = float(np.dot(rest, columns(row)))
    return base + fitted * row["reference_tensors"] / constants["REFERENCE_TENSORS"]


def report(rows: list[dict[str, Any]], constants: dict[str, float]) -> None:
    """Print the constants and a table in Markdown."""
    print({name: round(value, 1) for name, value in constants.items()})
    print("| crystal | dtype | atoms | neighbour pairs | most neighbours | peak, MB | fit, MB | off |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        value = predicted(row, constants)
        name = row["crystal"] + (" (held out)" if row["crystal"] in HELD_OUT else "")
        print(
            f"| {name} | {row['dtype']} | {row['atoms']:,} | {row['edges']:,} | {row['most']} "
            f"| {row['peak'] / 1e6:.1f} | {value / 1e6:.1f} | {100 * (value / row['peak'] - 1):+.0f} % |"
        )


if __name__ == "__main__":
    main()
