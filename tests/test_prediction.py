"""Predictions of many structures at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import forcefield.prediction
from forcefield import GNNCalculator, ModelError, predict
from forcefield.calculator import OverlapWarning
from forcefield.models import load_model, save_model
from forcefield.prediction import StructurePrediction
from forcefield.testing.structures import build_structures

STRUCTURES = [atoms for _, atoms in build_structures("Na", "Cl").named()]


def assert_same(found: StructurePrediction, expected: StructurePrediction, *, tolerance: float = 1e-9) -> None:
    assert found.energy == pytest.approx(expected.energy, abs=tolerance)
    for name in ("energies", "forces", "stress"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None
        else:
            np.testing.assert_allclose(one, other, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_structure_gives_what_the_calculator_gives(tiny_model, dtype):
    calculator = GNNCalculator(tiny_model, device="cpu", dtype=dtype)
    for atoms in STRUCTURES:
        found = predict(atoms, model=tiny_model, device="cpu", dtype=dtype)
        attached = atoms.copy()
        attached.calc = calculator
        tolerance = 1e-9 if dtype == "float64" else 2e-5
        assert isinstance(found, StructurePrediction) and isinstance(found.energy, float)
        assert found.energy == pytest.approx(attached.get_potential_energy(), abs=tolerance)
        assert found.energy_per_atom == pytest.approx(found.energy / len(atoms))
        assert found.energies.sum() == pytest.approx(found.energy, abs=1e-9)
        np.testing.assert_allclose(found.forces, attached.get_forces(), atol=tolerance)
        if atoms.pbc.all():
            np.testing.assert_allclose(found.stress, attached.get_stress(), atol=tolerance)
        else:
            assert found.stress is None


@pytest.mark.parametrize("max_edges", [1, 900, 10**9])
def test_batches_equal_singles_in_the_given_order(tiny_model, max_edges):
    several = STRUCTURES + STRUCTURES[::-1]
    found = predict(several, model=tiny_model, device="cpu", dtype="float64", max_edges=max_edges)
    assert isinstance(found, list) and len(found) == len(several)
    for atoms, prediction in zip(several, found, strict=True):
        assert prediction.forces.shape == (len(atoms), 3)
        assert_same(prediction, predict(atoms, model=tiny_model, device="cpu", dtype="float64"))


def test_batches_respect_their_size_and_progress_is_told(tiny_model, monkeypatch):
    sizes, told = [], []
    original = forcefield.prediction.evaluate

    def observed(potential, graph):
        sizes.append((graph.n_structures, graph.n_edges))
        return original(potential, graph)

    monkeypatch.setattr(forcefield.prediction, "evaluate", observed)
    atoms = [bulk("Cu", a=3.6)] * 5 + [bulk("Cu", a=3.6).repeat(3)] + [bulk("Cu", a=3.6)] * 2
    predict(atoms, model=tiny_model, device="cpu", max_edges=40, progress=lambda *done: told.append(done))
    assert [n for n, _ in sizes] == [2, 2, 1, 1, 2]  # 18 edges each; the large one comes alone
    assert all(edges <= 40 for n, edges in sizes if n > 1)
    assert told == [(2, 8), (4, 8), (5, 8), (6, 8), (8, 8)]


def test_tuple_gives_a_list_and_an_empty_list_an_empty_one(tiny_model):
    assert len(predict((STRUCTURES[0], STRUCTURES[3]), model=tiny_model, device="cpu")) == 2
    assert predict([], model=tiny_model, device="cpu") == []


def test_pymatgen_and_ase_may_be_mixed(tiny_model):
    core = pytest.importorskip("pymatgen.core")
    salt, water = bulk("NaCl", "rocksalt", a=5.64), molecule("H2O")
    crystal = core.Structure(core.Lattice(salt.cell.array), ["Na", "Cl"], salt.get_scaled_positions())
    cluster = core.Molecule(water.get_chemical_symbols(), water.positions)
    options = {"model": tiny_model, "device": "cpu", "dtype": "float64"}
    found = predict([crystal, water, cluster, salt], **options)
    assert_same(found[0], found[3], tolerance=1e-8)
    assert_same(found[1], found[2], tolerance=1e-8)
    assert found[0].stress is not None and found[2].stress is None
    assert_same(predict(crystal, **options), found[0])
    assert_same(predict(cluster, **options), found[2])


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (Atoms("Fe"), ValueError, "Unknown to the model: Fe"),
        (Atoms(), ValueError, "no atoms"),
        (Atoms("Na", positions=[[0, np.nan, 0]]), ValueError, "not finite"),
        (Atoms("Na", cell=[3, 3, 0], pbc=True), ValueError, "periodic along c"),
        ("NaCl.cif", TypeError, "builtins.str"),
    ],
)
def test_errors_name_the_structure_and_nothing_is_computed(tiny_model, monkeypatch, bad, kind, message):
    monkeypatch.setattr(forcefield.prediction, "evaluate", lambda *_: pytest.fail("computed something"))
    with pytest.raises(kind, match=f"^structure 2: .*{message}"):
        predict([STRUCTURES[0], STRUCTURES[1], bad, STRUCTURES[2]], model=tiny_model, device="cpu")
    with pytest.raises(kind, match=message) as single:
        predict(bad, model=tiny_model, device="cpu")
    assert "structure 0" not in str(single.value)


def test_overlaps_are_told_once_and_an_energy_that_is_not_finite_is_refused(tiny_model):
    near = [Atoms("Cu2", positions=[[0, 0, 0], [0, 0, z]]) for z in (0.5, 0.7)]
    with pytest.warns(OverlapWarning) as told:
        found = predict([STRUCTURES[0], *near], model=tiny_model, device="cpu")
    assert len(told) == 1 and all(np.isfinite(prediction.energy) for prediction in found)
    assert str(told[0].message).startswith("structure 1: 1 pair of atoms overlap: 0 Cu - 1 Cu: 0.500 Å")
    assert str(told[0].message).endswith("So do atoms of 1 more structures.")
    assert Path(told[0].filename).name == Path(__file__).name
    same = Atoms("Cu2", positions=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"^structure 1: the energy is not finite .*0 Cu - 1 Cu: 0.000 Å"):
        predict([STRUCTURES[0], same], model=tiny_model, device="cpu")
    with pytest.raises(ValueError, match=r"^the energy is not finite"):
        predict(same, model=tiny_model, device="cpu")


def test_disordered_pymatgen_structure_is_named(tiny_model):
    core = pytest.importorskip("pymatgen.core")
    alloy = core.Structure(core.Lattice.cubic(3.7), [{"Cu": 0.5, "Al": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match=r"^structure 1: .*partially occupied"):
        predict([STRUCTURES[0], alloy], model=tiny_model, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "half"}, "dtype is 'half' but must be one of"),
        ({"device": "abacus"}, "device is 'abacus' but must be"),
        ({"model": "no-such-model"}, "no model 'no-such-model'"),
    ],
)
def test_impossible_options_are_refused(tiny_model, options, message):
    with pytest.raises(ValueError, match=message):
        predict(STRUCTURES[0], **{"model": tiny_model, "device": "cpu", **options})


def test_atoms_are_not_modified(tiny_model):
    atoms = [structure.copy() for structure in STRUCTURES]
    for structure in atoms:
        structure.positions += 17.0
        structure.info["kept"] = 1
    before = [structure.copy() for structure in atoms]
    predict(atoms, model=tiny_model, device="cpu")
    for now, then in zip(atoms, before, strict=True):
        assert now == then and now.info == then.info and now.calc is None
        np.testing.assert_array_equal(now.positions, then.positions)


def test_a_model_that_has_changed_on_disk_is_read_again(tiny_model, tmp_path):
    config = dict(load_model(tiny_model).config)
    about = {"network": config["network"], "hyperparameters": config["hyperparameters"]}
    folder = tmp_path / "mine"
    potential = load_model(tiny_model).potential
    save_model(folder, potential, **about)
    first = predict(STRUCTURES[0], model=str(folder), device="cpu")
    potential.bound += 1.0
    save_model(folder, potential, **about)
    second = predict(STRUCTURES[0], model=str(folder), device="cpu")
    assert second.energy - first.energy > 0.5 * len(STRUCTURES[0])


def test_relative_paths_follow_the_working_directory(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tiny_model).parent)
    assert np.isfinite(predict(STRUCTURES[0], model="./tiny", device="cpu").energy)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no model"):
        predict(STRUCTURES[0], model="./tiny", device="cpu")
