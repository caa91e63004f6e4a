"""What is settled for each structure before a batch is made; nothing here loads torch."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from forcefield.workflows.relax_setup import RelaxOptions

BATCH_OPTIMIZERS = ("FIRE", "LBFGS")
"""Optimizers that exist for a batch; structures with others are relaxed one by one."""

ENGINES = ("auto", "own", "torch-sim")
"""What moves the structures of a batch."""


def why_not_torch_sim(atoms: Atoms, options: RelaxOptions) -> str | None:
    """What of a structure or of the options torch-sim does not do as `relax` does, or None."""
    if options.optimizer.upper() != "FIRE":
        return f"the optimizer {options.optimizer}"
    if options.symmetry:
        return "keeping the symmetry"
    if atoms.constraints:
        return "constraints"
    if atoms.pbc.any() and not atoms.pbc.all():
        return "a structure that is periodic along some axes only"
    if atoms.pbc.all() and np.linalg.det(atoms.cell.array) <= 0:
        return "a left-handed cell, whose volume it takes as negative"
    return None
