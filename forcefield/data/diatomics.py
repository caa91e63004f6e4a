"""Diatomic molecules with energies: a calculator's near the bond length, and the way down to the free atoms beyond it.

Potentials trained on crystals may know a short bond well and not its stretching, where spins part. There the energy
follows the universal binding curve (Rose, Smith, Guinea, Ferrante, Phys. Rev. B 29, 2963 (1984),
doi:10.1103/PhysRevB.29.2963),

    E(r) = E_free - D (1 + a) exp(-a),    a = (r - r_0) / l,    l = sqrt(D / E''(r_0)),

with bond length r_0, energy and curvature from the calculator and the depth D to given free atoms. What is left of it
near a potential's cutoff, where energies must vanish, is switched off smoothly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.data import covalent_radii
from numpy.typing import NDArray

from forcefield.data.fragments import name_of
from forcefield.data.frames import Frame, frame_from_atoms
from forcefield.data.label import labelled

SCAN = np.arange(0.52, 1.6, 0.04)
"""Distances looked at, in units of the sum of covalent radii."""
NEAR = (0.8, 1.15)
"""Distances that the calculator labels, in bond lengths."""
FAR = 1.45
"""Distance, in bond lengths, from which on the curve labels."""
LARGEST_RISE = 8.0
"""eV above the bound energy, up to which frames are given."""
SWITCH = 0.75
"""Of the cutoff: where the curve begins to be switched off."""
DEPTHS = (0.1, 14.0)
"""eV; a pair bound less or more is left out: it is no molecule, or the energies of calculator and atoms do not fit."""


@dataclass(frozen=True)
class Bond:
    """A diatomic molecule: length (Å), energy (eV), depth to the free atoms (eV), curvature (eV/Å^2)."""

    length: float
    energy: float
    depth: float
    curvature: float

    def curve(self, distance: float) -> tuple[float, float]:
        """Energy (eV) and its derivative (eV/Å) of the universal binding curve at a distance (Å)."""
        decay = float(np.sqrt(self.depth / self.curvature))
        a = (distance - self.length) / decay
        return self.energy + self.depth * (1 - (1 + a) * np.exp(-a)), self.depth * a * np.exp(-a) / decay


def diatomics(
    elements: Iterable[int],
    calculator: BaseCalculator,
    free_energies: Mapping[int, float],
    *,
    cutoff: float,
    stretched: int = 12,
) -> Iterator[Frame]:
    """Frames of kind "diatomic" of all pairs of the elements that bind, with energies and forces.

    Args:
        elements: atomic numbers.
        calculator: right about energies at the bond length.
        free_energies: atomic number -> energy of the free atom (eV), to which a molecule falls apart.
        cutoff: distance at which the potential to be trained sees two free atoms (Å).
        stretched: frames on the curve, evenly spaced from `FAR` bond lengths to the cutoff.
    """
    for pair in combinations_with_replacement(sorted(set(elements)), 2):
        total = covalent_radii[list(pair)].sum()
        scan = [labelled(_frame(pair, ratio * total), calculator) for ratio in SCAN]
        energies = np.array([_energy(frame) for frame in scan])
        bond = find_bond(SCAN * total, energies, free_energies[pair[0]] + free_energies[pair[1]])
        if bond is not None:
            yield from _near(bond, scan)
            yield from _stretched(bond, pair, cutoff, stretched)


def find_bond(distances: NDArray[np.float64], energies: NDArray[np.float64], free: float) -> Bond | None:
    """The bond of a scanned curve (Å, eV) with free atoms at ``free`` (eV); None without a minimum of sensible depth.

    A parabola through the lowest point and its neighbours gives length, energy and curvature.
    """
    k = int(energies.argmin())
    if not 0 < k < len(energies) - 1:
        return None
    near = slice(k - 1, k + 2)
    second, first, constant = np.polyfit(distances[near] - distances[k], energies[near], 2)
    shift = -first / (2 * second)
    energy = constant + first * shift + second * shift**2
    bond = Bond(float(distances[k] + shift), float(energy), float(free - energy), float(2 * second))
    return bond if DEPTHS[0] < bond.depth < DEPTHS[1] and bond.curvature > 0 else None


def _near(bond: Bond, scan: Iterable[Frame]) -> Iterator[Frame]:
    """Those of the calculator's frames that are near the bond length."""
    for frame in scan:
        near = NEAR[0] <= frame.positions[1, 2] / bond.length <= NEAR[1]
        if near and _energy(frame) < bond.energy + LARGEST_RISE:
            yield replace(frame, stress=None, atomic_energies=None)


def _stretched(bond: Bond, pair: tuple[int, int], cutoff: float, count: int) -> Iterator[Frame]:
    """Frames on the universal binding curve, which is switched off towards the cutoff."""
    free = bond.energy + bond.depth
    if FAR * bond.length < cutoff:
        for distance in np.linspace(FAR * bond.length, cutoff, count, endpoint=False):
            energy, slope = bond.curve(distance)
            share, change = switch(distance, cutoff)
            energy, slope = free + share * (energy - free), share * slope + change * (energy - free)
            yield replace(_frame(pair, distance), energy=energy, forces=np.array([[0, 0, slope], [0, 0, -slope]]))


def switch(distance: float, cutoff: float) -> tuple[float, float]:
    """A polynomial from 1 at `SWITCH` times the cutoff to 0 at the cutoff (Å), and its derivative (1/Å)."""
    width = (1 - SWITCH) * cutoff
    t = min(max((distance - SWITCH * cutoff) / width, 0.0), 1.0)
    return 1 - t**3 * (10 - 15 * t + 6 * t**2), -30 * t**2 * (1 - t) ** 2 / width


def _frame(pair: tuple[int, int], distance: float) -> Frame:
    atoms = ase.Atoms(list(pair), positions=[[0, 0, 0], [0, 0, distance]], info={"kind": "diatomic"})
    return frame_from_atoms(atoms, material=name_of(atoms))


def _energy(frame: Frame) -> float:
    assert frame.energy is not None
    return frame.energy
