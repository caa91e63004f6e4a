"""Phonons against dynamical matrices built by hand, analytic formulas and phonopy's published example."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from scipy.optimize import minimize_scalar

from forcefield.calculator import GNNCalculator
from forcefield.units import KELVIN, PLANCK, THZ
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import plain
from forcefield.workflows.phonons import phonons
from forcefield.workflows.phonons_setup import PhononOptions, choose_supercell

pytest.importorskip("phonopy")
pytest.importorskip("seekpath")

DATA = Path(__file__).parent / "data" / "nacl_forces.txt"
QUICK = {"mesh_length": 20.0, "t_max": 300.0, "t_step": 100.0}


def dynamical_frequencies(supercell, calculator, n_primitive, images, qpoint_cartesian):
    """Frequencies (THz) at a q-point (1/Å, without 2π) from a finite-difference Hessian, with numpy alone.

    Args:
        supercell: copies of a primitive cell, cell after cell.
        calculator: an ASE calculator.
        n_primitive: atoms of the primitive cell.
        images: (cells, 3) lattice vector of each copy (Å).
        qpoint_cartesian: (3,).
    """
    atoms = supercell.copy()
    atoms.calc = calculator
    n, step = 3 * n_primitive, 1.0e-3
    hessian = np.empty((n, 3 * len(atoms)))
    for row in range(n):
        atom, axis = divmod(row, 3)
        forces = []
        for sign in (1.0, -1.0):
            atoms.positions = supercell.positions
            atoms.positions[atom, axis] += sign * step
            forces.append(atoms.get_forces().ravel())
        hessian[row] = (forces[1] - forces[0]) / (2.0 * step)
    masses = np.repeat(supercell.get_masses()[:n_primitive], 3)
    matrix = np.zeros((n, n), dtype=complex)
    shortest = images - np.rint(images @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
    for number, image in enumerate(shortest):
        block = hessian[:, n * number : n * (number + 1)] / np.sqrt(np.outer(masses, masses))
        matrix += block * np.exp(2j * np.pi * qpoint_cartesian @ image)
    eigenvalues = np.linalg.eigvalsh(0.5 * (matrix + matrix.conj().T))
    return np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) / (2.0 * np.pi * THZ)


def solve(result, qpoint):
    result.phonopy.run_qpoints([qpoint])
    return result.phonopy.qpoints.frequencies[0]


class ReplayedNaCl(Calculator):
    """Gives the published forces for the displaced supercells of phonopy's NaCl example, and none at rest."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        moved = np.loadtxt(DATA).reshape(2, 64, 3) * 1.0e-8
        scaled = atoms.positions / (5.68173694 / 2)
        shift = (scaled - np.rint(scaled)) * 5.68173694 / 2
        atom = int(np.argmax(np.linalg.norm(shift, axis=1)))
        forces = np.zeros((64, 3))
        if np.abs(shift).max() > 1.0e-6:
            np.testing.assert_allclose(shift[atom], [0.01, 0, 0], atol=1e-9)
            forces = moved[{0: 0, 32: 1}[atom]]
        self.results = {"energy": 0.0, "forces": forces}


@pytest.fixture
def rock_salt():
    """The crystal of the example."""
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    anions = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Atoms("Na4Cl4", cell=[5.68173694] * 3, scaled_positions=corners + anions, pbc=True)


@pytest.mark.parametrize("first", ["# of NaCl", "default"])
def test_file_of_born_charges_may_leave_the_factor_out(rock_salt, tmp_path, first):
    born = tmp_path / "BORN"
    born.write_text(f"{first}\n2.4 0 0 0 2.4 0 0 0 2.4\n1.1 0 0 0 1.1 0 0 0 1.1\n-1.1 0 0 0 -1.1 0 0 0 -1.1\n")
    arrays = {"born": np.array([1.1 * np.eye(3), -1.1 * np.eye(3)]), "dielectric": 2.4 * np.eye(3)}
    options = {"supercell": (2, 2, 2), "relaxation": "none", **QUICK}
    read, given = (solve(phonons(rock_salt, ReplayedNaCl(), born=b, **options), [0.1] * 3) for b in (born, arrays))
    np.testing.assert_allclose(read, given, atol=1e-4)


def test_published_force_sets_give_the_published_frequencies(rock_salt, tmp_path):
    born = tmp_path / "BORN"
    born.write_text(
        "14.400\n2.43533967 0 0 0 2.43533967 0 0 0 2.43533967\n"
        "1.086875 0 0 0 1.086875 0 0 0 1.086875\n-1.086875 0 0 0 -1.086875 0 0 0 -1.086875\n"
    )
    result = phonons(rock_salt, ReplayedNaCl(), supercell=(2, 2, 2), relaxation="none", born=born, **QUICK)
    assert result.supercell_atoms == 64 and result.n_displacements == 2 and len(result.primitive) == 2
    # from phonopy's own test of the same force sets (test_gruneisen.py): q = (0.1, 0.1, 0.1) and L
    expected = {
        0.1: [0.83972, 0.83972, 1.35220, 4.59739, 4.59739, 7.36643],
        0.5: [3.27963, 3.27963, 3.86212, 3.86212, 5.12773, 6.31436],
    }
    np.testing.assert_allclose(solve(result, [0.5] * 3), expected[0.5], atol=5e-4)
    # between the supercell's q-points the highest mode depends on how the dipoles are interpolated
    np.testing.assert_allclose(solve(result, [0.1] * 3)[:5], expected[0.1][:5], atol=2e-3)
    np.testing.assert_allclose(solve(result, [0.1] * 3)[5], expected[0.1][5], atol=0.02)
    # LO lies above TO next to Γ, by ω² = ω_TO² + (e²/ε₀V) Z² / (μ ε)
    volume, reduced = 5.68173694**3 / 4, 1 / (1 / 22.989769 + 1 / 35.453)
    near = solve(result, [1e-4, 1e-4, 0.0])
    split = 4 * np.pi * 14.399645 * 1.086875**2 / (2.43533967 * volume * reduced)
    assert (near[5] ** 2 - near[3] ** 2) * (2 * np.pi * THZ) ** 2 == pytest.approx(split, rel=1e-3)
    charges = {"born": np.array([1.086875 * np.eye(3), -1.086875 * np.eye(3)]), "dielectric": 2.43533967 * np.eye(3)}
    by_arrays = phonons(rock_salt, ReplayedNaCl(), supercell=(2, 2, 2), relaxation="none", born=charges, **QUICK)
    np.testing.assert_allclose(solve(by_arrays, [0.1] * 3), solve(result, [0.1] * 3), atol=1e-3)
    assert not [text for text in result.warnings + by_arrays.warnings if "Born" in text]
    without = phonons(rock_salt, ReplayedNaCl(), supercell=(2, 2, 2), relaxation="none", **QUICK)
    assert without.bands.frequencies[0][0].max() == pytest.approx(near[3], abs=0.01)


@pytest.mark.parametrize("qpoint", [(0.25, 0.25, 0.0), (0.5, 0.0, 0.0), (0.25, 0.5, 0.75)])
def test_frequencies_of_a_metal_equal_those_of_a_dynamical_matrix_made_by_hand(qpoint):
    primitive = bulk("Cu", a=3.6)
    result = phonons(primitive, EMT(), supercell=(4, 4, 4), relaxation="none", **QUICK)
    cell = primitive.cell.array
    images = np.array(list(product(range(4), repeat=3))) @ cell
    supercell = primitive.repeat(4)
    np.testing.assert_allclose(supercell.positions, images, atol=1e-9)
    expected = dynamical_frequencies(supercell, EMT(), 1, images, np.linalg.inv(cell) @ qpoint)
    basis = np.array(qpoint) @ np.linalg.inv(cell).T @ result.primitive.cell.array.T  # in phonopy's primitive cell
    np.testing.assert_allclose(solve(result, basis), expected, rtol=2e-3)


def test_hessian_equals_displacements(tiny_model):
    calculator = GNNCalculator(tiny_model, dtype="float64")
    crystal = bulk("NaCl", "rocksalt", a=5.6)
    options = {"supercell": (2, 2, 2), "relaxation": "none", "tolerance": 50.0, **QUICK}
    one = phonons(crystal, calculator, method="hessian", **options)
    other = phonons(crystal, calculator, displacement=0.002, **options)
    assert one.n_displacements == 0 and other.n_displacements >= 2
    for a, b in zip(one.bands.frequencies, other.bands.frequencies, strict=True):
        np.testing.assert_allclose(a, b, atol=0.01 * np.abs(b).max())


def test_thermodynamics_are_those_of_harmonic_oscillators():
    result = phonons(bulk("Al"), EMT(), supercell=(2, 2, 2), mesh_length=15.0, t_max=400.0, t_step=200.0)
    mesh = result.phonopy.mesh
    energies = mesh.frequencies * PLANCK * THZ
    weights = np.broadcast_to((mesh.weights / mesh.weights.sum())[:, None], energies.shape)[energies > 1e-6]
    energies = energies[energies > 1e-6]
    thermal = result.thermal
    np.testing.assert_allclose(thermal.temperatures, [0, 200, 400])
    for row, temperature in enumerate((0.0, 200.0, 400.0)):
        free, heat, entropy = 0.5 * energies, np.zeros_like(energies), np.zeros_like(energies)
        if temperature > 0:
            t = KELVIN * temperature
            n = 1.0 / np.expm1(energies / t)
            free = free + t * np.log1p(-np.exp(-energies / t))
            heat = KELVIN * (energies / t) ** 2 * n * (n + 1)
            entropy = KELVIN * ((1 + n) * np.log1p(n) - n * np.log(n))
        for got, want in ((thermal.free_energy, free), (thermal.heat_capacity, heat), (thermal.entropy, entropy)):
            assert got[row] == pytest.approx((weights * want).sum(), rel=1e-5, abs=1e-12)
    assert result.zero_point_energy == pytest.approx(thermal.free_energy[0], rel=1e-6)
    step = result.dos.frequencies[1] - result.dos.frequencies[0]
    assert result.dos.total.sum() * step == pytest.approx(3.0, rel=0.02)


def test_isotope_mass_counts():
    light, heavy = bulk("Al"), bulk("Al")
    heavy.set_masses([4 * light.get_masses()[0]])
    a, b = (phonons(atoms, EMT(), supercell=(2, 2, 2), **QUICK) for atoms in (light, heavy))
    assert a.highest_frequency == pytest.approx(2 * b.highest_frequency, rel=1e-6)


def unstable_crystal():
    """A simple cubic crystal whose lowest mode at a zone corner is imaginary, by a Lennard-Jones potential."""
    return Atoms("Ar", cell=[1.1] * 3, pbc=True), LennardJones(sigma=1.0, epsilon=1.0, rc=2.5, smooth=True)


def test_imaginary_modes_are_reported_and_followed_downhill():
    atoms, calculator = unstable_crystal()
    options = {"supercell": (2, 2, 2), "symmetry": False, **QUICK}
    plainly = phonons(atoms, calculator, **options)
    assert plainly.verdict == "imaginary modes" and not plainly.stable and plainly.stable_structure is None
    mode = plainly.imaginary[0]
    assert mode.commensurate and mode.frequency == pytest.approx(plainly.lowest_frequency) and mode.frequency < 0
    assert solve(plainly, mode.qpoint)[mode.band] == pytest.approx(mode.frequency)
    assert np.linalg.norm(mode.eigenvector) == pytest.approx(1.0)
    assert any("imaginary and left out" in warning for warning in plainly.warnings)
    followed = phonons(atoms, calculator, follow_imaginary=True, follow_rounds=4, **options)
    assert followed.verdict == "imaginary modes, followed to a stable structure"
    assert followed.stable_structure is not None and followed.followed[-1].lowest_frequency > -0.05
    assert all(step.energy_gain > 0 for step in followed.followed)

    def energy(structure):
        work = structure.copy()
        work.calc = calculator
        return work.get_potential_energy() / len(work)

    gain = sum(step.energy_gain for step in followed.followed)
    assert energy(followed.stable_structure) == pytest.approx(energy(followed.atoms) - gain, abs=1e-6)
    # the way down ends in hexagonal close packing, which this potential prefers to cubic
    close_packed = minimize_scalar(
        lambda a: energy(bulk("Ar", "hcp", a=a, c=a * (8 / 3) ** 0.5)), bounds=(1.0, 1.2), method="bounded"
    ).fun
    assert energy(followed.stable_structure) == pytest.approx(close_packed, abs=1e-3)


@pytest.mark.parametrize(
    ("atoms", "length", "lengths"),
    [
        (bulk("Al", a=4.05), 12.0, [12.15] * 3),  # the primitive cell becomes the cubic one
        (bulk("Al", a=4.05, cubic=True), 20.0, [20.25] * 3),
        (bulk("Ti", a=2.95, c=4.68), 10.0, [11.8, 11.8, 14.04]),
        (bulk("Fe", a=2.87), 1.0, [2.87] * 3),
    ],
)
def test_supercell_is_long_enough_and_as_symmetric_as_the_crystal(atoms, length, lengths):
    matrix = choose_supercell(atoms, length)
    np.testing.assert_allclose(sorted(np.linalg.norm(matrix @ atoms.cell.array, axis=1)), lengths, atol=1e-6)


def test_interrupted_run_goes_on_with_the_forces_it_has(tmp_path):
    class StopsAt(EMT):
        limit, calls = 0, 0

        def calculate(self, *args, **kwargs):
            StopsAt.calls += 1
            if StopsAt.calls == StopsAt.limit:
                raise KeyboardInterrupt
            super().calculate(*args, **kwargs)

    atoms = bulk("Cu") * (1, 1, 2)
    atoms.numbers[1] = 79  # tetragonal CuAu: two displacements
    path = tmp_path / "forces.jsonl"
    options = {"supercell": (2, 2, 1), "relaxation": "none", **QUICK}
    whole = phonons(atoms, EMT(), **options)
    StopsAt.limit = 3
    with pytest.raises(KeyboardInterrupt):
        phonons(atoms, StopsAt(), store=ForceStore(path), **options)
    with path.open("a") as stream:
        stream.write('{"structure": "cut sho')  # as a kill in the middle of a write leaves it
    store = ForceStore(path)
    assert len(store) == 3  # the crystal, the supercell at rest, one displacement
    again = phonons(atoms, EMT(), store=store, **options)
    assert store.computed == whole.n_displacements - 1 == 1
    np.testing.assert_array_equal(again.thermal.free_energy, whole.thermal.free_energy)
    fresh = ForceStore(path, resume=False)
    assert len(fresh) == 0 and not path.exists()


def test_relaxation_and_symmetry_are_reported():
    result = phonons(bulk("Cu", a=3.7), EMT(), supercell=(2, 2, 2), **QUICK)
    assert result.relaxation.converged and result.relaxation.spacegroup_after.number == 225
    assert result.atoms.cell.cellpar()[0] * 2**0.5 == pytest.approx(3.59, abs=0.01)
    assert result.bands.labels[0] == ("Γ", "X") and result.verdict == "stable"
    content = json.loads(json.dumps(plain(result), allow_nan=False))
    assert content["ok"] is True and content["formula"] == "Cu" and len(content["thermal"]["temperatures"]) == 4


class NoStress(EMT):
    implemented_properties = ("energy", "forces")

    def get_stress(self, atoms=None):
        from ase.calculators.calculator import PropertyNotImplementedError

        raise PropertyNotImplementedError("stress")


class NotANumber(EMT):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = np.full_like(self.results["forces"], np.nan)


@pytest.mark.parametrize(
    ("atoms", "calculator", "options", "message"),
    [
        (molecule("CO"), EMT(), {}, r"phonons need a crystal.*periodic along no axis. .*ase.vibrations"),
        (fcc111("Cu", (1, 1, 3), vacuum=6), EMT(), {}, "phonons need a crystal.*periodic along a, b"),
        (bulk("Cu"), NoStress(), {}, "needs a stress, but NoStress gives none"),
        (bulk("Cu"), EMT(), {"method": "hessian", "relaxation": "none", "supercell": (1, 1, 1)}, "get_hessian"),
        (bulk("Cu", a=3.9), EMT(), {"steps": 1}, "did not converge: step limit after 1 steps"),
        (bulk("Cu"), NotANumber(), {"relaxation": "none", "supercell": (1, 1, 1)}, "not finite for Cu"),
        (bulk("Cu"), EMT(), {"supercell": (0, 1, 1)}, "supercell is"),
        (bulk("Cu"), EMT(), {"displacement": 0.0}, "displacement is 0.0"),
        (bulk("Cu"), EMT(), {"relaxation": "everything"}, "relaxation is 'everything'"),
        (bulk("Cu"), EMT(), {"relaxation": "none", "supercell": (1, 1, 1), "born": "absent"}, "absent does not exist"),
    ],
)
def test_what_cannot_be_done_is_said(atoms, calculator, options, message):
    with pytest.raises(ValueError, match=message):
        phonons(atoms, calculator, **options)


def test_options_round_trip():
    options = PhononOptions(supercell=(1, 2, 3), t_max=500.0)
    assert PhononOptions(**options.to_dict()) == options


def test_born_charges_of_another_crystal_are_noticed():
    charges = np.array([np.diag([2.0, 2.0, 2.4]), -1.5 * np.eye(3)])
    crystal, born = bulk("CuAu", "zincblende", a=5.5), {"born": charges, "dielectric": 3.0 * np.eye(3)}
    result = phonons(crystal, EMT(), supercell=(1, 1, 1), relaxation="none", born=born, **QUICK)
    assert any("Born charges had to be changed by up to" in text for text in result.warnings)
    found = result.phonopy.nac_params["born"]
    np.testing.assert_allclose(found.sum(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(found[0], found[0][0, 0] * np.eye(3), atol=1e-9)


def test_born_charges_of_the_wrong_shape_are_refused():
    born = {"born": np.zeros((3, 3, 3)), "dielectric": np.eye(3)}
    with pytest.raises(ValueError, match=r"\(1, 3, 3\) for the 1 atoms"):
        phonons(bulk("Cu"), EMT(), supercell=(1, 1, 1), relaxation="none", born=born)
