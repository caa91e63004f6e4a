"""Barrier of a vacancy that hops in aluminium, with the shipped model and with ASE's EMT.

    python examples/09_barrier.py --output examples/output

A band of images is stretched between two positions of the vacancy, and its highest image climbs to the saddle point.
Experiment: 0.61 eV (P. Ehrhart, in Landolt-Börnstein III/25 (1991)).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from forcefield import GNNCalculator
from forcefield.workflows import neb, relax
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

EXPERIMENT = 0.61  # eV


def vacancy_hop(crystal: Atoms) -> tuple[Atoms, Atoms]:
    """Remove atom 0; at the end of the path a nearest neighbour of the hole has moved into it."""
    distances = crystal.get_distances(0, range(1, len(crystal)), mic=True)
    hole = crystal.positions[0].copy()
    initial = crystal[1:]
    final = initial.copy()
    final.positions[int(distances.argmin())] = hole
    return initial, final


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="one image, a small cell and a looser limit")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    figure, (axis,) = new_figure(width=5.4, height=3.6)
    for (name, calculator), color in zip(
        {"shipped model": GNNCalculator(), "EMT": EMT()}.items(), (BLUE, ORANGE), strict=True
    ):
        crystal = relax(bulk("Al", cubic=True), calculator, cell=True, symmetry=True).atoms
        initial, final = vacancy_hop(crystal * ((2, 1, 1) if options.quick else (2, 2, 2)))
        # The hopping atom must stay the same atom, so the order of the atoms is kept.
        result = neb(
            initial,
            final,
            calculator,
            mapping=False,
            n_images=1 if options.quick else 5,
            fmax=0.1 if options.quick else 0.03,
        )
        print(f"{name}: {result.forward:.3f} eV, {result.verdict} after {result.steps} steps")
        axis.plot(result.fit_path, result.fit_energies, color=color, label=f"{name}: {result.forward:.2f} eV")
        axis.plot(result.path, result.energies, "o", color=color, ms=4)
    print(f"experiment: {EXPERIMENT:.2f} eV")

    axis.axhline(EXPERIMENT, color=GREY, lw=0.8, ls="--", label=f"experiment: {EXPERIMENT:.2f} eV")
    axis.set(xlabel="path (Å)", ylabel="energy (eV)")
    axis.legend(frameon=False, fontsize=8)
    print(f"picture: {save_figure(figure, options.output / '09_barrier.png')}")


if __name__ == "__main__":
    main()
