"""How fast each network learns ten DFT frames by heart: the table of docs/networks.md.

    python benchmarks/overfit.py tests/networks/data/ten_oxides.extxyz

Mean absolute errors below 5 meV/atom and 20 meV/Å end a run; processor time of one thread. Give any file of structures
with energies and forces. Prints Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import torch

from forcefield.networks import NETWORKS
from forcefield.testing import overfit


def main() -> None:
    """Run one network after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="structures with energies and forces")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--cutoff", type=float, default=4.5, help="neighbour radius (Å)")
    parser.add_argument("--steps", type=int, default=150, help="most steps")
    parser.add_argument("--learning-rate", type=float, default=0.01, help="peak learning rate")
    parser.add_argument("--optimizer", default="muon", choices=["adam", "muon"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    structures = ase.io.read(options.structures, ":")
    elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
    torch.set_num_threads(1)
    print("| network | energy (meV/atom) | forces (meV/Å) | steps | seconds |\n| --- | --- | --- | --- | --- |")
    for name in options.networks:
        torch.manual_seed(options.seed)
        network = NETWORKS[name](elements, cutoff=options.cutoff).float()
        recipe = {"steps": options.steps, "learning_rate": options.learning_rate, "optimizer": options.optimizer}
        found = overfit(network, structures, **recipe)
        errors = f"{1e3 * found.energy:.1f} | {1e3 * found.forces:.1f}"
        print(f"| {name} | {errors} | {found.steps} | {found.seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
