"""Quantum nuclei with i-PI: the kinetic energy of the atoms of MgO, far above the classical one when it is cold.

    pip install "gnn-forcefield[ipi]"
    python examples/engines/path_integrals.py --output examples/output

Starts i-PI with path_integrals.xml and serves it forces over ASE's socket client, as any number of such clients could,
one for each bead. The harmonic crystal with the same forces says what to expect.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from string import Template

import ase
import numpy as np
from ase.calculators.socketio import SocketClient, actualunixsocketname
from ase.io import read, write

from forcefield import GNNCalculator
from forcefield.units import HBAR, KELVIN
from forcefield.workflows import relax

HERE = Path(__file__).resolve().parent
SECONDS = 60.0  # to wait for i-PI's socket


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE.parent / "output", help="folder for the files")
    parser.add_argument("--temperature", type=float, default=150.0, help="kelvin")
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--quick", action="store_true", help="few beads and steps")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    beads, steps = (4, 40) if options.quick else (16, 2000)

    calculator = GNNCalculator(options.model, device="cpu")
    atoms = relax(read(HERE.parent / "structures" / "MgO.cif"), calculator, optimizer="LBFGS").atoms
    if not options.quick:
        atoms = atoms.repeat(2)
    run_ipi(atoms, calculator, options.output, beads=beads, steps=steps, temperature=options.temperature)

    rows = np.loadtxt(options.output / "path_integrals.properties")
    kinetic = rows[len(rows) // 4 :, 4].mean() / len(atoms)
    thermal = options.temperature * KELVIN
    print(f"kinetic energy of an atom: {1000 * kinetic:.1f} meV with {beads} beads")
    print(f"harmonic: {1000 * harmonic(atoms, options.model, thermal, beads):.1f} meV with as many")
    print(f"harmonic: {1000 * harmonic(atoms, options.model, thermal, None):.1f} meV with all beads")
    print(f"classical: {1500 * thermal:.1f} meV")


def run_ipi(
    atoms: ase.Atoms, calculator: GNNCalculator, folder: Path, *, beads: int, steps: int, temperature: float
) -> None:
    """Run i-PI in ``folder`` and answer it until it is done."""
    program = shutil.which("i-pi", path=str(Path(sys.executable).parent)) or shutil.which("i-pi")
    if program is None:
        sys.exit('there is no i-pi; install it with: pip install "gnn-forcefield[ipi]"')
    name = f"forcefield_{os.getpid()}"
    own = {"steps": steps, "beads": beads, "temperature": temperature, "socket": name}
    (folder / "input.xml").write_text(Template((HERE / "path_integrals.xml").read_text()).substitute(own))
    write(folder / "start.extxyz", ase.Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
    with (folder / "path_integrals.log").open("w") as log:
        server = subprocess.Popen([program, "input.xml"], cwd=folder, stdout=log, stderr=log)
    try:
        served = atoms.copy()
        served.calc = calculator
        connect(name, server).run(served)
        if server.wait(timeout=SECONDS) != 0:
            sys.exit(f"i-PI ended with an error; see {folder / 'path_integrals.log'}")
    finally:
        server.kill()


def connect(name: str, server: subprocess.Popen) -> SocketClient:
    """A client of i-PI's UNIX socket, as soon as there is one."""
    until = time.monotonic() + SECONDS
    while server.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
        if Path(actualunixsocketname(name)).exists():
            time.sleep(0.2)  # it listens a moment after it has made the file
            return SocketClient(unixsocket=name)
    sys.exit("i-PI did not open its socket; see path_integrals.log")


def harmonic(atoms: ase.Atoms, model: str, thermal: float, beads: int | None) -> float:
    """Mean kinetic energy of an atom (eV) of the harmonic crystal at a temperature (eV); with beads None the exact one.

    With P beads a mode has ``kT / 2 sum_k w^2 / (w^2 + w_k^2)``, where ``w_k = 2 P kT / hbar sin(pi k / P)``: the
    normal modes of the ring of Parrinello and Rahman, J. Chem. Phys. 80, 860 (1984), and the virial theorem.
    """
    matrix = GNNCalculator(model, device="cpu", dtype="float64").get_hessian(atoms)
    masses = np.repeat(atoms.get_masses(), 3)
    squares = np.linalg.eigvalsh(matrix / np.sqrt(masses[:, None] * masses))
    frequencies = np.sqrt(squares[np.abs(squares) > 1e-6].clip(min=0))  # without the translations
    moving = 1.5 * thermal / len(atoms)
    if beads is None:
        quanta = HBAR * frequencies
        return moving + (quanta / 4 / np.tanh(quanta / (2 * thermal))).sum() / len(atoms)
    rings = 2 * beads * thermal / HBAR * np.sin(np.pi * np.arange(beads) / beads)
    shares = frequencies[:, None] ** 2 / (frequencies[:, None] ** 2 + rings**2)
    return moving + 0.5 * thermal * shares.sum() / len(atoms)


if __name__ == "__main__":
    main()
