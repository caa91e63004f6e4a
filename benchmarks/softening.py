"""How soft models are beside a reference calculator: second derivatives of crystals that are in no training data.

    python benchmarks/softening.py STORE --reference module:Class --models mp-0 small

STORE is a frame store; of its frames of kind "equilibrium" some are drawn at random. Each is labelled by the reference
along a random displacement of all atoms and along two random strains (central differences of forces and stresses), and
the models are differentiated twice along the same directions. A slope below one is too soft.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import torch
from ase import units

from forcefield.data.frames import atoms_from_frame
from forcefield.data.store import FrameStore
from forcefield.models import load_model
from forcefield.train.hessian import hessian_errors
from forcefield.train.hessian_labels import HessianLabels, label_hessians

KIND = "equilibrium"


def main() -> None:
    """Label, differentiate, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--reference", metavar="MODULE:CLASS", required=True, help="ASE calculator with stress")
    parser.add_argument("--models", nargs="+", default=["mp-0"], help="names or folders")
    parser.add_argument("--number", type=int, default=250, help="crystals")
    parser.add_argument("--most-atoms", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    choices = parser.parse_args()
    torch.set_num_threads(1)
    labels = label(choices)
    mean = f"{len(labels.n_atoms)} crystals of {labels.n_atoms.mean():.1f} atoms on average"
    print(f"{mean}; mean absolute product of the reference {np.abs(labels.products).mean():.2f} eV/Å².\n")
    print("| model | products of the Hessian (eV/Å²) | slope | elastic stresses (GPa per unit strain) | slope |")
    print("| --- | --- | --- | --- | --- |")
    for name in choices.models:
        found = hessian_errors(load_model(name, dtype=torch.float64).potential, labels)
        forces = f"{found.mae:.2f} | {found.softening:.3f}"
        print(
            f"| {name} | {forces} | {found.elastic_mae / units.GPa:.1f} | {found.elastic_softening:.3f} |", flush=True
        )


def label(choices: argparse.Namespace) -> HessianLabels:
    """Label crystals of the store with the reference."""
    store = FrameStore(choices.store)
    fits = (store.arrays["kind"] == store.kinds.index(KIND)) & (store.arrays["n_atoms"] <= choices.most_atoms)
    drawn = np.random.default_rng(choices.seed).permutation(np.flatnonzero(fits))[: choices.number]
    module, name = choices.reference.split(":")
    structures = [atoms_from_frame(store.frame(int(k))) for k in drawn]
    reference = getattr(importlib.import_module(module), name)()
    return label_hessians(structures, reference, directions=1, strains=2, displacement=0.01, seed=choices.seed)


if __name__ == "__main__":
    main()
