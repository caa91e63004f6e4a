"""Molecular dynamics of several crystals in one batch with torch-sim, at a constant temperature each.

pip install "gnn-forcefield[torchsim]"
python examples/engines/torchsim_md.py --steps 200
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ase.io import read

from forcefield.torchsim import ForceFieldModel

try:
    import torch_sim
    from torch_sim import integrators
except ModuleNotFoundError:
    raise SystemExit('torch-sim is needed; install it with: pip install "gnn-forcefield[torchsim]"') from None

FOLDER = Path(__file__).resolve().parents[1] / "structures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=300.0, help="kelvin")
    parser.add_argument("--model", default="default", help="name or folder of a model")
    options = parser.parse_args()
    crystals = [read(FOLDER / f"{name}.cif") * (2, 2, 2) for name in ("Al", "NaCl", "Si")]
    model = ForceFieldModel(options.model)
    integrator = torch_sim.Integrator if hasattr(torch_sim, "Integrator") else integrators
    start = time.perf_counter()
    final = torch_sim.integrate(
        system=crystals,
        model=model,
        integrator=integrator.nvt_langevin,
        n_steps=options.steps,
        temperature=options.temperature,
        timestep=0.001,  # ps
    )
    seconds = time.perf_counter() - start
    atoms = sum(len(crystal) for crystal in crystals)
    print(f"{options.steps} steps of {len(crystals)} crystals, {atoms} atoms together: {seconds:.1f} s")
    for k, crystal in enumerate(final.to_atoms()):
        mine = final.system_idx == k
        kinetic = 0.5 * (final.momenta[mine] ** 2 / final.masses[mine, None]).sum()
        energy, own = float(final.energy[k]) / len(crystal), float(kinetic) / len(crystal)
        print(f"{crystal.symbols}: potential {energy:.4f} eV/atom, kinetic {own:.4f} eV/atom")
    print(f"neighbour lists built: {model.neighbour_list_builds}")


if __name__ == "__main__":
    main()
