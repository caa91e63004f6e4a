"""Dynamics with LAMMPS as a user would run it: energy drift, and the time of the melt in examples/lammps beside ASE.

    python benchmarks/lammps_dynamics.py drift --write       # about 4 minutes on two idle cores
    python benchmarks/lammps_dynamics.py melt --write        # about 2 minutes

`--write` fills the marked places of docs/lammps.md and, for the drift, draws its picture.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marked import fill
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "lammps.md"
PICTURE = ROOT / "docs" / "images" / "lammps_drift.png"
MELT = ROOT / "examples" / "lammps" / "melt.in"
RUNS = ((1, 2.0), (2, 2.0), (1, 1.0))
"""Processes and time step (fs) of the runs whose energy is followed."""
CONSTANT_ENERGY = """units metal
atom_style atomic
lattice fcc 5.64
region crystal block 0 {cells} 0 {cells} 0 {cells}
create_box 2 crystal
create_atoms 1 box
lattice fcc 5.64 origin 0.5 0 0
create_atoms 2 box
mass 1 22.990
mass 2 35.453
pair_style forcefield
pair_coeff * * Na Cl
neighbor 1.0 bin
timestep {timestep}
velocity all create 1200 42 mom yes rot no loop geom
fix motion all nve
variable total equal etotal
variable temperature equal temp
fix record all ave/time {every} 1 {every} v_total v_temperature file record.txt format " %.12g"
thermo 1000
run {steps}
"""


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=["drift", "melt"])
    add("--picoseconds", type=float, default=3.0, help="length of each run whose energy is followed")
    add("--cells", type=int, help="cells along each axis  [default: 2 for the drift, 64 ions; 8 for the melt, 4096]")
    add("--scale", type=float, default=0.002, help="of the melt's 10,000 steps")
    add("--model", default="default", help="name or folder of a model")
    add("--write", action="store_true", help="write into docs/lammps.md")
    options = parser.parse_args()
    if Path(options.model).is_dir():
        options.model = str(Path(options.model).resolve())  # runs have folders of their own
    text = {"drift": drift, "melt": melt}[options.what](options)
    print(text)
    if options.write:
        fill(PAGE, options.what, text)


def drift(options: argparse.Namespace) -> str:
    """Follow the energy; the table."""
    cells = options.cells or 2
    n_atoms, lines, curves = 8 * cells**3, [], {}
    for processes, timestep in RUNS:
        steps = max(round(1000 * options.picoseconds / timestep), 4)
        values = {"cells": cells, "timestep": timestep / 1000, "steps": steps, "every": max(steps // 300, 1)}
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "run.in").write_text(CONSTANT_ENERGY.format(**values))
            lammps(processes, ["-in", "run.in", "-log", "none", "--model", options.model], Path(name))
            step, energy, temperature = np.loadtxt(Path(name) / "record.txt", unpack=True)
        times = step * timestep / 1000
        slope, rest = line_through(times, 1000 * energy / n_atoms)
        curves[f"{timestep:g} fs, np {processes}"] = times, 1000 * (energy - energy[0]) / n_atoms
        late = temperature[len(temperature) // 4 :].mean()
        lines.append(f"| {processes} | {timestep:g} | {times[-1]:g} | {late:.0f} | {slope:+.4f} | {rest:.4f} |")
    if options.write:
        draw(curves)
    return "\n".join(
        [
            f"`python benchmarks/lammps_dynamics.py drift`: {n_atoms} ions of rock salt at constant energy, the model "
            f"{Path(options.model).name} in float32.",
            "",
            "| processes | time step, fs | length, ps | temperature, K | drift, meV/atom/ps | fluctuation, meV/atom |",
            "|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
            "![Total energy along constant-energy runs](images/lammps_drift.png)",
        ]
    )


def line_through(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float]:
    """Slope of the straight line through values over times, and the standard deviation from it."""
    slope, start = np.polyfit(times, values, 1)
    return float(slope), float(np.std(values - start - slope * times))


def draw(curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
    """The energies over time as a picture."""
    from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

    figure, (axis,) = new_figure(width=5.5, height=3.0)
    for (label, (times, values)), colour in zip(curves.items(), (BLUE, ORANGE, GREY), strict=True):
        axis.plot(times, values, color=colour, label=label, linewidth=0.8)
    axis.set_xlabel("time (ps)")
    axis.set_ylabel("total energy (meV/atom)")
    axis.legend(frameon=False)
    save_figure(figure, PICTURE)


def melt(options: argparse.Namespace) -> str:
    """Time the melt with one and two processes of LAMMPS, and its first part with ASE; the table."""
    cells = options.cells or 8
    words = ["-in", str(MELT), "-log", "none", "-screen", "none", "--model", options.model, "--report", "report.json"]
    words += ["-var", "cells", str(cells), "-var", "scale", str(options.scale)]
    seconds, shares = {}, {}
    for processes in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            lammps(processes, words, Path(name))
            report = json.loads((Path(name) / "report.json").read_text())
        label = f"LAMMPS, np {processes}"
        seconds[label], parts = report["seconds_per_step"], report["seconds"]
        shares[label] = f"{100 * parts['network'] / sum(parts.values()):.1f} %"
    seconds["ASE"] = seconds_of_ase(cells, options.model)
    n_atoms, one = 8 * cells**3, seconds["LAMMPS, np 1"]
    rows = [
        f"| {label} | {each:.3g} | {n_atoms / each:,.0f} | {one / each:.2f} | {shares.get(label, '-')} |"
        for label, each in seconds.items()
    ]
    return "\n".join(
        [
            f"`python benchmarks/lammps_dynamics.py melt`: `examples/lammps/melt.in` with {n_atoms:,} ions at constant "
            f"pressure, {report['calls']} evaluations, beside ASE's `NPTBerendsen`; one thread a process.",
            "",
            "| | s a step | atoms/s | relative to np 1 | network's share |",
            "|---|---:|---:|---:|---:|",
            *rows,
        ]
    )


def seconds_of_ase(cells: int, model: str, steps: int = 10) -> float:
    """Seconds of a step of ASE at constant pressure, for the same ions at the same temperature."""
    import torch
    from ase import units
    from ase.build import bulk
    from ase.md.nptberendsen import NPTBerendsen

    from forcefield import GNNCalculator

    torch.set_num_threads(1)
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * cells
    atoms.calc = GNNCalculator(model, device="cpu", skin=1.0)
    widths = np.sqrt(2500 * units.kB * atoms.get_masses())[:, None]
    atoms.set_momenta(widths * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    atoms.get_forces()
    bath = {"taut": 100 * units.fs, "taup": 1000 * units.fs, "compressibility_au": 4.0e-5 / units.bar}
    dynamics = NPTBerendsen(atoms, 2 * units.fs, temperature_K=2500, pressure_au=0.0, **bath)
    start = time.perf_counter()
    dynamics.run(steps)
    return (time.perf_counter() - start) / steps


def lammps(processes: int, words: Sequence[Any], folder: Path) -> None:
    """Run LAMMPS with the force field; its errors end the benchmark."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        sys.exit('there is no mpirun beside this Python; install it with: pip install "gnn-forcefield[lammps]"')
    command = [mpirun, "-np", str(processes), sys.executable, "-m", "forcefield.lammps", *words, "--threads", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")


if __name__ == "__main__":
    main()
