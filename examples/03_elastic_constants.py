"""Elastic constants of magnesia (MgO), and how stiff it is in every direction.

    python examples/03_elastic_constants.py --output examples/output

The crystal is strained, its atoms relax in each strained cell, and the slopes of the stresses are the constants.
Experiment: S. V. Sinogeikin, J. D. Bass, Phys. Earth Planet. Inter. 120, 43 (2000),
https://doi.org/10.1016/S0031-9201(00)00143-6.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import elastic_constants
from forcefield.workflows.plots_elastic import plot_young_modulus

EXPERIMENT = {"C11": 297.9, "C12": 95.8, "C44": 154.4}  # GPa, room temperature


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="one size of strain instead of two")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    # Small differences of forces and stresses want double precision.
    calculator = GNNCalculator(dtype="float64")
    strains = (0.005,) if options.quick else (0.0025, 0.005)
    result = elastic_constants(bulk("MgO", "rocksalt", a=4.21, cubic=True), calculator, strains=strains)
    print(f"{result.verdict}; largest change by symmetrising {100 * result.asymmetry:.2g} %")
    for name, known in EXPERIMENT.items():
        row, column = int(name[1]) - 1, int(name[2]) - 1
        print(f"{name} = {result.tensor[row, column]:.1f} GPa, experiment {known} GPa")
    for warning in result.warnings:
        print(f"note: {warning}")
    if result.moduli is None:  # some strain lowers the energy, so there are no averages and nothing to draw
        raise SystemExit(f"eigenvalues of the tensor: {result.eigenvalues.round(1)} GPa")
    print(f"bulk modulus {result.moduli.bulk:.1f} GPa, shear modulus {result.moduli.shear:.1f} GPa")
    print(f"picture: {plot_young_modulus(result, options.output / '03_elastic_constants.png')}")


if __name__ == "__main__":
    main()
