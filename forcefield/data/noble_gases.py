"""Pairs of noble gas atoms with energies, from measured and ab initio pair potentials instead of a calculator.

Potentials trained on crystals know nothing of two lone noble gas atoms, and teachers invent bonds. The curves are those
of Tang and Toennies, J. Chem. Phys. 118, 4976 (2003), doi:10.1063/1.1543944, eq. 1,

    E(r) = A exp(-b r) - sum_n (1 - exp(-b r) sum_k=0^2n (b r)^k / k!) C_2n / r^2n,    n = 3, 4, 5,

with the parameters of the like pairs (table I there). For mixed pairs the repulsion is combined by the rule of Böhm and
Ahlrichs (J. Chem. Phys. 77, 2028 (1982), doi:10.1063/1.444057), b the harmonic mean and A^(1/b) the geometric one, and
the dispersion coefficients are geometric means. Towards a potential's cutoff the curve is switched off, as for
`diatomics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import ase
import numpy as np
from ase import units

from forcefield.data.diatomics import switch
from forcefield.data.fragments import name_of
from forcefield.data.frames import Frame, frame_from_atoms

LARGEST_FORCE = 100.0
"""eV/Å; nearer pairs are not given."""
NEAREST = 0.5
"""Å; and none nearer than this."""


@dataclass(frozen=True)
class TangToennies:
    """Pair potential in atomic units: A (Eh), b (1/a0), C6, C8 and C10 (Eh a0^6, a0^8, a0^10)."""

    strength: float
    decay: float
    dispersion: tuple[float, float, float]

    def energy(self, distance: float) -> float:
        """Energy (eV) at a distance (Å)."""
        r = distance / units.Bohr
        x = self.decay * r
        attraction = 0.0
        for n, coefficient in zip((6, 8, 10), self.dispersion, strict=True):
            partial = sum(x**k / math.factorial(k) for k in range(n + 1))
            attraction += (1 - math.exp(-x) * partial) * coefficient / r**n
        return float((self.strength * math.exp(-x) - attraction) * units.Hartree)

    def slope(self, distance: float) -> float:
        """Derivative of the energy (eV/Å) at a distance (Å)."""
        r = distance / units.Bohr
        x = self.decay * r
        total = -self.strength * self.decay * math.exp(-x)
        for n, coefficient in zip((6, 8, 10), self.dispersion, strict=True):
            damping = 1 - math.exp(-x) * sum(x**k / math.factorial(k) for k in range(n + 1))
            rise = self.decay * math.exp(-x) * x**n / math.factorial(n)
            total += (n * damping / r - rise) * coefficient / r**n
        return float(total * units.Hartree / units.Bohr)


LIKE_PAIRS = {
    2: TangToennies(41.96, 2.523, (1.461, 14.11, 183.5)),
    10: TangToennies(199.5, 2.458, (6.383, 90.34, 1536.0)),
    18: TangToennies(748.3, 2.031, (64.30, 1623.0, 49060.0)),
    36: TangToennies(832.4, 1.865, (129.6, 4187.0, 155500.0)),
    54: TangToennies(951.8, 1.681, (285.9, 12810.0, 619800.0)),
}
"""Atomic number -> potential of two such atoms."""


def pair_potential(first: int, second: int) -> TangToennies:
    """The potential of two noble gas atoms.

    Raises:
        ValueError: an atom is not helium, neon, argon, krypton or xenon.
    """
    for number in (first, second):
        if number not in LIKE_PAIRS:
            raise ValueError(f"got the atomic number {number}; there are curves for {sorted(LIKE_PAIRS)} only")
    one, other = LIKE_PAIRS[first], LIKE_PAIRS[second]
    decay = 2 * one.decay * other.decay / (one.decay + other.decay)
    strength = (one.strength ** (1 / one.decay) * other.strength ** (1 / other.decay)) ** (decay / 2)
    c6, c8, c10 = (math.sqrt(a * b) for a, b in zip(one.dispersion, other.dispersion, strict=True))
    return TangToennies(strength, decay, (c6, c8, c10))


def noble_gas_pairs(
    elements: Iterable[int], free_energies: Mapping[int, float], *, cutoff: float, count: int = 60
) -> Iterator[Frame]:
    """Frames of kind "diatomic" of all pairs of the elements that are noble gases, with energies and forces.

    Args:
        elements: atomic numbers; those without a curve are left out.
        free_energies: atomic number -> energy of the free atom (eV).
        cutoff: distance at which the potential to be trained sees two free atoms (Å).
        count: frames of each pair, evenly spaced from where the force is `LARGEST_FORCE` to the cutoff.
    """
    for pair in combinations_with_replacement(sorted(set(elements) & set(LIKE_PAIRS)), 2):
        potential, free = pair_potential(*pair), free_energies[pair[0]] + free_energies[pair[1]]
        distances = np.arange(NEAREST, cutoff, 0.01)
        nearest = next(r for r in distances if abs(potential.slope(r)) <= LARGEST_FORCE)
        for distance in np.linspace(nearest, cutoff, count, endpoint=False):
            energy, slope = potential.energy(distance), potential.slope(distance)
            share, change = switch(distance, cutoff)
            slope = share * slope + change * energy
            atoms = ase.Atoms(list(pair), positions=[[0, 0, 0], [0, 0, distance]], info={"kind": "diatomic"})
            frame = frame_from_atoms(atoms, material=name_of(atoms))
            yield replace(frame, energy=free + share * energy, forces=np.array([[0, 0, slope], [0, 0, -slope]]))
