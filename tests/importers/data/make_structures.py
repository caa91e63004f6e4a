"""Writes ``structures.json``: 50 varied structures on which imported models are compared with their originals.

Needs ASE only, so that it runs beside any peer: ``python make_structures.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bcc110, bulk, fcc111, graphene, molecule, mx2
from ase.data import atomic_numbers, covalent_radii
from ase.spacegroup import crystal

FILE = Path(__file__).with_name("structures.json")
SINGLE = ["Cu", "Fe", "Ti", "W", "Pb", "U", "Na", "Si"]
ROCK_SALT = ["MgO", "NiO", "LaN", "CsF", "PuC", "AgBr", "EuO", "TiC"]
ZINC_BLENDE = ["GaAs", "ZnS", "HgTe", "AlN"]
PEROVSKITE = ["SrTiO", "LaMnO", "CsPbI", "BaBiO"]
MOLECULES = ["H2O", "CH3CH2OH", "C6H6", "SO2", "SiH4", "NaCl", "CH3Cl", "PH3"]


def structures() -> dict[str, Atoms]:
    """Crystals at rest, rattled, strained and compressed, slabs, a layer, a wire, molecules, lone atoms."""
    made: dict[str, Atoms] = {}
    for symbol in SINGLE:  # one-atom cells, two of silicon
        made[f"element {symbol}"] = bulk(symbol, cubic=False) if symbol not in ("Ti", "U") else _body_centred(symbol)
    for name in ROCK_SALT:
        made[f"rock salt {name}"] = _binary(name, "rocksalt", 1.02, cubic=True)
    for name in ZINC_BLENDE:
        made[f"zinc blende {name}"] = _binary(name, "zincblende", 1.0)
    for name in PEROVSKITE:
        made[f"perovskite {name}3"] = _perovskite(name)
    quartz = [(0.465, 0, 1 / 3), (0.415, 0.272, 0.12)]
    made["quartz"] = crystal("SiO", quartz, spacegroup=152, cellpar=[4.9, 4.9, 5.4, 90, 90, 120])
    rutile = [(0, 0, 0), (0.305, 0.305, 0)]
    made["rutile"] = crystal("TiO", rutile, spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    made["wurtzite ZnO"] = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
    made["layer MoS2"] = mx2("MoS2", size=(1, 2, 1), vacuum=6.0)
    made["cell of one, flat"] = Atoms("Ru", cell=[[2.7, 0, 0], [1.35, 2.34, 0], [0.2, 0.1, 4.4]], pbc=True)
    made["slab Al"] = fcc111("Al", (2, 1, 3), vacuum=6.0)
    made["slab W"] = bcc110("W", (1, 1, 4), vacuum=5.0)
    made["slab Au, wide"] = fcc111("Au", (1, 1, 4), vacuum=9.0, periodic=True)
    made["graphene"] = graphene(size=(2, 2, 1), vacuum=7.0)
    made["wire"] = Atoms("AuAg", positions=[[0, 0, 0], [0.3, 0.2, 2.7]], cell=[0, 0, 5.5], pbc=[False, False, True])
    for name in MOLECULES:
        made[f"molecule {name}"] = molecule(name)
    made["dimer, close"] = Atoms("CO", positions=[[0, 0, 0], [0.9, 0.3, 0.1]])
    made["dimer, far"] = Atoms("XeKr", positions=[[0, 0, 0], [4.3, 0.4, 0.2]])
    made["atom O"] = Atoms("O")
    made["atom Fe"] = Atoms("Fe")
    compressed = bulk("Si", cubic=True)
    compressed.set_cell(compressed.cell.array * 0.88, scale_atoms=True)
    made["compressed Si"] = compressed
    sheared = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    sheared.set_cell(sheared.cell.array @ np.array([[1.05, 0.2, 0], [0, 0.95, 0.1], [0.05, 0, 1]]), scale_atoms=True)
    made["sheared NaCl"] = sheared
    made["vacancy Ni"] = _without_first(bulk("Ni", cubic=True) * (2, 1, 1))
    made["alloy"] = _alloy(bulk("Ni", cubic=True) * (1, 1, 2), "CrMnFeCoNiCuPdPt")
    for number, atoms in enumerate(made.values()):
        if len(atoms) > 1:
            atoms.rattle([0.02, 0.08, 0.15][number % 3], seed=number)
    assert len(made) == 50, len(made)
    return made


def _binary(name: str, kind: str, stretch: float, *, cubic: bool = False) -> Atoms:
    first, second = Atoms(name).numbers
    bond = covalent_radii[first] + covalent_radii[second]
    constant = bond * (2.0 if kind == "rocksalt" else 4 / np.sqrt(3)) * stretch
    return bulk(name, kind, a=constant, cubic=cubic)


def _perovskite(name: str) -> Atoms:
    large, small, anion = Atoms(name).numbers
    corners = [[0, 0, 0], [0.5, 0.5, 0.51], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    constant = 2 * (covalent_radii[small] + covalent_radii[anion])
    return Atoms([large, small, anion, anion, anion], scaled_positions=corners, cell=[constant] * 3, pbc=True)


def _body_centred(symbol: str) -> Atoms:
    return bulk(symbol, "bcc", a=2.1 * covalent_radii[atomic_numbers[symbol]])


def _without_first(atoms: Atoms) -> Atoms:
    del atoms[0]
    return atoms


def _alloy(atoms: Atoms, symbols: str) -> Atoms:
    atoms.symbols = Atoms(symbols).symbols
    return atoms


def as_plain(atoms: Atoms) -> dict[str, Any]:
    """What JSON can hold of a structure; positions rounded to 1e-6 Å."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.round(6).tolist(),
        "cell": atoms.cell.array.round(6).tolist(),
        "pbc": atoms.pbc.tolist(),
    }


def load() -> dict[str, Atoms]:
    """The structures of the file by name."""
    return {name: Atoms(**values) for name, values in json.loads(FILE.read_text(encoding="utf-8")).items()}


def write_reference(calculator: Any, file: Path, about: dict[str, str]) -> None:
    """Let a peer's ASE calculator compute all structures, and write energies (eV), forces (eV/Å), stress (eV/Å^3)."""
    results = {}
    for name, atoms in load().items():
        atoms.calc = calculator
        results[name] = {"energy": atoms.get_potential_energy(), "forces": np.round(atoms.get_forces(), 7).tolist()}
        if atoms.pbc.all():
            results[name]["stress"] = np.round(atoms.get_stress(), 9).tolist()
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in results.items())
    file.write_text(f'{{"about": {json.dumps(about)},\n"results": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(as_plain(atoms))}" for name, atoms in structures().items())
    FILE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
