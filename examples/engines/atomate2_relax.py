"""Relax crystals in atomate2 with this package's model; every force-field flow of atomate2 takes it the same way.

pip install "gnn-forcefield[atomate2]"
python examples/engines/atomate2_relax.py examples/structures/*.cif
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ase.io import read

try:
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker
    from jobflow import Flow, JobStore, run_locally
    from maggma.stores import MemoryStore
    from pymatgen.io.ase import AseAtomsAdaptor
except ModuleNotFoundError:
    raise SystemExit('atomate2 is needed; install it with: pip install "gnn-forcefield[atomate2]"') from None

OUR_CALCULATOR = {"@module": "forcefield", "@callable": "GNNCalculator"}


def relax_maker(*, fmax: float = 0.02, steps: int = 500, **calculator: Any) -> ForceFieldRelaxMaker:
    """The maker; `calculator` are keywords of `GNNCalculator`, such as model="mp-0" (fmax in eV/Å)."""
    return ForceFieldRelaxMaker(
        force_field_name=OUR_CALCULATOR,
        calculator_kwargs=calculator,
        relax_cell=True,
        steps=steps,
        relax_kwargs={"fmax": fmax},
    )


def relax_all(structures: Sequence[Any], **options: Any) -> list[Any]:
    """Relax pymatgen structures here; their task documents, in order."""
    jobs = [relax_maker(**options).make(structure) for structure in structures]
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})  # a database in production
    done = run_locally(Flow(jobs), store=store, log=False, ensure_success=True, create_folders=False)
    return [done[job.uuid][1].output for job in jobs]


if __name__ == "__main__":
    crystals = [AseAtomsAdaptor.get_structure(read(path)) for path in sys.argv[1:]]
    for document in relax_all(crystals):
        energy = document.output.energy / document.output.structure.num_sites
        print(document.output.structure.formula, f"{energy:.4f} eV/atom after {document.output.n_steps} steps")
