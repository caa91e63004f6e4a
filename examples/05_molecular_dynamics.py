"""Molecular dynamics of rock salt at 600 K: temperature, distances, motion.

    python examples/05_molecular_dynamics.py --output examples/output

A thermostat holds the temperature; the first quarter of the run is left out of the analysis. Prints the distance of
nearest neighbours and how far the ions swing about their sites, and draws the radial distributions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import analyse_trajectory, molecular_dynamics, relax
from forcefield.workflows.plots import BLUE, GREY, new_figure, save_figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="8 ions and 60 steps instead of 64 and 1000")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    calculator = GNNCalculator()
    crystal = relax(bulk("NaCl", "rocksalt", a=5.64, cubic=True), calculator, cell=True, symmetry=True).atoms
    run = molecular_dynamics(
        crystal * ((1, 1, 1) if options.quick else (2, 2, 2)),
        calculator,
        temperature=600.0,
        steps=60 if options.quick else 1000,
        timestep=2.0,
        thermostat_time=50.0,
        log_interval=2,
        frame_interval=2,
        seed=3,
    )
    temperature = run.averages["temperature_K"]
    print(f"{run.verdict}: {run.time_ps:.1f} ps, mean temperature {temperature.mean:.0f} ± {temperature.error:.0f} K")
    trajectory = analyse_trajectory(run.frames[len(run.frames) // 4 :], cutoff=6.0, bins=120)

    figure, (left, right) = new_figure(columns=2, width=8.0, height=3.2)
    left.plot(run.thermo["time_ps"], run.thermo["temperature_K"], color=BLUE, lw=0.8)
    left.axhline(600.0, color=GREY, lw=0.8, ls="--")
    left.set(xlabel="time (ps)", ylabel="temperature (K)")
    for distribution in trajectory.distributions[1:]:  # the first is that of all pairs together
        pair = "-".join(distribution.pair)
        peak = distribution.distances[int(np.argmax(distribution.density))]
        print(f"{pair}: most frequent distance {peak:.2f} Å")
        right.plot(distribution.distances, distribution.density, label=pair)
    for symbol in ("Na", "Cl"):
        print(f"{symbol}: mean square displacement {trajectory.displacements[symbol][1:].mean():.3f} Å² in time")
    right.set(xlabel="distance (Å)", ylabel="g(r)")
    right.legend(frameon=False)
    print(f"picture: {save_figure(figure, options.output / '05_molecular_dynamics.png')}")


if __name__ == "__main__":
    main()
