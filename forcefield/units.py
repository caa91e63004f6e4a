"""Unit conversions for the borders of the package.

Inside, everything is in eV, Å, eV/Å, eV/Å³, amu and elementary charges; the unit of time that follows is
Å·sqrt(amu/eV), about 10.18 fs. Multiply by a constant to come in (``pressure * GPA``), divide to show
(``stress / GPA``).

All values are CODATA 2014 as tabulated by `ase.units` (https://doi.org/10.1063/1.4954402), so that numbers agree to the
last digit with what ASE itself prints.
"""

from __future__ import annotations

import math

import ase.units

# Mechanics and time.
GPA: float = ase.units.GPa
"""1 GPa in eV/Å³."""

KBAR: float = 0.1 * GPA
"""1 kbar in eV/Å³."""

FS: float = ase.units.fs
"""1 femtosecond in Å·sqrt(amu/eV)."""

PS: float = 1000.0 * FS
"""1 picosecond in Å·sqrt(amu/eV)."""

THZ: float = 1.0 / PS
"""1 THz in 1/(Å·sqrt(amu/eV)); a vibration of eigenvalue λ (eV/Å²/amu) has the frequency sqrt(λ) / (2π·THZ) in THz."""

GRAM_PER_CM3: float = 1.0 / (ase.units._amu * 1.0e3 * 1.0e24)
"""1 g/cm³ in amu/Å³."""

# Energies.
KELVIN: float = ase.units.kB
"""1 K as an energy (Boltzmann's constant), in eV."""

INVERSE_CM: float = ase.units.invcm
"""1 cm⁻¹ as an energy (h·c/cm), in eV."""

KJ_PER_MOL: float = ase.units.kJ / ase.units.mol
"""1 kJ/mol in eV."""

KCAL_PER_MOL: float = ase.units.kcal / ase.units.mol
"""1 kcal/mol in eV."""

HARTREE: float = ase.units.Hartree
"""1 hartree in eV."""

# Quantum mechanics and electrostatics.
HBAR: float = ase.units._hbar * ase.units.J * ase.units.second
"""Reduced Planck constant in eV·Å·sqrt(amu/eV)."""

PLANCK: float = 2.0 * math.pi * HBAR
"""Planck constant in eV·Å·sqrt(amu/eV); ``PLANCK * THZ`` is the energy of a 1 THz quantum in eV."""

BOHR: float = ase.units.Bohr
"""1 bohr in Å."""

COULOMB: float = ase.units.Hartree * ase.units.Bohr
"""e²/(4πε₀) in eV·Å: two elementary charges r Å apart have the energy COULOMB / r eV."""
