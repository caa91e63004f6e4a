"""Heat aluminium until it melts: volume and mean square displacement along a ramp of temperature.

    python examples/06_melting.py --output examples/output

A perfect crystal without surface melts far above its melting point (933 K) when it is heated within picoseconds, so
this is a demonstration of ramps and constant pressure, not a way to find the melting point; for that, a solid and a
liquid must be in contact.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import molecular_dynamics, relax
from forcefield.workflows.plots import BLUE, ORANGE, new_figure, save_figure
from forcefield.workflows.trajectory_analysis_motion import drift_removed, unwrapped_positions

HOT = 3000.0  # K at the end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="4 atoms and 60 steps instead of 32 and 2000")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    calculator = GNNCalculator()
    crystal = relax(bulk("Al", cubic=True), calculator, cell=True, symmetry=True).atoms
    run = molecular_dynamics(
        crystal * ((1, 1, 1) if options.quick else (2, 2, 2)),
        calculator,
        ensemble="npt",
        temperature=300.0,
        final_temperature=HOT,
        steps=60 if options.quick else 2000,
        timestep=2.0,
        thermostat_time=50.0,
        barostat_time=300.0,
        log_interval=5,
        frame_interval=5,
        seed=1,
    )
    print(f"{run.verdict}: {run.time_ps:.1f} ps, {run.ns_per_day:.2f} ns a day")
    target = 300.0 + (HOT - 300.0) * run.thermo["step"] / run.options.steps
    volume = run.thermo["volume_A3"] / len(run.atoms)
    paths = drift_removed(unwrapped_positions(run.frames), run.atoms.get_masses())
    moved = ((paths - paths[0]) ** 2).sum(axis=2).mean(axis=1)  # Å², one a frame
    ramp = np.linspace(300.0, HOT, len(moved))
    print(f"volume {volume[0]:.2f} -> {volume[-1]:.2f} Å³/atom")
    neighbour = crystal.cell.lengths()[0] / np.sqrt(2.0)
    gone = np.flatnonzero(moved > (0.5 * neighbour) ** 2)
    if len(gone):
        print(f"atoms are half a neighbour distance from home ({0.5 * neighbour:.2f} Å) from {ramp[gone[0]]:.0f} K on")

    figure, (left, right) = new_figure(columns=2, width=8.0, height=3.2)
    left.plot(target, volume, color=BLUE, lw=0.8)
    left.set(xlabel="temperature of the thermostat (K)", ylabel="volume (Å³/atom)")
    right.plot(ramp, moved, color=ORANGE)
    right.set(xlabel="temperature of the thermostat (K)", ylabel="mean square displacement (Å²)")
    for axis in (left, right):
        axis.axvline(933.0, color="#999999", lw=0.8, ls="--")
    print(f"picture: {save_figure(figure, options.output / '06_melting.png')}")


if __name__ == "__main__":
    main()
