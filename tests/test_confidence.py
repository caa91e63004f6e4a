"""Distance from the training data: against plain NumPy, symmetric, right about strange structures, safe on disk."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from forcefield import GNNCalculator
from forcefield.calculator import OutsideDataWarning
from forcefield.confidence import EDGE, INSIDE, OUTSIDE, TrainingDomain
from forcefield.confidence_files import ARRAYS_FILE, FACTS_FILE, load_domain, save_domain
from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, write_store
from forcefield.models import ModelError, load_model
from forcefield.train.confidence import draw_frames, fit_domain, make_landmarks
from forcefield.train.confidence_errors import caught, mean_curve

CUTOFF = 4.0


def training_like(seed: int, spread: float = 1.0) -> Atoms:
    """Rattled and strained salt or copper."""
    rng = np.random.default_rng(seed)
    salt = seed % 2 == 0
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) if salt else bulk("Cu", a=3.65, cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array * (1 + spread * rng.normal(scale=0.02)), scale_atoms=True)
    atoms.positions += rng.normal(scale=spread * rng.uniform(0.02, 0.15), size=atoms.positions.shape)
    return atoms


def frames(first: int, count: int, potential_folder: Path):
    """Labelled with the model's own forces and an error that grows with them."""
    calculator = GNNCalculator(potential_folder, device="cpu", confidence=False)
    rng = np.random.default_rng(first)
    for seed in range(first, first + count):
        atoms = training_like(seed)
        forces = calculator.get_forces(atoms)
        noise = rng.normal(size=forces.shape) * (0.02 + 0.3 * np.linalg.norm(forces, axis=1, keepdims=True))
        yield Frame(
            *(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, np.ones(3, dtype=bool)),
            forces=forces + noise,
            material=str(seed),
        )


@pytest.fixture(scope="module")
def stores(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FrameStore, FrameStore]:
    folder = tmp_path_factory.mktemp("confidence_stores")
    train = write_store(folder / "train", frames(0, 150, tiny_model), CUTOFF)
    return train, write_store(folder / "validation", frames(1000, 40, tiny_model), CUTOFF)


@pytest.fixture(scope="module")
def domain(tiny_model: Path, stores: tuple[FrameStore, FrameStore]) -> TrainingDomain:
    return fit_domain(load_model(tiny_model).potential, *stores, frames=150, landmarks=8)


@pytest.fixture(scope="module")
def model(tiny_model: Path, domain: TrainingDomain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with confidence data."""
    folder = tmp_path_factory.mktemp("confidence_model") / "tiny"
    shutil.copytree(tiny_model, folder)
    save_domain(folder, domain, weights=load_model(folder).config["sha256"])
    return folder


@pytest.fixture
def calculator(model: Path) -> GNNCalculator:
    return GNNCalculator(model, device="cpu", confidence=False)


def plain_distance(domain: TrainingDomain, atoms: Atoms, descriptors: np.ndarray) -> np.ndarray:
    """The definition, atom by atom, with ASE's neighbour list."""
    i, j, r = neighbor_list("ijd", atoms, CUTOFF)
    found = []
    for k, number in enumerate(atoms.numbers):
        mine = i == k
        ratio = r[mine] / (covalent_radii[number] + covalent_radii[atoms.numbers[j[mine]]])
        x = r[mine] / CUTOFF
        contacts = np.sum(1 - 28 * x**6 + 48 * x**7 - 21 * x**8)
        crowding = np.sum(np.exp(4 * (1 - ratio))) + 0.001
        nearest = min([3.0, *ratio])
        point = np.array([*descriptors[k], np.log(nearest), np.log(1 + contacts), np.log(crowding)])
        point = (point - domain.centre) @ domain.transform
        landmarks = domain.landmarks[list(domain.elements).index(number)]
        found.append(min(np.sqrt(np.sum((point - landmark) ** 2)) for landmark in landmarks))
    return np.array(found)


def test_distance_is_the_one_defined(calculator, domain):
    for seed in (2001, 2002):
        atoms = training_like(seed)
        expected = plain_distance(domain, atoms, calculator.get_descriptors(atoms))
        np.testing.assert_allclose(calculator.get_confidence(atoms).distance, expected, rtol=1e-6)


def test_expected_error_is_the_one_defined(calculator, domain):
    atoms = training_like(2003)
    found = calculator.get_confidence(atoms)
    force = np.linalg.norm(calculator.get_forces(atoms), axis=1)
    a, b, c = domain.coefficients
    offset = domain.offsets[[list(domain.elements).index(z) for z in atoms.numbers]]
    score = a + b * np.log(force + domain.floor) + c * np.log(found.distance + 0.001) + offset
    inner = (score > domain.scores[0]) & (score < domain.scores[-1])
    assert inner.sum() > 4
    np.testing.assert_allclose(found.force_error[inner], np.interp(score, domain.scores, domain.errors)[inner])
    assert (np.diff(domain.errors) >= 0).all() and b >= 0 and c >= 0


@pytest.mark.parametrize("calculated_before", [False, True])
def test_symmetric(calculator, calculated_before):
    atoms = training_like(2004)
    if calculated_before:
        calculator.get_potential_energy(atoms)
    before = calculator.get_confidence(atoms)
    turned = atoms.copy()
    turned.rotate(37.0, (1, 2, 3), rotate_cell=True)
    order = np.random.default_rng(0).permutation(len(atoms))
    after = calculator.get_confidence(turned[order])
    np.testing.assert_allclose(after.distance, before.distance[order], rtol=1e-4)
    np.testing.assert_allclose(after.force_error, before.force_error[order], rtol=1e-3)
    assert after.verdict == before.verdict


def test_training_like_frames_are_inside(calculator):
    found = [calculator.get_confidence(training_like(seed, spread=0.6)) for seed in range(3000, 3030)]
    assert sum(one.is_far for one in found) <= 3
    assert 15 < np.mean([one.percentile for one in found]) < 65


def strange() -> dict[str, Atoms]:
    squeezed, exploded, mixed = training_like(2), training_like(2), training_like(2)
    squeezed.set_cell(squeezed.cell.array * 0.7, scale_atoms=True)
    exploded.set_cell(exploded.cell.array * 1.7, scale_atoms=True)
    mixed.set_scaled_positions(np.random.default_rng(0).random((len(mixed), 3)))
    return {
        "squeezed": squeezed,
        "exploded": exploded,
        "gas": mixed,
        "unseen element": bulk("Al"),
        "O": molecule("H2O"),
    }


@pytest.mark.parametrize("name", list(strange()))
def test_strange_structures_are_outside(calculator, name):
    found = calculator.get_confidence(strange()[name])
    assert found.verdict == OUTSIDE and found.is_far
    assert "outside the training data" in found.message()
    worst = found.worst(1)[0]
    assert found.distance[worst.number] == found.distance.max() and worst.symbol in str(strange()[name].symbols)
    assert worst.percentile == 100 and np.isfinite(found.force_error).all()
    json.dumps(found.to_dict(), allow_nan=False)


def test_lone_atom_is_exact(calculator):
    found = calculator.get_confidence(Atoms("Cu"))
    assert found.verdict == INSIDE and found.force_error.tolist() == [0.0]


def test_verdicts_follow_the_limits(domain):
    percentiles = domain.percentile(np.array([0.0, domain.edge_distance, domain.outside_distance, np.inf]))
    np.testing.assert_allclose(percentiles, [0, 99, 99.7, 100], atol=1e-6)
    assert {INSIDE, EDGE, OUTSIDE} == {"inside", "at the edge", "outside"}


def test_warns_once_and_only_if_asked(model):
    calculator = GNNCalculator(model, device="cpu", check_overlaps=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator.get_potential_energy(training_like(4))
    squeezed = strange()["squeezed"]
    with pytest.warns(OutsideDataWarning, match="outside the training data .* (Na|Cl)"):
        calculator.get_potential_energy(squeezed)
    calculator.get_potential_energy(strange()["unseen element"])  # silent the second time
    quiet = GNNCalculator(model, device="cpu", check_overlaps=False, confidence=False)
    quiet.get_potential_energy(squeezed)


def test_numbers_are_those_without_it(model):
    atoms = training_like(5)
    with_it, without = (GNNCalculator(model, device="cpu", confidence=on) for on in (True, False))
    np.testing.assert_array_equal(with_it.get_forces(atoms), without.get_forces(atoms))
    assert set(with_it.results) == set(without.results)


def test_copies_and_pickles_take_it_along(model, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(model, folder)
    calculator = GNNCalculator(folder, device="cpu")
    stored = pickle.dumps(calculator)
    shutil.rmtree(folder)
    atoms = training_like(6)
    expected = GNNCalculator(model, device="cpu").get_confidence(atoms).distance
    for other in (pickle.loads(stored), copy.deepcopy(pickle.loads(stored))):
        np.testing.assert_array_equal(other.get_confidence(atoms).distance, expected)


def test_model_without_it_says_so(tiny_model):
    calculator = GNNCalculator(tiny_model, device="cpu")
    calculator.get_potential_energy(training_like(7))
    assert not calculator.has_confidence
    with pytest.raises(ValueError, match="without confidence data.*forcefield confidence"):
        calculator.get_confidence(training_like(7))


def damaged(model: Path, folder: Path, name: str, change) -> Path:
    shutil.copytree(model, folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(change(content))
    return folder


def test_damaged_files_are_named(model, tmp_path):
    changes = {
        "flipped": (ARRAYS_FILE, lambda content: content[:-1] + bytes([content[-1] ^ 1]), "damaged.*SHA-256"),
        "no json": (FACTS_FILE, lambda content: content[:20], "cannot be read as facts"),
        "newer": (FACTS_FILE, lambda content: content.replace(b'"format": 1', b'"format": 99'), "reads up to"),
    }
    for name, (file, change, message) in changes.items():
        with pytest.raises(ModelError, match=message):
            load_domain(damaged(model, tmp_path / name, file, change))
    (tmp_path / "flipped" / ARRAYS_FILE).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_domain(tmp_path / "flipped")


def test_other_weights_make_it_unusable(model, tmp_path):
    sha256 = load_model(model).config["sha256"].encode()
    folder = damaged(model, tmp_path / "other", FACTS_FILE, lambda content: content.replace(sha256, b"0" * 64))
    calculator = GNNCalculator(folder, device="cpu")
    calculator.get_potential_energy(training_like(8))
    with pytest.raises(ValueError, match="made for other weights"):
        calculator.get_confidence()


def test_files_hold_what_was_made(model, domain):
    loaded = load_domain(model)
    for name, value in vars(domain).items():
        if name != "facts":
            np.testing.assert_array_equal(getattr(loaded, name), value, err_msg=name)
    assert loaded.facts["quality"] == json.loads(json.dumps(domain.facts["quality"]))


def test_same_seed_same_data(tiny_model, stores, domain):
    again = fit_domain(load_model(tiny_model).potential, *stores, frames=150, landmarks=8)
    np.testing.assert_array_equal(again.landmarks, domain.landmarks)
    assert again.facts == domain.facts


def test_quality_is_about_the_other_half(domain, stores):
    found, calibration = domain.facts["quality"], domain.facts["calibration"]
    assert found["atoms"] + calibration["atoms"] == len(stores[1].arrays["numbers"])
    assert found["spearman"]["expected_error"] > 0.3  # the errors were made to grow with the force
    shares = [entry["share"] for entry in found["by_verdict"].values()]
    assert sum(shares) == pytest.approx(1)


def test_rare_elements_are_drawn(stores):
    drawn = draw_frames(stores[0], 10, np.random.default_rng(0))
    assert len(np.unique(drawn)) == len(drawn)
    for salt in (True, False):  # 30 of each element, though only 10 in all were asked for
        assert np.sum((drawn % 2 == 0) == salt) >= 30


def test_frames_without_energy_are_not_drawn(tmp_path):
    """Unless none has any: they vouch for no energy."""
    made = [Frame(np.array([11, 17]), np.eye(2, 3) * 2.8, np.eye(3) * 5, np.ones(3, dtype=bool)) for _ in range(6)]
    labelled = [replace(frame, energy=-1.0) if k % 3 == 0 else frame for k, frame in enumerate(made)]
    some = write_store(tmp_path / "some", iter(labelled), CUTOFF)
    assert draw_frames(some, 5, np.random.default_rng(0)).tolist() == [0, 3]
    assert len(draw_frames(write_store(tmp_path / "none", iter(made), CUTOFF), 5, np.random.default_rng(0))) == 6


def test_landmarks_of_clusters_are_their_centres():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = np.repeat(centres, 50, axis=0) + rng.normal(scale=0.1, size=(150, 2))
    found = make_landmarks(points, 12, rng)
    assert len(found) == 12
    gaps = np.linalg.norm(points[:, None] - found, axis=2).min(axis=1)
    assert gaps.max() < 0.5
    assert len(make_landmarks(points[:3], 8, rng)) == 8


def test_mean_curve_pools_what_falls():
    score = np.repeat(np.arange(4.0), 10)
    scores, errors = mean_curve(score, np.repeat([1.0, 3.0, 2.0, 4.0], 10))
    assert (np.diff(errors) > 0).all()
    np.testing.assert_allclose(np.interp([0, 3], scores, errors), [1, 4])
    assert np.isclose(errors, 2.5).any()


def test_caught():
    error = np.arange(100.0)
    assert caught(error, error) == 1 and caught(-error, error) == 0


def test_stores_that_do_not_fit_are_refused(tiny_model, stores, tmp_path):
    potential = load_model(tiny_model).potential
    short = write_store(tmp_path / "short", frames(0, 2, tiny_model), 3.0)
    with pytest.raises(ValueError, match="neighbours up to 3.0 Å"):
        fit_domain(potential, short, stores[1])
    with pytest.raises(ValueError, match="frames is 0"):
        fit_domain(potential, *stores, frames=0)
