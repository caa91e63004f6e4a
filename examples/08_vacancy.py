"""Energy of a vacancy in aluminium, in larger and larger supercells.

    python examples/08_vacancy.py --output examples/output

A defect in a small supercell feels its own images, so the energy has to be watched as the cell grows. Experiment:
0.67 eV (P. Ehrhart, in Landolt-Börnstein III/25 (1991)).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import defects
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

EXPERIMENT = 0.67  # eV


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="two small supercells instead of four")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    calculator = GNNCalculator()
    sizes, relaxed, unrelaxed = [], [], []
    for repeats in (2, 3) if options.quick else (2, 3, 4, 5):
        result = defects(bulk("Al"), calculator, supercell=(repeats, repeats, repeats))
        (vacancy,) = result.defects
        if vacancy.formation_energy is None:
            raise SystemExit(f"{vacancy.name} in {result.n_supercell} atoms: {vacancy.verdict}")
        print(
            f"{vacancy.name} in {result.n_supercell} atoms, images {result.image_distance:.1f} Å apart: "
            f"{vacancy.formation_energy:.3f} eV, before relaxation {vacancy.unrelaxed_energy:.3f} eV"
        )
        sizes.append(result.n_supercell)
        relaxed.append(vacancy.formation_energy)
        unrelaxed.append(vacancy.unrelaxed_energy)

    figure, (axis,) = new_figure()
    axis.plot(sizes, unrelaxed, "o--", color=BLUE, label="atoms at their sites")
    axis.plot(sizes, relaxed, "o-", color=ORANGE, label="relaxed")
    axis.axhline(EXPERIMENT, color=GREY, lw=0.8, ls="--", label="experiment")
    axis.set(xlabel="atoms of the supercell", ylabel="formation energy (eV)")
    axis.legend(frameon=False)
    print(f"picture: {save_figure(figure, options.output / '08_vacancy.png')}")


if __name__ == "__main__":
    main()
