"""What the calculator refuses or warns of, and that the state of the process does not change its numbers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

import forcefield.calculator
from forcefield import GNNCalculator, ModelError, OverlapWarning
from forcefield.testing.structures import build_structures

TRICLINIC = build_structures("Na", "Cl").triclinic


@pytest.fixture
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, device="cpu")


def broken(name: str) -> Atoms:
    """A structure that cannot be computed."""
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat(2)
    if name == "unknown element":
        atoms.symbols[3] = "Xe"
        atoms.symbols[5] = "Fe"
    elif name == "not a number":
        atoms.positions[4, 1] = np.nan
    elif name == "infinite":
        atoms.positions[4, 1] = -np.inf
    elif name == "cell not a number":
        atoms.cell[1, 1] = np.nan
    elif name == "empty":
        atoms = Atoms(cell=[3, 3, 3], pbc=True)
    elif name == "no vector":
        atoms.cell[2] = 0.0
    elif name == "flat cell":
        atoms.cell[2] = atoms.cell[0] + atoms.cell[1]
    elif name == "dummy":
        atoms.symbols[1] = "X"
    return atoms


REFUSALS = {
    "unknown element": r"Unknown to the model: Fe, Xe\. It knows H C O Na Mg Al Si Cl Cu\.",
    "dummy": r"Unknown to the model: X\.",
    "not a number": r"positions of 1 of 16 atoms are not finite .*4 Na",
    "infinite": r"positions of 1 of 16 atoms are not finite .*4 Na",
    "cell not a number": "cell holds NaN",
    "empty": "no atoms",
    "no vector": r"periodic along c, but .* length of 0 Å.*pbc = False",
    "flat cell": "linearly dependent",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_broken_structures_are_refused_before_anything_is_computed(calculator, monkeypatch, name):
    good = TRICLINIC.copy()
    good.calc = calculator
    energy = good.get_potential_energy()
    with monkeypatch.context() as patch:
        for function in ("evaluate", "hessian", "close_contacts"):
            patch.setattr(forcefield.calculator, function, lambda *_, **__: pytest.fail("computed something"))
        atoms = broken(name)
        atoms.calc = calculator
        asks = (atoms.get_potential_energy, atoms.get_forces, atoms.get_stress)
        asks += tuple(lambda f=f: f(atoms) for f in (calculator.calculate, calculator.get_hessian))
        for ask in (*asks, lambda: calculator.get_descriptors(atoms)):
            with pytest.raises(ValueError, match=REFUSALS[name]):
                ask()
        with pytest.raises(ValueError, match=REFUSALS[name]):
            calculator.get_potential_energy()  # of the structure that was refused: no result of an older one
    assert good.get_potential_energy() == pytest.approx(energy, abs=1e-5)


def test_call_without_structure_is_refused(calculator):
    for ask in (calculator.get_potential_energy, calculator.get_stress, calculator.get_hessian):
        with pytest.raises(ValueError, match="no structure: give atoms"):
            ask()


def test_what_is_no_structure_of_ase_is_named(calculator):
    core = pytest.importorskip("pymatgen.core")
    copper = core.Structure(core.Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    for ask in (calculator.get_potential_energy, calculator.get_stress, calculator.get_descriptors):
        with pytest.raises(TypeError, match=r"a Structure came, .* needs ase.Atoms; .* forcefield.predict"):
            ask(copper)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "dtype is 'float16' but must be one of"),
        ({"skin": -0.1}, "skin is -0.1 but must be"),
        ({"skin": np.nan}, "skin is nan but must be"),
        ({"device": "toaster"}, "device is 'toaster' but must be"),
        ({"device": "cuda:99"}, "device is 'cuda:99', but PyTorch sees"),
        ({"device": None}, "device is None but must be"),
        ({"device": "mps"}, "device is 'mps', which cannot be used here"),  # no double precision, where there is one
    ],
)
def test_impossible_options_are_refused(tiny_model, options, message):
    with pytest.raises(ValueError, match=message):
        GNNCalculator(tiny_model, **options)


def test_options_are_keywords_only(tiny_model):
    with pytest.raises(TypeError):
        GNNCalculator(tiny_model, "cpu")


def test_missing_model_is_refused():
    with pytest.raises(ModelError, match="no model 'no-such-model'"):
        GNNCalculator("no-such-model")


def overlapping(distance: float) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64).repeat(2)
    direction = np.array([0.48, -0.6, 0.64])
    return atoms + Atoms("O", positions=[atoms.positions[5] + distance * direction])


def test_overlap_is_warned_of_once_naming_atoms_and_distances(calculator):
    atoms = overlapping(0.5)
    atoms.calc = calculator
    with pytest.warns(
        OverlapWarning, match=r"1 pair of atoms overlap: 5 Cl - 16 O: 0\.500 Å \(at least 0\.840 Å"
    ) as seen:
        atoms.get_forces()
    assert len(seen) == 1 and Path(seen[0].filename).name == Path(__file__).name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.positions[16, 0] += 0.01
        atoms.get_forces()
        other = overlapping(0.3)
        other.calc = calculator
        other.get_forces()


def test_overlap_with_a_periodic_image_is_seen(calculator):
    atoms = Atoms("Cu", cell=[1.0, 5.0, 5.0], pbc=True, calculator=calculator)
    with pytest.warns(OverlapWarning, match=r"0 Cu - 0 Cu \(periodic image\): 1\.000 Å"):
        atoms.get_potential_energy()


def test_overlap_check_can_be_switched_off_and_good_structures_are_silent(tiny_model, calculator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for atoms in (bulk("Cu"), bulk("Si"), molecule("H2O"), molecule("C6H6"), TRICLINIC.copy()):
            atoms.calc = calculator
            assert np.isfinite(atoms.get_potential_energy())
        atoms = overlapping(0.5)
        atoms.calc = GNNCalculator(tiny_model, device="cpu", check_overlaps=False)
        assert np.isfinite(atoms.get_potential_energy())


def test_overlapping_atoms_repel(calculator):
    atoms = overlapping(0.2)
    atoms.calc = calculator
    with pytest.warns(OverlapWarning):
        away = atoms.get_forces()[16] @ (atoms.positions[16] - atoms.positions[5])
    assert away > 1.0


def test_two_atoms_in_one_place_are_refused(calculator):
    atoms = overlapping(0.0)
    atoms.calc = calculator
    with pytest.warns(OverlapWarning), pytest.raises(ValueError, match=r"not finite.*5 Cl - 16 O: 0\.000 Å"):
        atoms.get_potential_energy()
    with pytest.raises(ValueError, match="not finite"):
        atoms.get_forces()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_numbers_are_the_same_where_gradients_are_switched_off(tiny_model, context):
    expected = TRICLINIC.copy()
    expected.calc = GNNCalculator(tiny_model, device="cpu")
    with context():
        atoms = TRICLINIC.copy()
        atoms.calc = GNNCalculator(tiny_model, device="cpu")
        forces, stress = atoms.get_forces(), atoms.get_stress()
        hessian = atoms.calc.get_hessian(atoms, chunk=48)
        descriptors = atoms.calc.get_descriptors(atoms)
    np.testing.assert_array_equal(forces, expected.get_forces())
    np.testing.assert_array_equal(stress, expected.get_stress())
    np.testing.assert_allclose(hessian, expected.calc.get_hessian(expected, chunk=48), atol=1e-5)
    np.testing.assert_array_equal(descriptors, expected.calc.get_descriptors(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_do_not_depend_on_the_default_dtype_of_pytorch(tiny_model, dtype):
    atoms = TRICLINIC.copy()
    atoms.calc = GNNCalculator(tiny_model, device="cpu", dtype=dtype)
    expected = atoms.get_potential_energy(), atoms.get_forces(), atoms.calc.get_descriptors(atoms)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # as other potentials in the same process do
    try:
        atoms.calc = GNNCalculator(tiny_model, device="cpu", dtype=dtype)
        found = atoms.get_potential_energy(), atoms.get_forces(), atoms.calc.get_descriptors(atoms)
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_state_of_the_process_is_left_alone(tiny_model):
    torch.manual_seed(5)
    np.random.seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    atoms = TRICLINIC.copy()
    atoms.calc = GNNCalculator(tiny_model, device="cpu")
    atoms.get_forces()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
