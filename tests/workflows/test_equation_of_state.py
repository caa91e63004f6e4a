"""Equations of state against ASE's fits, elastic constants and exact parameters."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import eos as ase_eos
from ase.build import bulk, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st

from forcefield.units import GPA
from forcefield.workflows.elastic import elastic_constants
from forcefield.workflows.equation_fit import EQUATIONS, fit_equation
from forcefield.workflows.equation_of_state import EquationOptions, equation_of_state
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import plain


class Kinked(Calculator):
    """Energy that falls or rises with the volume, with a kink: what a change of phase in a scan looks like."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        strain = atoms.get_volume() / 11.8 - 1.0
        self.results = {"energy": 6.0 * strain**2 + 2.0 * abs(strain - 0.02), "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize(("equation", "name"), [("birch-murnaghan", "birchmurnaghan"), ("vinet", "vinet")])
def test_aluminium_agrees_with_the_fit_of_ase(equation, name):
    result = equation_of_state(bulk("Al"), EMT(), equation=equation)
    volumes, energies = [], []
    for a in np.linspace(3.92, 4.08, 9):
        atoms = bulk("Al", a=a)
        atoms.calc = EMT()
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    volume, energy, modulus = ase_eos.EquationOfState(volumes, energies, eos=name).fit()
    assert result.verdict == "minimum found" and result.warnings == () and result.spacegroups_kept
    assert result.equilibrium_volume == pytest.approx(volume, abs=2e-3)
    assert result.equilibrium_energy == pytest.approx(energy, abs=1e-4)
    assert result.bulk_modulus == pytest.approx(modulus / GPA, rel=0.01)
    # the same points, fitted by both
    volume, energy, modulus = ase_eos.EquationOfState(result.volumes, result.energies, eos=name).fit()
    assert (result.fit.volume, result.fit.bulk_modulus) == pytest.approx((volume, modulus / GPA), rel=1e-4)
    assert result.residual < 1e-4
    assert json.loads(json.dumps(plain(result), allow_nan=False))["ok"] is True


@given(
    equation=st.sampled_from(sorted(EQUATIONS)),
    v0=st.floats(5.0, 500.0),
    e0=st.floats(-1e3, 1e3),
    b0=st.floats(1.0, 450.0),
    b1=st.floats(2.0, 8.0),
)
def test_exact_energies_give_their_parameters_back(equation, v0, e0, b0, b1):
    volumes = v0 * np.linspace(0.93, 1.08, 9)
    fit = fit_equation(volumes, EQUATIONS[equation](volumes, v0, e0, b0 * GPA, b1), equation=equation)
    assert fit.volume == pytest.approx(v0, rel=1e-5) and fit.energy == pytest.approx(e0, abs=1e-6)
    assert fit.bulk_modulus == pytest.approx(b0, rel=1e-3)
    assert fit.bulk_modulus_derivative == pytest.approx(b1, abs=0.05) and fit.inside


def test_fixed_and_relaxed_shape_give_the_moduli_of_voigt_and_reuss():
    atoms = bulk("Cu") * (1, 1, 2)
    atoms.numbers[1] = 79
    averages = elastic_constants(atoms, EMT()).moduli
    assert averages.bulk_voigt > 1.0005 * averages.bulk_reuss
    options = {"volume_range": 0.03, "n_volumes": 7, "fmax": 1e-4}
    fixed = equation_of_state(atoms, EMT(), **options)
    relaxed = equation_of_state(atoms, EMT(), shape="relaxed", **options)
    assert fixed.bulk_modulus == pytest.approx(averages.bulk_voigt, rel=5e-3)
    assert relaxed.bulk_modulus == pytest.approx(averages.bulk_reuss, rel=5e-3)
    assert (relaxed.fit(fixed.volumes) < fixed.energies + 1e-5).all()


def test_atoms_are_relaxed_at_every_volume():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    loose = equation_of_state(atoms, EMT(), symmetry=False, relaxation="positions", n_volumes=5)
    stiff = equation_of_state(atoms, EMT(), symmetry=False, relaxation="none", n_volumes=5)
    assert (loose.energies < stiff.energies - 0.01).all()


def test_kink_and_missing_minimum_are_said():
    kinked = equation_of_state(bulk("Cu"), Kinked(), relaxation="none")
    assert any("the fit misses the energies by" in warning for warning in kinked.warnings)
    away = equation_of_state(bulk("Cu", a=3.3), EMT(), relaxation="none", volume_range=0.02)
    assert away.verdict == "no minimum within the volumes" and plain(away)["ok"] is False
    with pytest.raises(ValueError, match="bend downwards"):
        equation_of_state(bulk("Cu", a=5.0), EMT(), relaxation="none")


def test_interrupted_run_goes_on(tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    path = tmp_path / "forces.jsonl"
    with pytest.raises(KeyboardInterrupt):
        equation_of_state(bulk("Cu"), EMT(), store=ForceStore(path), callback=stop)
    assert len(ForceStore(path)) == 4
    again = equation_of_state(bulk("Cu"), EMT(), store=ForceStore(path))
    np.testing.assert_array_equal(again.energies, equation_of_state(bulk("Cu"), EMT()).energies)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"volume_range": 0.7}, "volume_range is 0.7"),
        ({"n_volumes": 4}, "n_volumes is 4"),
        ({"shape": "round"}, "shape is 'round'"),
        ({"equation": "hooke"}, "equation is 'hooke'"),
        ({"relaxation": "some"}, "relaxation is 'some'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        equation_of_state(bulk("Cu"), EMT(), **options)


def test_slab_and_bad_points_are_refused():
    with pytest.raises(ValueError, match="equations of state need a crystal"):
        equation_of_state(fcc111("Cu", (1, 1, 3), vacuum=6), EMT())
    with pytest.raises(ValueError, match="Five or more different volumes"):
        fit_equation(np.ones(7), np.ones(7))


def test_options_round_trip():
    options = EquationOptions(shape="relaxed", n_volumes=5)
    assert EquationOptions(**options.to_dict()) == options
