"""Relax many crystals at once with torch-sim, and the same by this package's own loop.

    pip install "gnn-forcefield[torchsim]"
    python examples/engines/torchsim_relax.py --structures 12

Two ways to torch-sim: its own runner with `ForceFieldModel`, and `relax_many(engine="torch-sim")`, which adds what the
runner leaves out (an outcome for each structure, a store to go on from).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ase
import torch
from ase.io import read

from forcefield import GNNCalculator
from forcefield.torchsim import ForceFieldModel
from forcefield.workflows.batched import relax_many

try:
    import torch_sim
    from torch_sim import optimizers
except ModuleNotFoundError:
    raise SystemExit('torch-sim is needed; install it with: pip install "gnn-forcefield[torchsim]"') from None

FOLDER = Path(__file__).resolve().parents[1] / "structures"
NAMES = ("Al.cif", "NaCl.cif", "Si.cif", "MgO.cif")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=12)
    parser.add_argument("--model", default="default", help="name or folder of a model")
    options = parser.parse_args()
    calculator = GNNCalculator(options.model)
    crystals = make_crystals(options.structures)

    model = ForceFieldModel(calculator)
    optimizer = torch_sim.Optimizer.fire if hasattr(torch_sim, "Optimizer") else optimizers.fire
    limit = torch_sim.generate_force_convergence_fn(force_tol=0.05, include_cell_forces=False)
    start = time.perf_counter()
    final = torch_sim.optimize(
        system=crystals, model=model, optimizer=optimizer, convergence_fn=limit, max_steps=200, autobatcher=False
    )
    largest = float(torch.linalg.vector_norm(final.forces, dim=1).max())
    print(f"torch-sim's runner: largest force {largest:.3f} eV/Å after {time.perf_counter() - start:.1f} s")

    for engine in ("own", "torch-sim"):
        start = time.perf_counter()
        outcomes = relax_many(crystals, calculator, cell=True, fmax=0.05, engine=engine)
        steps = sum(outcome.result.steps for outcome in outcomes if outcome.result)
        converged = sum(outcome.converged for outcome in outcomes)
        seconds = time.perf_counter() - start
        print(f'engine="{engine}": {converged} of {len(outcomes)} converged in {steps} steps and {seconds:.1f} s')


def make_crystals(count: int) -> list[ase.Atoms]:
    """Crystals, each displaced and stretched in its own way."""
    crystals = []
    for number in range(count):
        atoms = read(FOLDER / NAMES[number % len(NAMES)])
        atoms.set_cell(atoms.cell.array * (1 + 0.01 * (number % 3 - 1)), scale_atoms=True)
        atoms.rattle(0.05, seed=number)
        crystals.append(atoms)
    return crystals


if __name__ == "__main__":
    main()
