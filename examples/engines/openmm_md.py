"""Molecular dynamics with OpenMM: sodium chloride at constant temperature and pressure.

pip install "gnn-forcefield[openmm]"
python examples/engines/openmm_md.py --steps 500 --output examples/output
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.io import read, write

from forcefield import GNNCalculator
from forcefield.openmm import openmm_structure

try:
    import openmm
    from openmm import app, unit
except ModuleNotFoundError:
    raise SystemExit('OpenMM is needed; install it with: pip install "gnn-forcefield[openmm]"') from None

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE.parent / "output", help="folder for the files")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--temperature", type=float, default=600.0, help="kelvin")
    parser.add_argument("--model", default="default", help="name or folder of a model")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    crystal = read(HERE.parent / "structures" / "NaCl.cif") * (2, 2, 2)
    structure = openmm_structure(crystal, GNNCalculator(options.model))
    temperature = options.temperature * unit.kelvin
    structure.system.addForce(openmm.MonteCarloBarostat(1 * unit.bar, temperature, 10))
    integrator = openmm.LangevinMiddleIntegrator(temperature, 1 / unit.picosecond, 2 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(structure.topology, structure.system, integrator)
    simulation.context.setPositions(structure.positions)
    simulation.context.setVelocitiesToTemperature(temperature, 1)
    every = max(options.steps // 10, 1)
    columns = {"step": True, "potentialEnergy": True, "temperature": True, "volume": True, "speed": True}
    simulation.reporters.append(app.StateDataReporter(str(options.output / "openmm_md.csv"), every, **columns))
    simulation.step(options.steps)

    final = structure.atoms(simulation.context.getState(positions=True, velocities=True))
    write(options.output / "openmm_md.extxyz", final)
    print(f"{options.steps} steps of {len(final)} atoms, {final.get_temperature():.0f} K at the end")
    print(f"volume per formula unit: {2 * final.get_volume() / len(final):.2f} Å³")


if __name__ == "__main__":
    main()
