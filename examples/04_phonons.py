"""Phonons of diamond: bands, density of states, heat capacity.

    python examples/04_phonons.py --output examples/output

One atom of a supercell is displaced (the rest is symmetry), and phonopy turns the forces into frequencies. In
experiment the optical modes at Gamma lie at 39.9 THz and the heat capacity at 300 K is 0.74 k per atom.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.units import KELVIN
from forcefield.workflows import phonons
from forcefield.workflows.plots_phonons import plot_bands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="a small supercell and a coarse mesh of q-points")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    settings = {"supercell_length": 6.0, "mesh_length": 20.0} if options.quick else {"supercell_length": 10.0}
    result = phonons(bulk("C"), GNNCalculator(dtype="float64"), t_max=300.0, **settings)
    print(f"{result.verdict}: {result.n_displacements} displacement in a supercell of {result.supercell_atoms} atoms")
    at_gamma = result.phonopy.run_qpoints([[0.0, 0.0, 0.0]]).frequencies[0]
    print(f"highest frequency {result.highest_frequency:.2f} THz, at Gamma {np.max(at_gamma):.2f} THz")
    print(f"zero-point energy {1000 * result.zero_point_energy:.1f} meV/atom")
    print(f"heat capacity at 300 K {result.thermal.heat_capacity[-1] / KELVIN:.2f} k per atom")
    print(f"picture: {plot_bands(result, options.output / '04_phonons.png')}")


if __name__ == "__main__":
    main()
