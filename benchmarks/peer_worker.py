"""Times one ASE calculator in its own environment: a JSON line comes in for each structure, a JSON line goes out.

Started by `benchmarks/peers.py`; needs nothing but ASE, PyTorch and the calculator itself.

    python peer_worker.py "from package import Calculator; calculator = Calculator()"
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from ase import Atoms


def build(statements: str) -> Any:
    """Run the statements that end in ``calculator = ...`` and return the calculator."""
    names: dict[str, Any] = {}
    exec(statements, names)  # they come from the table in peers.py or from the person at the command line
    return names["calculator"]


def answer(request: dict[str, Any], calculator: Any) -> dict[str, Any]:
    """Energy, forces and stress of one structure, with the wall and CPU time (s) that they took."""
    atoms = Atoms(request["numbers"], request["positions"], cell=request["cell"], pbc=True, calculator=calculator)
    wall, cpu = time.perf_counter(), time.process_time()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    finite = bool(np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all())
    return {**times, "energy": float(energy), "finite": finite}


def main() -> None:
    replies = sys.stdout
    sys.stdout = sys.stderr  # what a package prints must not mix with the replies
    torch.set_num_threads(1)
    try:
        calculator = build(sys.argv[1])
        print(json.dumps({"ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), calculator)), file=replies, flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=replies, flush=True)
        raise


if __name__ == "__main__":
    main()
