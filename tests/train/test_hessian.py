"""Products of the Hessian: labels from finite differences, and a loss on them that makes a potential stiffer."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import write
from scipy.optimize import brentq
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.data.frames import frame_from_atoms
from forcefield.data.store import write_store
from forcefield.models import load_model
from forcefield.train.config import HessianLoss, Phase, TrainConfig
from forcefield.train.hessian import HessianTask, hessian_errors
from forcefield.train.hessian_labels import (
    HessianLabels,
    hessian_products,
    label_hessians,
    random_directions,
    read_hessian_labels,
    strained_products,
    write_hessian_labels,
)
from forcefield.train.loop import Run, train


def springs(distance: float) -> float:
    """Second derivative of the Lennard-Jones energy of a pair (epsilon = sigma = 1)."""
    return 4 * (156 / distance**14 - 42 / distance**8)


def test_products_of_a_pair_are_those_of_its_spring():
    """Along the bond k, across it E'/r, and nothing for a translation."""
    r = 1.2
    pair = Atoms("Ar2", [[0, 0, 0], [r, 0, 0]])
    directions = np.array([[[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]], [[1, 1, 1], [1, 1, 1]]], dtype=float)
    calculator = LennardJones(rc=100.0)
    found = hessian_products(pair, calculator, directions, displacement=1e-4)
    slope = 4 * (-12 / r**13 + 6 / r**7)
    np.testing.assert_allclose(found[0], [[-springs(r), 0, 0], [springs(r), 0, 0]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], [[0, -slope / r, 0], [0, slope / r, 0]], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], 0, atol=1e-8)
    assert pair.positions[1, 0] == r and pair.calc is None


def test_directions_are_seeded_and_of_unit_size():
    drawn = random_directions(7, 5, seed=(1, 2))
    assert drawn.shape == (5, 7, 3)
    np.testing.assert_allclose((drawn**2).mean(axis=(1, 2)), 1)
    np.testing.assert_allclose(drawn.sum(axis=1), 0, atol=1e-12)
    assert np.array_equal(drawn, random_directions(7, 5, seed=(1, 2)))
    assert not np.array_equal(drawn, random_directions(7, 5, seed=(1, 3)))
    assert np.abs(random_directions(1, 1, seed=(0,))).max() > 0


@pytest.fixture(scope="module")
def structures() -> list[Atoms]:
    crystals = [bulk("Cu", a=a, cubic=True) for a in (3.5, 3.6, 3.7)] + [bulk("Al", a=4.0).repeat((2, 1, 1))]
    for k, atoms in enumerate(crystals):
        atoms.rattle(0.05, seed=k)
    return crystals


@pytest.fixture(scope="module")
def labels(structures) -> HessianLabels:
    return label_hessians(structures, EMT(), directions=3, seed=4)


def test_labels_come_back_from_their_file(labels, structures, tmp_path):
    found = read_hessian_labels(write_hessian_labels(tmp_path / "h.npz", labels))
    for name, value in vars(labels).items():
        assert np.array_equal(getattr(found, name), value), name
    assert not labels.strains.any() and not np.isnan(labels.virials).any()
    assert labels.directions.shape == labels.products.shape == (3, 14, 3)
    for k, atoms in enumerate(structures):
        assert found.atoms(k) == atoms
    alone = hessian_products(structures[1], EMT(), labels.directions[:, 4:8], displacement=0.005)
    np.testing.assert_allclose(labels.products[:, 4:8], alone, atol=1e-10)


def test_strains_of_lennard_jones_give_its_elastic_constants():
    """A pair potential without pressure has C12 = C44 in a cubic crystal (Cauchy); the stress is C times the strain."""
    calculator = LennardJones(sigma=2.5, epsilon=0.1, rc=9.0, smooth=True)

    def pressed(a: float) -> float:
        atoms = bulk("Ar", a=a, cubic=True)
        atoms.calc = calculator
        return atoms.get_stress()[0]

    crystal = bulk("Ar", a=brentq(pressed, 3.6, 4.0), cubic=True)
    shear = np.zeros((2, 3, 3))
    shear[0, 0, 0] = shear[1, 1, 2] = shear[1, 2, 1] = 0.1
    _, virials = strained_products(crystal, calculator, np.zeros((2, 4, 3)), shear, displacement=1e-3, stress=True)
    stretched, sheared = virials / 0.1
    assert stretched[0, 0] > 1.2 * stretched[1, 1] > 0
    assert stretched[1, 1] == pytest.approx(sheared[1, 2] / 2, rel=0.01)
    np.testing.assert_allclose(stretched - np.diag(np.diag(stretched)), 0, atol=1e-6)


def test_strains_need_a_calculator_with_stress(structures):
    class Forces(EMT):
        implemented_properties = ("energy", "forces")

    labels = label_hessians(structures, Forces(), directions=1, strains=2)
    assert labels.products.shape == (3, 14, 3) and not labels.strains.any() and np.isnan(labels.virials).all()
    assert (labels.directions**2).mean() == pytest.approx(1)  # displacements in their place
    with pytest.raises(ValueError, match="their sum and the step must be positive"):
        label_hessians(structures, EMT(), directions=0)


def test_files_of_format_1_are_read(labels, tmp_path):
    old = {name: value for name, value in vars(labels).items() if name not in ("strains", "virials")}
    np.savez(tmp_path / "old.npz", format=1, **old)
    found = read_hessian_labels(tmp_path / "old.npz")
    assert np.array_equal(found.products, labels.products)
    assert not found.strains.any() and found.strains.shape == found.virials.shape == (3, 4, 3, 3)
    assert np.isnan(found.virials).all()


def test_bad_files_are_refused(labels, tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_hessian_labels(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(ValueError, match="cannot be read"):
        read_hessian_labels(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", n_atoms=[1])
    with pytest.raises(ValueError, match="lacks format, numbers"):
        read_hessian_labels(tmp_path / "other.npz")
    broken = dataclasses.replace(labels, products=np.full_like(labels.products, np.nan))
    with pytest.raises(ValueError, match="not finite"):
        read_hessian_labels(write_hessian_labels(tmp_path / "nan.npz", broken))
    short = dataclasses.replace(labels, products=labels.products[:, 1:])
    with pytest.raises(ValueError, match="do not fit together"):
        read_hessian_labels(write_hessian_labels(tmp_path / "short.npz", short))
    np.savez(tmp_path / "new.npz", format=9, **vars(labels))
    with pytest.raises(ValueError, match="format 9"):
        read_hessian_labels(tmp_path / "new.npz")


def test_model_as_its_own_teacher_has_no_error(tiny_model, structures):
    """Finite differences of a calculator against derivatives of the potential behind it, in batches and singly."""
    from forcefield.calculator import GNNCalculator

    calculator = GNNCalculator(tiny_model, device="cpu", dtype="float64")
    mixed = [*structures, molecule("H2O")]
    labels = label_hessians(mixed, calculator, directions=2, strains=2, displacement=1e-4)
    potential = load_model(tiny_model, dtype=torch.float64).potential
    found = hessian_errors(potential, labels)
    assert found.mae < 1e-4 * found.label_size
    assert found.softening == pytest.approx(1.0, abs=1e-4)
    sizes = np.linalg.norm(labels.strains, axis=(2, 3))
    assert (sizes[:2] == 0).all() and sizes[2:, :-1] == pytest.approx(0.3) and (sizes[:, -1] == 0).all()  # no cell
    assert np.isnan(labels.virials[:, -1]).all() and found.elastic_softening == pytest.approx(1.0, abs=1e-4)
    assert found.elastic_mae < 1e-4 * np.nanmean(np.abs(labels.virials[2:])) / 0.3
    soft = dataclasses.replace(labels, products=labels.products * 1.25)
    assert hessian_errors(potential, soft).softening == pytest.approx(0.8, abs=1e-4)


def task(labels: HessianLabels, folder, **more) -> HessianTask:
    settings = HessianLoss(file=write_hessian_labels(folder / "task.npz", labels), **more)
    return HessianTask(settings, cutoff=4.0, elements=(13, 29), slots=600, seed=3)


def test_batches_hold_every_sample_once_and_differ_between_passes(labels, tmp_path):
    hessian = task(labels, tmp_path)
    n = len(hessian.plan)
    assert n > 2
    passes = [[tuple(hessian.batch(n * turn + k)) for k in range(n)] for turn in range(3)]
    for one in passes:
        assert sorted(sample for batch in one for sample in batch) == list(range(12))
    assert len({tuple(one) for one in passes}) > 1
    assert all(hessian.structure_cost()[list(batch)].sum() <= 200 or len(batch) == 1 for batch in passes[0])


def test_elements_that_the_model_does_not_know(labels, tmp_path):
    settings = HessianLoss(file=write_hessian_labels(tmp_path / "h.npz", labels))
    with pytest.raises(ValueError, match="has the elements Al"):
        HessianTask(settings, cutoff=4.0, elements=(29,), slots=600, seed=0)


def test_batched_differences_are_those_of_single_structures(labels, tmp_path, tiny_model):
    potential = load_model(tiny_model, dtype=torch.float64).potential
    hessian = task(labels, tmp_path)
    together = hessian.differences(potential, np.array([0, 4, 8, 11]), "cpu")
    singly = [hessian.differences(potential, np.array([k]), "cpu") for k in (0, 4, 8, 11)]
    n_stress = 3 * 4  # rows of the changes of stresses come last
    forces = torch.cat([one[:-3] for one in singly])
    torch.testing.assert_close(together[:-n_stress], forces)
    torch.testing.assert_close(together[-n_stress:], torch.cat([one[-3:] for one in singly]), equal_nan=True)


@pytest.mark.slow
def test_training_on_products_lowers_their_error_and_the_softening(task_without_hessian, tmp_path):
    """A potential trained on energies alone has wrong curvatures; products of the Hessian put them right."""
    config, train_labels, held_out = task_without_hessian
    config = config.model_copy(update={"weights": (Phase(energy=5.0, forces=0.0, stress=0.0, atomic_energies=0.0),)})
    plain = train(config.model_copy(update={"output": tmp_path / "plain"}))
    settings = HessianLoss(file=write_hessian_labels(tmp_path / "h.npz", train_labels), weight=5.0, every=2)
    stiff = train(config.model_copy(update={"output": tmp_path / "stiff", "hessian": settings}))
    found = []
    for run in (plain, stiff):
        with run.ema.average_parameters():
            found.append(hessian_errors(run.potential, held_out))
    before, after = found
    print(before, after)
    assert after.mae < 0.6 * before.mae, (before, after)
    assert abs(after.softening - 1) < 0.5 * abs(before.softening - 1), (before, after)
    entries = [json.loads(line) for line in (tmp_path / "stiff" / "log.jsonl").read_text().splitlines()]
    sizes = [entry["hessian"] for entry in entries if entry["event"] == "train"]
    assert sizes[-1] < 0.5 * sizes[0]
    forces = [run.result["all"]["forces_mae"] for run in (plain, stiff)]
    assert forces[1] < forces[0]


@pytest.fixture
def task_without_hessian(tmp_path) -> tuple[TrainConfig, HessianLabels, HessianLabels]:
    """Copper: eight rattled crystals to train on, Hessian labels of four of them, and of four others."""

    def crystal(seed: int) -> Atoms:
        atoms = bulk("Cu", a=3.55 + 0.02 * (seed % 5), cubic=True)
        atoms.rattle(0.03, seed=seed)
        atoms.calc = EMT()
        atoms.get_stress()
        return atoms

    write_store(tmp_path / "train", (frame_from_atoms(crystal(k)) for k in range(8)), 4.0)
    write_store(tmp_path / "validation", (frame_from_atoms(crystal(k)) for k in range(50, 54)), 4.0)
    hyperparameters = {"cutoff": 4.0, "channels": 8, "n_radial": 6, "lmax": 1, "species_channels": 4, "hidden": 8}
    config = TrainConfig(
        **{"train": tmp_path / "train", "validation": tmp_path / "validation", "output": tmp_path / "run"},
        **{"steps": 120, "slots": 500, "learning_rate": 0.01, "warmup_steps": 10, "log_every": 20},
        **{"optimizer": "adam", "checkpoint_minutes": 60, "dtype": "float64", "ema_decay": 0.9},
        hyperparameters=hyperparameters | {"message_scalars": 4, "message_vectors": 4},
    )
    train_labels, held_out = (
        label_hessians([crystal(k) for k in seeds], EMT(), directions=2) for seeds in (range(4), range(60, 64))
    )
    return config, train_labels, held_out


def test_loss_of_products_has_the_gradient_of_finite_differences(labels, config, tmp_path):
    labels = label_hessians([labels.atoms(k) for k in range(2)], EMT(), directions=1, strains=2)
    file = write_hessian_labels(tmp_path / "h.npz", labels)
    run = Run(TrainConfig(**{**config.model_dump(), "hessian": {"file": file, "loss": "mse"}}))
    assert run.hessian is not None
    samples = np.array([0, 1, 5])

    def loss() -> torch.Tensor:
        return (run.hessian.differences(run.potential, samples, "cpu") ** 2).mean()

    gradients = torch.autograd.grad(loss(), run.parameters, materialize_grads=True)
    directions = [torch.randn_like(p) for p in run.parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(run.parameters, directions, strict=True):
                parameter.add_(direction, alpha=step)
        values.append(float(loss().detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_command_labels_files(structures, tmp_path):
    write(tmp_path / "some.extxyz", structures)
    output = tmp_path / "h.npz"
    arguments = ["data", "hessian", str(tmp_path / "some.extxyz"), "--calculator", "ase.calculators.emt:EMT"]
    options = ["--output", str(output), "--directions", "2", "--seed", "4", "--strains", "1"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    assert "4 structures, 14 atoms, 3 directions each" in result.stdout
    found = read_hessian_labels(output)
    expected = label_hessians(structures, EMT(), directions=2, strains=1, seed=4)
    np.testing.assert_allclose(found.products, expected.products, atol=1e-4)
    np.testing.assert_allclose(found.virials, expected.virials, atol=1e-4)
    assert "exists" in CliRunner().invoke(app, [*arguments, *options]).stderr
    assert "neither" in CliRunner().invoke(app, [*arguments[:3], "--output", str(tmp_path / "b.npz")]).stderr
    two = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "two.npz"), "--structures", "2"])
    assert "2 structures, 8 atoms" in two.stdout
