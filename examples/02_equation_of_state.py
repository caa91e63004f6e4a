"""Energy against volume of copper: the shipped model beside another calculator, ASE's EMT.

    python examples/02_equation_of_state.py --output examples/output

Every workflow takes any ASE calculator, so a comparison is the same call twice. Prints lattice constant and bulk
modulus of both beside experiment (3.615 Å at room temperature; 142 GPa at low temperature, W. C. Overton and
J. Gaffney, Phys. Rev. 98, 969 (1955), https://doi.org/10.1103/PhysRev.98.969).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT

from forcefield import GNNCalculator
from forcefield.workflows import equation_of_state
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure

LATTICE_CONSTANT, BULK_MODULUS = 3.615, 142.0  # Å, GPa; experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="five volumes instead of eleven")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    figure, (axis,) = new_figure(width=5.4, height=3.6)
    calculators = {"shipped model": GNNCalculator(dtype="float64"), "EMT": EMT()}
    for (name, calculator), color in zip(calculators.items(), (BLUE, ORANGE), strict=True):
        result = equation_of_state(
            bulk("Cu"), calculator, volume_range=0.08, n_volumes=5 if options.quick else 11, equation="vinet"
        )
        a = (4.0 * result.equilibrium_volume) ** (1.0 / 3.0)  # four atoms in the cubic cell
        print(f"{name}: a = {a:.3f} Å, B = {result.bulk_modulus:.0f} GPa, B' = {result.bulk_modulus_derivative:.1f}")
        volumes = np.linspace(result.volumes.min(), result.volumes.max(), 100)
        axis.plot(volumes, 1000.0 * (result.fit(volumes) - result.fit.energy), color=color)
        label = f"{name}: {a:.3f} Å, {result.bulk_modulus:.0f} GPa"
        axis.plot(result.volumes, 1000.0 * (result.energies - result.fit.energy), "o", color=color, label=label)
    print(f"experiment: a = {LATTICE_CONSTANT:.3f} Å, B = {BULK_MODULUS:.0f} GPa")

    known = f"experiment: {LATTICE_CONSTANT:.3f} Å, {BULK_MODULUS:.0f} GPa"
    axis.axvline(LATTICE_CONSTANT**3 / 4.0, color=GREY, lw=0.8, ls="--", label=known)
    axis.set(xlabel="volume (Å³/atom)", ylabel="energy (meV/atom)")
    axis.legend(frameon=False, fontsize=8)
    print(f"picture: {save_figure(figure, options.output / '02_equation_of_state.png')}")


if __name__ == "__main__":
    main()
