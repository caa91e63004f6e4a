"""Relax a crystal: rutile TiO2 is squeezed and shaken, and finds back to its structure.

    python examples/01_relax.py --output examples/output

Reads a CIF file, with pymatgen where it is installed, relaxes atoms and cell with the shipped model, and compares the
cell with experiment. Writes the relaxed crystal as CIF and a picture of the way down.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from ase.io import read, write

from forcefield import GNNCalculator
from forcefield.structures import as_atoms
from forcefield.workflows import RelaxStep, relax
from forcefield.workflows.plots import BLUE, ORANGE, new_figure, save_figure

CRYSTAL = Path(__file__).parent / "structures" / "TiO2_rutile.cif"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="a looser limit for the forces")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    # A pymatgen Structure and an ase.Atoms are both welcome everywhere.
    if find_spec("pymatgen"):
        from pymatgen.core import Structure

        experiment = as_atoms(Structure.from_file(CRYSTAL))
    else:
        experiment = read(CRYSTAL)
    start = experiment.copy()
    start.set_cell(0.96 * start.cell, scale_atoms=True)
    start.rattle(0.05, seed=1)

    steps: list[RelaxStep] = []
    result = relax(
        start,
        GNNCalculator(),
        cell=True,
        fmax=0.05 if options.quick else 0.005,
        optimizer="LBFGS",
        callback=steps.append,
    )
    print(f"{result.reason} after {result.steps} steps, {result.energy_per_atom:.4f} eV/atom")
    print(f"space group {result.spacegroup_before} -> {result.spacegroup_after}")
    names = ("a", "b", "c")
    for name, found, known in zip(names, result.atoms.cell.lengths(), experiment.cell.lengths(), strict=True):
        print(f"{name} = {found:.3f} Å, experiment {known:.3f} Å ({100 * (found / known - 1):+.1f} %)")
    write(options.output / "01_relax.cif", result.atoms)

    figure, (left, right) = new_figure(columns=2, width=7.0, height=3.0)
    numbers = [step.step for step in steps]
    left.plot(numbers, [step.energy - result.energy for step in steps], "o-", ms=3, color=BLUE)
    left.set(xlabel="step", ylabel="energy above the end (eV)")
    right.semilogy(numbers, [step.max_force for step in steps], "o-", ms=3, color=BLUE, label="force (eV/Å)")
    right.semilogy(numbers, [step.max_stress for step in steps], "o-", ms=3, color=ORANGE, label="stress (GPa)")
    right.set(xlabel="step", ylabel="largest left")
    right.legend(frameon=False)
    print(f"picture: {save_figure(figure, options.output / '01_relax.png')}")


if __name__ == "__main__":
    main()
