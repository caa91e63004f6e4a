"""Elastic constants against second derivatives of the energy, and the tensor's algebra against known formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from forcefield.units import GPA
from forcefield.workflows.elastic import ElasticOptions, elastic_constants
from forcefield.workflows.elastic_strains import extrapolate
from forcefield.workflows.elastic_tensor import (
    eigenvalues,
    moduli,
    point_group_rotations,
    strain_matrix,
    symmetrise,
    to_full,
    to_voigt,
)
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import plain
from forcefield.workflows.plots_elastic import young_modulus


def argon():
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, smooth=True)


class NoStress(EMT):
    implemented_properties = ("energy", "forces")

    def get_stress(self, atoms=None):
        raise PropertyNotImplementedError("stress")


def constants_from_energies(atoms, make_calculator):
    """Relaxed-ion tensor (GPa) of an unstressed crystal from energies alone: A - B K^-1 B^T.

    A, B and K are second derivatives by strain, by strain and position, and by position.
    """
    n = 6 + 3 * len(atoms)
    step = np.array([2e-4] * 6 + [2e-3] * (n - 6))

    def energy(x):
        work = atoms.copy()
        work.positions += x[6:].reshape(-1, 3)
        squares, axes = np.linalg.eigh(np.eye(3) + 2 * strain_matrix(x[:6]))
        work.set_cell(work.cell.array @ (axes @ np.diag(np.sqrt(squares)) @ axes.T), scale_atoms=True)
        work.calc = make_calculator()
        return work.get_potential_energy()

    second = np.empty((n, n))
    unit = np.diag(step)
    for a in range(n):
        for b in range(a, n):
            signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
            total = sum(p * q * energy(p * unit[a] + q * unit[b]) for p, q in signs)
            second[a, b] = second[b, a] = total / (4 * step[a] * step[b])
    coupling, inner = second[:6, 6:], second[6:, 6:]
    relaxed = second[:6, :6] - coupling @ np.linalg.pinv(inner, rcond=1e-4) @ coupling.T
    return second[:6, :6] / atoms.get_volume() / GPA, relaxed / atoms.get_volume() / GPA


def test_hexagonal_tensor_equals_second_derivatives_with_internal_relaxation():
    result = elastic_constants(bulk("Ar", "hcp", a=3.75, c=6.12), argon(), fmax=1e-5, smax=1e-4)
    clamped, relaxed = constants_from_energies(result.atoms, argon)
    np.testing.assert_allclose(result.tensor, relaxed, atol=0.004 * relaxed.max())
    assert np.abs(clamped - relaxed).max() > 0.02 * relaxed.max()  # the relaxation matters here
    frozen = elastic_constants(result.atoms, argon(), relaxation="none", internal=False)
    np.testing.assert_allclose(frozen.tensor, clamped, atol=0.004 * relaxed.max())
    c = result.tensor
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2) and c[3, 3] == pytest.approx(c[4, 4])
    assert result.stable and result.method == "stress" and result.spacegroup.number == 194
    assert result.residual < 0.01 and result.asymmetry < 0.01 and result.warnings == ()


def test_energies_give_what_stresses_give_also_under_pressure():
    squeezed = bulk("Al", a=3.8)
    by_stress = elastic_constants(squeezed, EMT(), relaxation="none")
    by_energy = elastic_constants(squeezed, EMT(), relaxation="none", method="energy", internal=False)
    np.testing.assert_allclose(by_energy.tensor, by_stress.tensor, atol=0.02)
    np.testing.assert_allclose(by_energy.stress, by_stress.stress, atol=0.01)
    assert any("under a stress of up to 4.09 GPa" in warning for warning in by_stress.warnings)
    # bulk modulus of the squeezed crystal, -V dP/dV from energies
    volumes = squeezed.get_volume() * np.array([0.998, 0.999, 1.0, 1.001, 1.002])
    energies = []
    for volume in volumes:
        work = squeezed.copy()
        work.set_cell(work.cell.array * (volume / squeezed.get_volume()) ** (1 / 3), scale_atoms=True)
        work.calc = EMT()
        energies.append(work.get_potential_energy())
    curvature = 2 * np.polyfit(volumes - squeezed.get_volume(), energies, 4)[2]
    assert by_stress.moduli.bulk == pytest.approx(squeezed.get_volume() * curvature / GPA, rel=2e-3)


def test_calculator_without_stress_falls_back_to_energies():
    relaxed = elastic_constants(bulk("Cu"), EMT())
    result = elastic_constants(relaxed.atoms, NoStress(), relaxation="positions", strains=(0.005,))
    assert result.method == "energy" and result.residual == 0.0
    np.testing.assert_allclose(result.tensor, relaxed.tensor, atol=1.0)


def test_axes_of_the_structure_are_those_of_the_tensor():
    turned = bulk("Cu", cubic=True)
    turned.rotate(30, "z", rotate_cell=True)
    straight, result = (elastic_constants(atoms, EMT()) for atoms in (bulk("Cu", cubic=True), turned))
    angle = np.radians(30)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    expected = to_voigt(np.einsum("ia,jb,kc,md,abcd->ijkm", *[matrix] * 4, to_full(straight.tensor)))
    np.testing.assert_allclose(result.tensor, expected, atol=0.1)


def test_unstable_crystal_is_called_so():
    crystal = Atoms("Ar", cell=[1.07] * 3, pbc=True)
    result = elastic_constants(crystal, LennardJones(sigma=1.0, epsilon=1.0, rc=2.5, smooth=True), symmetry=True)
    assert result.verdict == "mechanically unstable" and not result.stable and result.moduli is None
    assert result.eigenvalues[0] < 0
    assert json.loads(json.dumps(plain(result), allow_nan=False))["ok"] is False


def cubic(c11, c12, c44):
    tensor = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    tensor[:3, :3] += c12
    return tensor


def test_moduli_of_a_cubic_crystal_follow_its_formulas():
    c11, c12, c44 = 168.4, 121.4, 75.4  # copper
    found = moduli(cubic(c11, c12, c44))
    shear_voigt = (c11 - c12 + 3 * c44) / 5
    shear_reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    zener = 2 * c44 / (c11 - c12)
    assert (found.bulk, found.bulk_voigt, found.bulk_reuss) == pytest.approx([(c11 + 2 * c12) / 3] * 3)
    assert (found.shear_voigt, found.shear_reuss) == pytest.approx((shear_voigt, shear_reuss))
    assert found.anisotropy == pytest.approx(6 / 5 * (zener**0.5 - zener**-0.5) ** 2)
    np.testing.assert_allclose(
        eigenvalues(cubic(c11, c12, c44)), sorted([c11 - c12] * 2 + [2 * c44] * 3 + [c11 + 2 * c12])
    )
    directions = np.array([[1, 0, 0], [1, 1, 0] / np.sqrt(2), [1, 1, 1] / np.sqrt(3)])
    s11 = (c11 + c12) / ((c11 - c12) * (c11 + 2 * c12))
    s12 = -c12 / ((c11 - c12) * (c11 + 2 * c12))
    expected = [1 / (s11 - 2 * (s11 - s12 - 0.5 / c44) * f) for f in (0, 1 / 4, 1 / 3)]
    np.testing.assert_allclose(young_modulus(cubic(c11, c12, c44), directions), expected)


def test_moduli_of_an_isotropic_solid():
    found = moduli(cubic(100.0, 40.0, 30.0))
    assert found.anisotropy == pytest.approx(0, abs=1e-12)
    assert found.young == pytest.approx(2 * 30.0 * (1 + found.poisson)) and found.poisson == pytest.approx(40 / 140)
    assert moduli(cubic(100.0, 120.0, 30.0)) is None


def test_symmetrising_gives_the_independent_constants_of_the_class():
    noisy = np.random.default_rng(1).normal(size=(6, 6)) + cubic(100.0, 40.0, 30.0)
    tensor = symmetrise(noisy, point_group_rotations(bulk("Cu", cubic=True)))
    np.testing.assert_allclose(tensor, cubic(tensor[0, 0], tensor[0, 1], tensor[3, 3]), atol=1e-12)
    again = symmetrise(tensor, point_group_rotations(bulk("Cu")))  # the primitive cell has the same axes
    np.testing.assert_allclose(again, tensor, atol=1e-12)
    hexagonal = symmetrise(noisy, point_group_rotations(bulk("Ti")))
    assert hexagonal[5, 5] == pytest.approx((hexagonal[0, 0] - hexagonal[0, 1]) / 2)
    np.testing.assert_allclose(to_voigt(to_full(tensor)), tensor)


def test_extrapolation_removes_the_square_of_the_strain():
    sizes = np.array([0.01, 0.02, 0.03])
    value, residual = extrapolate(sizes, 5.0 + 100.0 * sizes[:, None] ** 2 * np.ones((3, 2)))
    np.testing.assert_allclose(value, 5.0)
    assert residual == pytest.approx(100 * 0.03**2 / 5)


def test_interrupted_run_goes_on(tmp_path):
    calls = []
    options = {"relaxation": "none", "strains": (0.005,)}
    store = ForceStore(tmp_path / "forces.jsonl")

    def stop(done, total):
        calls.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        elastic_constants(bulk("Cu"), EMT(), store=store, callback=stop, **options)
    assert calls[-1] == (5, 13)
    kept = ForceStore(tmp_path / "forces.jsonl")
    assert len(kept) == 6  # the crystal and five strained cells
    again = elastic_constants(bulk("Cu"), EMT(), store=kept, **options)
    np.testing.assert_array_equal(again.tensor, elastic_constants(bulk("Cu"), EMT(), **options).tensor)


@pytest.mark.parametrize(
    ("atoms", "calculator", "options", "message"),
    [
        (molecule("CO"), EMT(), {}, "elastic constants need a crystal"),
        (fcc111("Cu", (1, 1, 3), vacuum=6), EMT(), {}, "periodic along a, b"),
        (bulk("Cu"), NoStress(), {}, "gives none"),
        (bulk("Cu"), NoStress(), {"relaxation": "none", "method": "stress"}, 'Use method="energy"'),
        (bulk("Cu", a=3.9), EMT(), {"steps": 1}, "did not converge: step limit"),
        (bulk("Cu"), EMT(), {"strains": ()}, "strains is"),
        (bulk("Cu"), EMT(), {"strains": (0.5,)}, "strains is"),
        (bulk("Cu"), EMT(), {"method": "guess"}, "method is 'guess'"),
    ],
)
def test_what_cannot_be_done_is_said(atoms, calculator, options, message):
    with pytest.raises(ValueError, match=message):
        elastic_constants(atoms, calculator, **options)


def test_options_round_trip():
    options = ElasticOptions(strains=(0.01,), internal=False)
    assert ElasticOptions(**options.to_dict()) == options
