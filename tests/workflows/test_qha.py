"""Quasi-harmonic properties, Grüneisen parameters and conductivity against phonopy's fit, identities, derivatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT

from forcefield.units import GPA
from forcefield.workflows.gruneisen import gruneisen_parameters
from forcefield.workflows.outcome import plain
from forcefield.workflows.phonons import phonons
from forcefield.workflows.qha import quasi_harmonic

phonopy = pytest.importorskip("phonopy")

OPTIONS = {"supercell": (2, 2, 2), "mesh_length": 20.0, "t_max": 400.0, "t_step": 20.0}


@pytest.fixture(scope="module")
def copper():
    return quasi_harmonic(bulk("Cu"), EMT(), **OPTIONS)


def test_same_as_the_fit_of_phonopy(copper):
    assert copper.verdict == "complete" and copper.fit_residual < 1e-4
    crystals = [bulk("Cu", a=(4 * volume) ** (1 / 3)) for volume in copper.scan_volumes]
    phonopys = [phonons(crystal, EMT(), relaxation="none", **OPTIONS).phonopy for crystal in crystals]
    other = phonopy.run_qha(
        phonopys, copper.temperatures, internal_energies=copper.scan_energies, mesh=20.0, exclude_gamma_acoustic=True
    )
    n = len(other.thermal_expansion) - 2
    assert n > 15
    np.testing.assert_allclose(copper.thermal_expansion[3:n], other.thermal_expansion[3:n], rtol=0.01)
    np.testing.assert_allclose(copper.bulk_modulus[:n], other.bulk_moduli[:n] / GPA, rtol=1e-3)


def test_thermodynamic_identities_hold(copper):
    t = copper.temperatures
    np.testing.assert_allclose(-np.gradient(copper.gibbs_energy, t)[6:-3], copper.entropy[6:-3], rtol=3e-3)
    np.testing.assert_allclose(t[6:-3] * np.gradient(copper.entropy, t)[6:-3], copper.heat_capacity_p[6:-3], rtol=5e-3)
    assert copper.heat_capacity_p[-1] > copper.heat_capacity_v[-1]
    assert copper.thermal_expansion[0] == 0.0 and copper.at(300.0, "thermal_expansion") > 0
    with pytest.raises(ValueError, match="0 to 400 K"):
        copper.at(500.0, "volume")


def test_free_energies_are_those_of_phonons_at_these_volumes(copper):
    volume = copper.scan_volumes[3]
    there = phonons(bulk("Cu", a=(4 * volume) ** (1 / 3)), EMT(), relaxation="none", **OPTIONS)
    np.testing.assert_allclose(
        there.thermal.free_energy, copper.scan_free_energies[:, 3] - copper.scan_energies[3], rtol=1e-4, atol=1e-7
    )


def test_pressure_shrinks_by_the_bulk_modulus(copper):
    pressed = quasi_harmonic(bulk("Cu"), EMT(), pressure=1.0, **OPTIONS)
    strain = np.log(pressed.volume / copper.volume)
    np.testing.assert_allclose(-1.0 / strain, 0.5 * (pressed.bulk_modulus + copper.bulk_modulus), rtol=5e-3)
    enthalpy = pressed.gibbs_energy - copper.gibbs_energy
    np.testing.assert_allclose(enthalpy, GPA * 0.5 * (pressed.volume + copper.volume), rtol=2e-3)


def test_gruneisen_parameters_are_the_logarithmic_derivative():
    result = gruneisen_parameters(bulk("Cu"), EMT(), **OPTIONS)
    assert result.verdict == "complete" and result.warnings == ()
    row = int(np.argmax(result.frequencies.min(axis=1)))
    a, frequencies = result.atoms.cell.cellpar()[0] * 2**0.5, []
    for factor in (0.99, 1.01):
        there = phonons(bulk("Cu", a=a * factor ** (1 / 3)), EMT(), relaxation="none", **OPTIONS)
        there.phonopy.run_qpoints([result.qpoints[row]])
        frequencies.append(np.sort(there.phonopy.qpoints.frequencies[0]))
    expected = -np.log(frequencies[1] / frequencies[0]) / np.log(1.01 / 0.99)
    order = np.argsort(result.frequencies[row])
    np.testing.assert_allclose(result.parameters[row][order], expected, rtol=0.01)
    content = json.loads(json.dumps(plain(result), allow_nan=False))
    assert content["ok"] is True and None in [value for values in content["parameters"] for value in values]


def test_mean_gruneisen_parameter_is_that_of_the_expansion(copper):
    mode_by_mode = gruneisen_parameters(bulk("Cu"), EMT(), **OPTIONS)
    row = 10  # 200 K, where the crystal has hardly expanded
    assert copper.gruneisen[row] == pytest.approx(mode_by_mode.mean[row], rel=0.05)


def test_crystal_that_outgrows_its_volumes_is_cut_short():
    result = quasi_harmonic(bulk("Cu"), EMT(), expansion=0.015, compression=0.03, **OPTIONS)
    assert result.verdict.startswith("cut short") and 100 < result.temperatures[-1] < 400
    assert any("outgrows the largest volume" in warning for warning in result.warnings)
    assert plain(result)["ok"] is False


def test_too_many_unstable_volumes_and_no_minimum_are_said():
    with pytest.raises(ValueError, match="0 of 7 volumes are free of imaginary modes"):
        quasi_harmonic(bulk("Cu", "sc", a=2.4), EMT(), **OPTIONS)
    with pytest.raises(ValueError, match="not within the volumes"):
        quasi_harmonic(bulk("Cu", a=3.5), EMT(), relaxation="none", expansion=0.01, **OPTIONS)


@pytest.mark.parametrize(
    ("function", "atoms", "options", "message"),
    [
        (quasi_harmonic, molecule("CO"), {}, "need a crystal"),
        (gruneisen_parameters, fcc111("Cu", (1, 1, 3), vacuum=6), {}, "need a crystal"),
        (quasi_harmonic, bulk("Cu"), {"n_volumes": 3}, "n_volumes is 3"),
        (quasi_harmonic, bulk("Cu"), {"expansion": 2.0}, "expansion 2.0"),
        (gruneisen_parameters, bulk("Cu"), {"volume_change": 0.0}, "volume_change is 0.0"),
    ],
)
def test_what_cannot_be_done_is_said(function, atoms, options, message):
    with pytest.raises(ValueError, match=message):
        function(atoms, EMT(), **options)


@pytest.mark.parametrize("function", [quasi_harmonic, gruneisen_parameters])
def test_unknown_options_of_phonons_name_the_nearest(function):
    with pytest.raises(
        TypeError, match=rf"{function.__name__}\(\) has no option 'supercel_length'; did you mean 'superc"
    ):
        function(bulk("Cu"), EMT(), supercel_length=10.0)
