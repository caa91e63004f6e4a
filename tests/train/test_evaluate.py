"""Errors against plain numpy on made-up arrays, and the same errors however the data come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from forcefield.data.frames import Frame, atoms_from_frame, frame_from_atoms
from forcefield.data.store import FrameStore, write_store
from forcefield.models import load_model
from forcefield.potential import Potential
from forcefield.prediction import predict
from forcefield.train.breakdown import errors, force_statistics, shift_elements, statistics, worst
from forcefield.train.comparison import Comparison, Predicted, compare
from forcefield.train.evaluate import choose_frames, group_by_size, predict_data
from forcefield.units import GPA


def made_up(count: int = 30, seed: int = 0) -> list[Predicted]:
    """Frames of hydrogen, carbon and oxygen with random labels, some missing, and random predictions."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        n = 1 if k == 7 else int(rng.integers(2, 40))
        frame = Frame(
            rng.choice([1, 6, 8], size=n),
            rng.normal(size=(n, 3)),
            np.eye(3) * 9,
            np.ones(3, dtype=bool),
            energy=None if k == 3 else float(rng.normal() * n),
            forces=None if k == 5 else rng.normal(size=(n, 3)) * 10 ** rng.uniform(-2, 1),
            stress=None if k % 2 else rng.normal(size=6),
            atomic_energies=None if k % 3 else rng.normal(size=n),
            kind=("bulk", "slab")[k % 2],
        )
        prediction = replace(
            frame,
            energy=float(rng.normal() * n),
            forces=rng.normal(size=(n, 3)) if frame.forces is None else frame.forces + rng.normal(size=(n, 3)) * 0.1,
            stress=rng.normal(size=6),
            atomic_energies=rng.normal(size=n),
        )
        found.append(Predicted(f"data #{k}", frame, prediction))
    return found


def expected(error: np.ndarray) -> dict[str, float]:
    size = np.abs(error)
    return {
        "mae": size.mean(),
        "rmse": np.sqrt(np.mean(error**2)),
        "median": np.median(size),
        "max": size.max(),
        "count": error.size,
    }


def assert_close(found: dict, wanted: dict) -> None:
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_statistics_of_a_small_array():
    pair = (np.array([0.0, 1.0, np.nan, 2.0]), np.array([3.0, 1.0, 1.0, -2.0]))
    assert statistics(pair, unit=0.5) == {
        "mae": pytest.approx(14 / 3),
        "rmse": pytest.approx(np.sqrt(100 / 3)),
        "median": 6.0,
        "max": 8.0,
        "count": 3,
    }
    assert statistics((np.full(2, np.nan), np.ones(2))) is None


def test_direction_and_slope_of_forces():
    labels = np.array([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0.01], [np.nan] * 3])
    predictions = np.array([[2.0, 0, 0], [0, 1.0, 1.0], [0, 0, -5.0], [1.0] * 3])
    found = force_statistics((labels, predictions))
    assert found["cosine"] == pytest.approx((1 + 1 / np.sqrt(2)) / 2)  # the third is too weak to have a direction
    assert found["slope"] == pytest.approx((2 + 2 - 0.05) / (1 + 4 + 0.0001))
    assert found["count"] == 9
    still = force_statistics((np.zeros((2, 3)), np.ones((2, 3))))
    assert "slope" not in still and "cosine" not in still
    assert force_statistics((labels[:1], np.zeros((1, 3))))["cosine"] == 0.0


def test_totals_and_classes_against_numpy():
    predicted = made_up()
    report = errors(compare(predicted))
    classes = {
        ("all", None): lambda p: True,
        ("by_kind", "bulk"): lambda p: p.frame.kind == "bulk",
        ("by_kind", "slab"): lambda p: p.frame.kind == "slab",
        ("by_size", "1"): lambda p: len(p.frame.numbers) == 1,
        ("by_size", "2-8"): lambda p: 1 < len(p.frame.numbers) <= 8,
        ("by_size", "9-32"): lambda p: 8 < len(p.frame.numbers) <= 32,
        ("by_size", "33-128"): lambda p: len(p.frame.numbers) > 32,
    }
    for (key, name), member in classes.items():
        found = report[key] if name is None else report[key][name]
        chosen = [p for p in predicted if member(p)]
        assert found["frames"] == len(chosen) and found["atoms"] == sum(len(p.frame.numbers) for p in chosen)
        parts = {
            "energy": [
                (p.prediction.energy - p.frame.energy) / len(p.frame.numbers)
                for p in chosen
                if p.frame.energy is not None
            ],
            "forces": [(p.prediction.forces - p.frame.forces).ravel() for p in chosen if p.frame.forces is not None],
            "stress": [(p.prediction.stress - p.frame.stress) / GPA for p in chosen if p.frame.stress is not None],
            "atomic_energies": [
                p.prediction.atomic_energies - p.frame.atomic_energies
                for p in chosen
                if p.frame.atomic_energies is not None
            ],
        }
        for label, values in parts.items():
            if values:
                assert_close(found[label], expected(np.hstack(values)))
            else:
                assert label not in found


def test_classes_of_force_and_element_against_numpy():
    predicted = made_up()
    report = errors(compare(predicted))
    labelled = [p for p in predicted if p.frame.forces is not None]
    labels = np.vstack([p.frame.forces for p in labelled])
    error = np.vstack([p.prediction.forces for p in labelled]) - labels
    size = np.sqrt((labels**2).sum(axis=1))
    numbers = np.concatenate([p.frame.numbers for p in labelled])
    limits = {"0-0.1": (-1, 0.1), "0.1-0.5": (0.1, 0.5), "0.5-2": (0.5, 2), "2-10": (2, 10), "> 10": (10, np.inf)}
    for name, (low, high) in limits.items():
        inside = (size > low) & (size <= high)
        assert report["by_force"][name]["atoms"] == inside.sum() > 0
        assert_close(report["by_force"][name]["forces"], expected(error[inside].ravel()))
    for symbol, number in (("H", 1), ("C", 6), ("O", 8)):
        assert_close(report["by_element"][symbol]["forces"], expected(error[numbers == number].ravel()))
        known = [p for p in predicted if p.frame.energy is not None]
        share = np.array([np.mean(p.frame.numbers == number) for p in known])
        energy = np.array([abs(p.prediction.energy - p.frame.energy) / len(p.frame.numbers) for p in known])
        assert report["by_element"][symbol]["energy"]["mae"] == pytest.approx((share * energy).sum() / share.sum())
        rmse = np.sqrt((share * energy**2).sum() / share.sum())
        assert report["by_element"][symbol]["energy"]["rmse"] == pytest.approx(rmse)


def test_worst_frames_are_named():
    predicted = made_up()
    found = worst(compare(predicted), count=3)
    energies = {
        p.place: abs(p.prediction.energy - p.frame.energy) / len(p.frame.numbers)
        for p in predicted
        if p.frame.energy is not None
    }
    order = sorted(energies, key=energies.__getitem__, reverse=True)[:3]
    assert [entry["frame"] for entry in found["energy"]] == order
    assert found["energy"][0]["error"] == pytest.approx(energies[order[0]])
    forces = {
        p.place: np.abs(p.prediction.forces - p.frame.forces).max() for p in predicted if p.frame.forces is not None
    }
    top = max(forces, key=forces.__getitem__)
    assert (found["forces"][0]["frame"], found["forces"][0]["error"]) == (top, pytest.approx(forces[top]))


def test_nothing_labelled_gives_no_errors():
    bare = [
        Predicted(p.place, replace(p.frame, energy=None, forces=None, stress=None, atomic_energies=None), p.prediction)
        for p in made_up(4)
    ]
    report = errors(compare(bare))
    assert set(report["all"]) == {"frames", "atoms"} and report["by_force"] == {}
    assert report["worst"] == {"energy": [], "forces": []}
    with pytest.raises(ValueError, match="no frame to compare"):
        compare([])


def test_shifts_of_element_energies_are_found_exactly():
    rng = np.random.default_rng(1)
    shifts = {1: -3.0, 6: 2.5, 8: 11.0}
    predicted = []
    for p in made_up(20):
        moved = sum(shifts[z] for z in p.frame.numbers.tolist())
        atomic = rng.normal(size=len(p.frame.numbers))
        frame = replace(p.frame, energy=float(atomic.sum()), atomic_energies=atomic)
        lower = atomic - np.array([shifts[z] for z in p.frame.numbers.tolist()])
        predicted.append(
            Predicted(p.place, frame, replace(p.prediction, energy=frame.energy - moved, atomic_energies=lower))
        )
    comparison = compare(predicted)
    before = errors(comparison)["all"]["energy"]["mae"]
    shifted, found = shift_elements(comparison)
    assert found == pytest.approx({"H": -3.0, "C": 2.5, "O": 11.0})
    after = errors(shifted)["all"]
    assert before > 1 and after["energy"]["max"] < 1e-9 and after["atomic_energies"]["max"] < 1e-9
    np.testing.assert_array_equal(shifted.forces[1], comparison.forces[1])


def test_elements_that_always_come_together_share_their_shift():
    water = frame_from_atoms(molecule("H2O"))
    found = [Predicted("#0", replace(water, energy=3.0), replace(water, energy=0.0))]
    shifted, shifts = shift_elements(compare(found))
    assert 2 * shifts["H"] + shifts["O"] == pytest.approx(3.0)
    assert shifted.energy[1] == pytest.approx([1.0])
    with pytest.raises(ValueError, match="no frame has both"):
        shift_elements(compare([Predicted("#0", water, replace(water, energy=0.0))]))


def test_groups_are_within_the_size_and_complete():
    rng = np.random.default_rng(0)
    n_atoms, most = rng.integers(1, 50, size=200), rng.integers(0, 80, size=200)
    groups = list(group_by_size(n_atoms, most, 3000))
    assert sorted(np.concatenate(groups)) == list(range(200)) and len(groups) > 10
    for group in groups:
        assert len(group) == 1 or n_atoms[group].sum() * max(most[group].max(), 16) <= 3000
    assert not list(group_by_size(np.zeros(0, int), np.zeros(0, int), 10))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    rng = np.random.default_rng(0)
    made = []
    for k in range(12):
        atoms = bulk("NaCl", "rocksalt", a=5.4 + 0.05 * k).repeat((1 + k % 3, 1, 1))
        atoms.rattle(0.1, seed=k)
        made.append(replace(frame_from_atoms(atoms, kind="salt"), stress=rng.normal(size=6)))
    made.insert(4, frame_from_atoms(molecule("H2O"), kind="gas"))
    n = [len(frame.numbers) for frame in made]
    return [
        replace(frame, energy=float(rng.normal()), forces=rng.normal(size=(k, 3)), atomic_energies=rng.normal(size=k))
        for frame, k in zip(made, n, strict=True)
    ]


@pytest.fixture(scope="module")
def data(frames, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("evaluate")
    write(folder / "frames.extxyz", [atoms_from_frame(frame) for frame in frames], format="extxyz")
    for name, cutoff in (("same", 4.0), ("wide", 5.5), ("narrow", 3.0)):
        write_store(folder / name, frames, cutoff)
    return {name: folder / name for name in ("frames.extxyz", "same", "wide", "narrow")}


@pytest.fixture(scope="module")
def potential(tiny_model) -> Potential:
    return load_model(tiny_model, dtype=torch.float64).potential


@pytest.mark.parametrize("name", ["same", "wide", "narrow", "frames.extxyz"])
@pytest.mark.parametrize("max_edges", [1, 600, 10**6])
def test_predictions_are_those_of_single_frames(data, potential, tiny_model, frames, name, max_edges):
    """From stored edges of any reach and from a file, in batches of any size."""
    found = {one.place: one for one in predict_data(potential, data[name], max_edges=max_edges)}
    assert len(found) == len(frames)
    for k, frame in enumerate(frames):
        one = found[f"{data[name]} #{k}"]
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
        alone = predict(atoms, model=tiny_model, device="cpu", dtype="float64")
        assert one.prediction.energy == pytest.approx(alone.energy, abs=1e-6)
        np.testing.assert_allclose(one.prediction.forces, alone.forces, atol=1e-6)
        np.testing.assert_allclose(one.prediction.atomic_energies, alone.energies, atol=1e-6)
        assert (one.prediction.stress is None) == (alone.stress is None)
        if alone.stress is not None:
            np.testing.assert_allclose(one.prediction.stress, alone.stress, atol=1e-8)
        assert one.frame.energy == pytest.approx(frame.energy)


def test_store_and_file_have_the_same_errors(data, potential):
    reports = [errors(compare(predict_data(potential, data[name]))) for name in ("frames.extxyz", "same")]
    for key in ("energy", "forces", "stress", "atomic_energies"):
        assert reports[0]["all"][key] == pytest.approx(reports[1]["all"][key], rel=1e-5)
    assert set(reports[0]["by_kind"]) == {"gas", "salt"}


def test_calculator_against_its_own_labels_has_no_error(tmp_path):
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=0)
    atoms.symbols[1] = "Au"
    atoms.calc = EMT()
    atoms.get_stress()
    frame = frame_from_atoms(atoms)
    write_store(tmp_path / "store", [frame], 4.0)
    report = errors(compare(predict_data(EMT(), tmp_path / "store")))
    assert report["all"]["energy"]["max"] == 0.0
    assert report["all"]["forces"]["max"] < 1e-6 and report["all"]["stress"]["max"] < 1e-6  # stored in single precision
    assert report["all"]["forces"]["cosine"] == pytest.approx(1.0)
    assert report["all"]["atomic_energies"]["max"] < 1e-6


def test_frames_that_cannot_be_predicted_are_named(data, potential, tmp_path):
    gold = replace(frame_from_atoms(bulk("Au")), energy=0.0)
    salt = replace(frame_from_atoms(bulk("NaCl", "rocksalt", a=5.6)), energy=0.0)
    store = write_store(tmp_path / "store", [salt, gold, salt], 4.0)
    write(tmp_path / "f.extxyz", [atoms_from_frame(frame) for frame in (salt, gold, salt)], format="extxyz")
    for path in (store.folder, tmp_path / "f.extxyz"):
        faults: list[str] = []
        found = list(predict_data(potential, path, on_bad=faults.append))
        assert sorted(one.place for one in found) == [f"{path} #0", f"{path} #2"]
        assert len(faults) == 1 and faults[0].startswith(f"{path} #1: ") and "model" in faults[0]
        with pytest.raises(ValueError, match="#1: "):
            list(predict_data(potential, path))
    faults = []
    assert not list(predict_data(EMT(), data["same"], chosen=[0], on_bad=faults.append))
    assert "No EMT-potential" in faults[0]
    with pytest.raises(ValueError, match="max_edges is 0"):
        predict_data(potential, store.folder, max_edges=0)


def test_chosen_frames_only(data, potential):
    for name in ("same", "frames.extxyz"):
        found = list(predict_data(potential, data[name], chosen=[7, 2]))
        assert sorted(one.place for one in found) == [f"{data[name]} #2", f"{data[name]} #7"]
        assert not list(predict_data(potential, data[name], chosen=[]))


def test_selection_by_index_and_at_random(data):
    both = [data["same"], data["frames.extxyz"]]
    assert choose_frames(both) == [None, None]
    assert [n.tolist() for n in choose_frames(both, index=slice(1, 8, 3))] == [[1, 4, 7]] * 2
    assert [n.tolist() for n in choose_frames(both, index=-1)] == [[12]] * 2
    assert [n.tolist() for n in choose_frames(both, index=-2)] == [[11]] * 2
    assert [n.tolist() for n in choose_frames(both, index=3)] == [[3]] * 2
    assert [n.tolist() for n in choose_frames(both, index=99)] == [[]] * 2
    drawn = choose_frames(both, limit=9, seed=4)
    assert sum(map(len, drawn)) == 9 and all(len(n) == len(set(n.tolist())) for n in drawn)
    again, other = choose_frames(both, limit=9, seed=4), choose_frames(both, limit=9, seed=5)
    assert [n.tolist() for n in again] == [n.tolist() for n in drawn] != [n.tolist() for n in other]
    assert [len(n) for n in choose_frames(both, limit=100)] == [13, 13]
    assert max(choose_frames(both, index=slice(0, 2), limit=3)[0]) <= 1
    with pytest.raises(ValueError, match="limit is 0"):
        choose_frames(both, limit=0)


def test_comparison_keeps_shapes(data, potential, frames):
    comparison = compare(predict_data(potential, FrameStore(data["same"]).folder))
    atoms = sum(len(frame.numbers) for frame in frames)
    assert isinstance(comparison, Comparison)
    assert comparison.forces[0].shape == comparison.forces[1].shape == (atoms, 3)
    assert comparison.stress[0].shape == (13, 6) and comparison.atomic_energies[0].shape == (atoms,)
    np.testing.assert_array_equal(np.bincount(comparison.frame_of_atom), comparison.n_atoms)
