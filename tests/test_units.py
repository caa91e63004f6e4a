"""Conversions against values that do not come from ase.units."""

from __future__ import annotations

import math

import pytest

from forcefield import units


def test_constants_equal_codata():
    # NIST, 2018 CODATA and 2019 SI: agreement to 1e-6 whatever the edition ASE tabulates.
    charge, atomic_mass, planck = 1.602176634e-19, 1.66053906660e-27, 6.62607015e-34
    time_unit = 1e-10 * math.sqrt(atomic_mass / charge)  # s
    expected = {
        "GPA": 1e9 * 1e-30 / charge,
        "KBAR": 1e8 * 1e-30 / charge,
        "FS": 1e-15 / time_unit,
        "PS": 1e-12 / time_unit,
        "THZ": 1e12 * time_unit,
        "KELVIN": 8.617333262e-5,
        "INVERSE_CM": 1.239841984e-4,
        "KJ_PER_MOL": 1.0 / 96.48533212,
        "KCAL_PER_MOL": 4.184 / 96.48533212,
        "HARTREE": 27.211386245988,
        "BOHR": 0.529177210903,
        "COULOMB": 14.3996454784,
        "PLANCK": planck / charge / time_unit,
        "HBAR": planck / charge / time_unit / (2 * math.pi),
        "GRAM_PER_CM3": 1e-3 * 1e-24 / atomic_mass,
    }
    for name, value in expected.items():
        assert getattr(units, name) == pytest.approx(value, rel=1e-6), name


def test_quantum_of_one_terahertz():
    quantum = units.PLANCK * units.THZ
    assert quantum == pytest.approx(4.135667696e-3, rel=1e-6)  # eV, NIST


def test_vibration_of_hydrogen_chloride():
    force_constant = 516.0 / 16.02176634  # 516 N/m in eV/Å²
    reduced_mass = 1.00784 * 34.96885 / (1.00784 + 34.96885)  # amu
    frequency = math.sqrt(force_constant / reduced_mass) / (2 * math.pi * units.THZ)
    assert frequency == pytest.approx(89.7, abs=0.3)  # 2991 cm⁻¹, Huber and Herzberg (1979)
