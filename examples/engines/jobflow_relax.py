"""The workflows of this package as jobs of jobflow, without atomate2; run here, or on a cluster by jobflow-remote.

pip install "gnn-forcefield[jobflow]"
python examples/engines/jobflow_relax.py examples/structures/*.cif
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ase import Atoms
from ase.io import read

from forcefield.screening.work import prepare_work
from forcefield.screening.worker import compute, describe_atoms

try:
    from jobflow import Flow, JobStore, job, run_locally
    from maggma.stores import MemoryStore
except ModuleNotFoundError:
    raise SystemExit('jobflow is needed; install it with: pip install "gnn-forcefield[jobflow]"') from None


@job
def forcefield_job(atoms: Mapping[str, Any], task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Do a task of `forcefield.screen` with a structure: "ok", "verdict", "error", "values", "atoms", "seconds"."""
    structure = Atoms(**{name: atoms[name] for name in ("numbers", "positions", "cell", "pbc")})
    return compute(prepare_work(task, options, None, here=True), structure)


def run_all(structures: Sequence[Atoms], task: str = "relax", **options: Any) -> list[dict[str, Any]]:
    """Run one job for each structure here; their records, in order."""
    jobs = [forcefield_job(describe_atoms(atoms), task, options) for atoms in structures]
    done = run_locally(Flow(jobs), store=JobStore(MemoryStore()), log=False, ensure_success=True, create_folders=False)
    return [done[one.uuid][1].output for one in jobs]


if __name__ == "__main__":
    crystals = [read(path) for path in sys.argv[1:]]
    for atoms, record in zip(crystals, run_all(crystals), strict=True):
        print(atoms.symbols, record["verdict"], record["error"] or record["values"]["energy_per_atom"])
