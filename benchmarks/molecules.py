"""Diatomic curves against PBE, and the shapes of small molecules: what a potential for crystals knows of molecules.

    python benchmarks/molecules.py diatomics_PBE.extxyz --output docs/molecules.md --picture docs/images/diatomics.png
    python benchmarks/molecules.py diatomics_PBE.extxyz --reference module:Class     # adsorption beside this calculator

The file has curves of two equal atoms by PBE (spin-polarised, VASP), from Matbench Discovery's repository (MIT): frames
of two atoms with energy. They are not trained on. Lanthanides and what follows bismuth are left out: PBE curves of
f elements jump between electronic states by electronvolts. Shapes are compared with ASE's G2 collection (MP2
geometries).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from ase.build import add_adsorbate, fcc111, molecule
from ase.calculators.calculator import BaseCalculator
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii
from ase.io import iread
from ase.optimize import BFGS
from matplotlib.figure import Figure
from numpy.typing import NDArray

from forcefield import GNNCalculator
from forcefield.cli.io import load_calculator

NOBLE = ("He", "Ne", "Ar", "Kr", "Xe")
MAIN = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Sb", "Te", "I")
SHOWN = ("H", "N", "O", "F", "Si", "Cl", "Na", "Al", "Fe", "Cu", "Mo", "Xe")
BONDED = 0.3
"""Depth (eV) of a PBE curve that counts as a bond."""
ADSORBED = {
    "CO": (1, 1.9),
    "H2O": (0, 2.3),
    "NH3": (0, 2.1),
    "CH4": (0, 3.2),
    "NO": (0, 1.8),
    "H": (0, 1.0),
    "O": (0, 1.2),
}
"""Atom that is put over the surface, and its height (Å); molecules on top, atoms in the fcc hollow."""
FINE = 0.04
"""Å between the points at which the model is looked at."""


@dataclass(frozen=True)
class Curve:
    """Energies (eV) of two equal atoms at distances (Å), by PBE and, on a finer grid, by the calculator."""

    symbol: str
    distance: NDArray[np.float64]
    energy: NDArray[np.float64]
    fine: NDArray[np.float64]
    found: NDArray[np.float64]

    @property
    def bond(self) -> tuple[float, float, float, float]:
        """Bond length and energy by PBE, and by the calculator."""
        a, b = int(self.energy.argmin()), int(self.found.argmin())
        return float(self.distance[a]), float(self.energy[a]), float(self.fine[b]), float(self.found[b])

    @property
    def depth(self) -> float:
        """Of the PBE curve (eV), below its farthest point."""
        return float(self.energy[-1] - self.energy.min())

    @property
    def minima(self) -> int:
        """Minima of the calculator's curve that are deeper than 50 meV on both sides."""
        return count_minima(self.found, 0.05)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--model", default="default")
    parser.add_argument("--calculator", metavar="MODULE:CLASS", help="another ASE calculator")
    parser.add_argument("--reference", metavar="MODULE:CLASS", help="ASE calculator that adsorption is compared with")
    parser.add_argument("--output", type=Path, help="Markdown file; what stands before the first table is kept")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.calculator:
        calculator = load_calculator(options.calculator, None, None, None)
    else:
        calculator = GNNCalculator(options.model, confidence=False, check_overlaps=False)
    curves = [curve_of(symbol, points, calculator) for symbol, points in read_curves(options.curves).items()]
    lines = [*summary(curves), "", *shapes(calculator), ""]
    if options.reference:
        lines += [*adsorption(calculator, load_calculator(options.reference, None, None, None)), ""]
    report = "\n".join([*lines, *all_bonds(curves)])
    print(report)
    if options.output:
        text = options.output.read_text(encoding="utf-8") if options.output.exists() else "# Molecules\n\n"
        options.output.write_text(text.split("| elements |")[0] + report + "\n", encoding="utf-8")
    if options.picture:
        draw([curve for curve in curves if curve.symbol in SHOWN], options.picture)


def read_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Distance (Å) and energy (eV) of all points of each element, without f elements and those after bismuth."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for atoms in iread(path, ":"):
        number = int(atoms.numbers[0])
        if not (58 <= number <= 71 or number >= 84):
            curves[atoms.get_chemical_symbols()[0]].append((atoms.get_distance(0, 1), atoms.get_potential_energy()))
    return curves


def curve_of(symbol: str, points: list[tuple[float, float]], calculator: BaseCalculator) -> Curve:
    """The calculator's curve from three quarters of the PBE bond (or of the covalent one) to 6 Å."""
    distance, energy = np.array(sorted(points)).T
    bond = (
        distance[energy.argmin()]
        if np.ptp(energy[distance > 1]) > BONDED
        else 2 * covalent_radii[atomic_numbers[symbol]]
    )
    fine = np.arange(0.75 * bond, 6.0, FINE)
    return Curve(symbol, distance, energy, fine, np.array([energy_of(symbol, float(r), calculator) for r in fine]))


def energy_of(symbol: str, distance: float, calculator: BaseCalculator) -> float:
    """Energy (eV) of two atoms."""
    atoms = ase.Atoms([symbol] * 2, positions=[[0, 0, 0], [0, 0, distance]])
    atoms.calc = calculator
    return float(atoms.get_potential_energy())


def count_minima(energies: NDArray[np.float64], least: float) -> int:
    """Minima of a sequence from which it rises by more than ``least`` on both sides before it is lower again."""
    count, lowest, highest, falling = 0, energies[0], energies[0], True
    for value in energies[1:]:
        if falling:
            lowest = min(lowest, value)
            if value > lowest + least:
                count, falling, highest = count + 1, False, value
        else:
            highest = max(highest, value)
            if value < highest - least:
                falling, lowest = True, value
    return count


def groups(curves: list[Curve]) -> dict[str, list[Curve]]:
    """Curves with a bond by kind of element, and the noble gases."""
    bonded = [curve for curve in curves if curve.symbol not in NOBLE and curve.depth > BONDED]
    transition = [
        c for c in bonded if any(a <= atomic_numbers[c.symbol] <= b for a, b in ((21, 29), (39, 47), (57, 79)))
    ]
    return {
        "nonmetals and half-metals": [c for c in bonded if c.symbol in MAIN],
        "metals of the main groups": [c for c in bonded if c.symbol not in MAIN and c not in transition],
        "transition metals": transition,
        "noble gases": [c for c in curves if c.symbol in NOBLE],
    }


def summary(curves: list[Curve]) -> list[str]:
    """Errors of bond lengths and energies by group."""
    lines = [
        "| elements | curves | bond length, mean absolute error (Å) | energy at the bond length: mean error (eV) | "
        "mean absolute | median absolute | one minimum |",
        "| --- " * 7 + "|",
    ]
    for name, chosen in groups(curves).items():
        bonds = np.array([curve.bond for curve in chosen])
        one = sum(curve.minima <= 1 for curve in chosen)
        if name == "noble gases":
            deepest = min(float(curve.found.min() - curve.found[-1]) for curve in chosen)
            lines.append(f"| {name} (deepest minimum {deepest:.2f} eV) | {len(chosen)} | | | | | {one} |")
            continue
        length, energy = bonds[:, 2] - bonds[:, 0], bonds[:, 3] - bonds[:, 1]
        lines.append(
            f"| {name} | {len(chosen)} | {np.abs(length).mean():.3f} | {energy.mean():+.2f} | "
            f"{np.abs(energy).mean():.2f} | {np.median(np.abs(energy)):.2f} | {one} |"
        )
    return lines


def shapes(calculator: BaseCalculator) -> list[str]:
    """Bond lengths of G2 molecules, relaxed, against the collection's."""
    errors, failed = [], []
    for name in g2.names:
        atoms = molecule(name)
        if len(atoms) < 2:
            continue
        bonds = bonded_pairs(atoms)
        before = np.array([atoms.get_distance(i, j) for i, j in bonds])
        relaxed = ase.Atoms(atoms.numbers, positions=atoms.positions)
        relaxed.calc = calculator
        converged = BFGS(relaxed, logfile=None).run(fmax=0.02, steps=300)
        after = np.array([relaxed.get_distance(i, j) for i, j in bonds])
        if not converged or np.any(after > 1.25 * before):
            failed.append(name)
        errors.append(after / before - 1)
    every = np.concatenate(errors)
    text = (
        f"{len(errors)} molecules of the G2 collection relaxed, {len(every)} bonds: mean absolute error of the lengths "
        f"{100 * np.abs(every).mean():.1f} %, median {100 * np.median(np.abs(every)):.1f} %, mean error "
        f"{100 * every.mean():+.1f} %; {100 * np.mean(np.abs(every) < 0.05):.0f} % of the bonds within 5 %."
    )
    return [text if not failed else f"{text} Came apart or did not converge: {', '.join(failed)}."]


def adsorption(calculator: BaseCalculator, reference: BaseCalculator) -> list[str]:
    """Adsorption energies of unrelaxed structures on Cu(111) and Pt(111), computed / reference."""
    lines = [
        "Adsorption on slabs of 2 x 2 atoms and four layers, nothing relaxed, computed / the calculator that labelled "
        "the data of `mp-0` (eV; atoms against half a molecule):",
        "",
        "| | " + " | ".join(ADSORBED) + " |",
        "| --- " * (len(ADSORBED) + 1) + "|",
    ]
    for metal in ("Cu", "Pt"):
        cells = [
            f"{adsorption_energy(metal, name, calculator):.2f} / {adsorption_energy(metal, name, reference):.2f}"
            for name in ADSORBED
        ]
        lines.append(f"| {metal}(111) | " + " | ".join(cells) + " |")
    return lines


def adsorption_energy(metal: str, name: str, calculator: BaseCalculator) -> float:
    """Energy (eV) of slab with adsorbate, less slab and free molecule (half a molecule for an atom)."""
    atom, height = ADSORBED[name]
    single = name in ("H", "O")
    guest = ase.Atoms(name) if single else molecule(name)
    gas = molecule(f"{name}2") if single else guest
    bare = fcc111(metal, (2, 2, 4), vacuum=8.0)
    covered = bare.copy()
    add_adsorbate(covered, guest, height, "fcc" if single else "ontop", mol_index=atom)
    energies = [float(calculator.get_potential_energy(atoms)) for atoms in (covered, bare, gas)]
    return energies[0] - energies[1] - (0.5 if single else 1.0) * energies[2]


def bonded_pairs(atoms: ase.Atoms) -> list[tuple[int, int]]:
    """Pairs nearer than 1.25 times the sum of their covalent radii."""
    limit = 1.25 * (covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers])
    near = np.triu(atoms.get_all_distances() < limit, k=1)
    return [(int(i), int(j)) for i, j in np.argwhere(near)]


def all_bonds(curves: list[Curve]) -> list[str]:
    """Every bond: length and energy below two free atoms as PBE has them, computed / reference."""
    lines = ["| | bond length (Å) | energy (eV) |", "| --- | --- | --- |"]
    for name, chosen in groups(curves).items():
        for curve in chosen if name != "noble gases" else []:
            length, energy, our_length, ours = curve.bond
            lines.append(f"| {curve.symbol}2 | {our_length:.2f} / {length:.2f} | {ours:.2f} / {energy:.2f} |")
    return lines


def draw(curves: list[Curve], path: Path) -> None:
    """Some curves beside PBE's."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(3, 4).flat
    for panel, curve in zip(panels, sorted(curves, key=lambda c: SHOWN.index(c.symbol)), strict=False):
        far = float(curve.energy[-1])
        panel.plot(curve.distance, curve.energy - far, "k--", lw=1.2, label="PBE")
        panel.plot(curve.fine, curve.found - far, color="#1f5fa8", lw=1.6, label="model")
        bottom = min(float(curve.energy.min()), float(curve.found.min())) - far
        panel.set(
            title=f"{curve.symbol}2",
            xlim=(0.7 * curve.fine[0], 6),
            ylim=(1.15 * min(bottom, -0.1), max(0.6 * abs(bottom), 0.2)),
        )
    figure.axes[0].legend(frameon=False)
    figure.supxlabel("distance (Å)")
    figure.supylabel("energy beyond two free atoms of PBE (eV)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
