"""Training of property models: overfitting, missing labels, resuming, the model folder, and the ways to use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.io import read, write
from pymatgen.io.ase import AseAtomsAdaptor
from typer.testing import CliRunner

import forcefield
from forcefield import GNNCalculator, ModelError
from forcefield.cli import app
from forcefield.graph import graph_from_atoms
from forcefield.models import load_model
from forcefield.tasks.config import PropertyConfig
from forcefield.tasks.finish import train_property
from forcefield.tasks.loop import PropertyRun
from forcefield.tasks.storage import load_property, save_property
from forcefield.train.checkpoint import CHECKPOINT

SCHNET = {"cutoff": 4.0, "channels": 8, "n_layers": 1}


def config(file: Path, output: str = "run", **entries: Any) -> PropertyConfig:
    settings = {
        **{"task": {"key": "gap", "unit": "eV", "hidden": 16}, "train": file, "validation": file},
        **{"network": "schnet", "hyperparameters": SCHNET, "output": file.parent / output, "plots": False},
        **{"batch_atoms": 12, "warmup_steps": 2, "log_every": 2, "steps": 6},
    }
    return PropertyConfig(**{**settings, **entries})


def test_ten_structures_are_learned(labelled_file):
    run = train_property(
        config(
            labelled_file,
            task={"key": "gap", "pooling": "set2set", "hidden": 16},
            network="crystal_megnet",
            hyperparameters={"cutoff": 4.0, "channels": 16, "n_layers": 2, "n_radial": 16},
            steps=200,
            batch_atoms=40,
            learning_rate=2e-3,
            ema_decay=0.9,
        )
    )
    assert run.errors["validation"]["mae"] < 0.03  # the labels spread over 2.7 eV


def test_bond_properties_are_learned(crystal, tmp_path):
    """Values of edges, with lattice translations, that depend on the distance and on both elements."""
    structures = []
    for seed in range(8):
        atoms = crystal(seed)
        graph = graph_from_atoms(atoms, 3.5)
        (i, j), shifts = graph.edge_index.numpy(), graph.edge_shift.numpy()
        values = np.exp(-graph.edge_lengths().numpy() / 2) * (1 + (atoms.numbers[i] == 13) + (atoms.numbers[j] == 13))
        atoms.info["bond"] = np.column_stack([i, j, shifts, values])[::3]  # a third of them, in one direction
        structures.append(atoms)
    write(tmp_path / "bonds.extxyz", structures)
    task = {"key": "bond", "level": "edge", "hidden": 16}
    settings = {"batch_atoms": 40, "steps": 80, "learning_rate": 1e-2, "ema_decay": 0.8}
    run = train_property(config(tmp_path / "bonds.extxyz", task=task, **settings))
    spread = np.std(np.concatenate([atoms.info["bond"][:, -1] for atoms in structures]))
    assert run.errors["validation"]["rmse"] < 0.2 * spread
    found = forcefield.predict(structures[0], model=run.config.output / "model")
    assert found.pairs.shape == (len(found.values), 2) and found.shifts.shape == (len(found.values), 3)


def test_a_model_folder_gives_what_the_run_gave(labelled_file, random_model, crystal, tmp_path):
    run = train_property(config(labelled_file, dtype="float64"))
    labels, predictions = run.pairs("validation")
    structures = read(labelled_file, index=":")
    found = forcefield.predict(structures, model=run.config.output / "model", dtype="float64")
    np.testing.assert_allclose(found, predictions, atol=1e-12)
    one = forcefield.predict(structures[0], model=run.config.output / "model", dtype="float64")
    assert isinstance(one, float) and one == pytest.approx(found[0], abs=1e-12)
    as_pymatgen = AseAtomsAdaptor.get_structure(structures[0])
    given = forcefield.predict(as_pymatgen, model=run.config.output / "model", dtype="float64")
    assert given == pytest.approx(one, abs=1e-9)
    entries = json.loads((run.config.output / "model" / "config.json").read_text())
    assert entries["task"] == "property" and entries["property"]["unit"] == "eV"
    card = (run.config.output / "model" / "README.md").read_text()
    assert "Predicts `gap` (eV)" in card and f"{run.errors['validation']['mae']:.4g}" in card


@pytest.mark.parametrize(
    "task", [{"level": "edge"}, {"shape": "elastic"}, {"pooling": "set2set"}, {"level": "atom", "shape": "vector"}]
)
def test_every_kind_of_head_is_saved_exactly(task, network, random_model, crystal, tmp_path):
    from forcefield.tasks.prediction import predict_property

    model = random_model(network, max_neighbours=12, **task)
    hyperparameters = random_model.__globals__["SMALL"][network]
    save_property(tmp_path, model, network=network, hyperparameters=hyperparameters)
    loaded = load_property(tmp_path, dtype=torch.float64).model
    before, after = (predict_property(one, [crystal(1)])[0] for one in (model, loaded))
    values = [getattr(one, "values", one) for one in (before, after)]
    np.testing.assert_allclose(values[1], values[0], rtol=0, atol=1e-12)


def test_missing_labels_count_nothing(labelled_file, tmp_path):
    """What stands in place of a missing label, and where, changes nothing; labelled atoms of the structure count."""
    settings = {"task": {"key": "spin", "level": "atom", "hidden": 8}, "dtype": "float64", "plots": False}
    run = PropertyRun(config(labelled_file, **settings))
    chosen = np.array([2, 3, 4])
    _, labels = run.data.store.batch(chosen)
    assert int(torch.isnan(labels).sum()) == 3
    entry = run.update(chosen)
    assert np.isfinite(entry["loss"]) and np.isfinite(entry["mae"])
    known = run.pairs("validation")
    assert len(known[0]) == 37


def test_a_resumed_run_ends_as_one_without_a_break(labelled_file):
    entries = {"network": "crystal_cgcnn", "hyperparameters": {"cutoff": 4.5, "channels": 6, "n_layers": 1}}
    entries |= {"max_neighbours": 12, "patience": 50, "validation_steps": 2}
    whole = train_property(config(labelled_file, "whole", **entries))
    broken = PropertyRun(config(labelled_file, "broken", **entries))
    for _ in range(3):
        broken.update(broken.next_batch())
        if broken.step == 2:
            broken.judge(broken.validate()["mae"])
    broken.save()
    resumed = train_property(config(labelled_file, "broken", **entries))
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert whole.errors == resumed.errors
    with pytest.raises(ValueError, match="other settings of seed"):
        PropertyRun(config(labelled_file, "broken", **entries, seed=5))


def test_parts_do_not_share_materials(labelled_file):
    run = PropertyRun(config(labelled_file, validation=0.2, test=2))
    parts = {name: {run.data.store.materials[k] for k in part} for name, part in run.data.parts.items()}
    assert {name: len(part) for name, part in run.data.parts.items()} == {"train": 6, "validation": 2, "test": 2}
    assert not parts["train"] & parts["validation"] and not parts["train"] & parts["test"]


def test_element_references_are_those_of_least_squares(labelled_file):
    atoms = read(labelled_file, index=":")
    for one in atoms:
        one.info["total"] = float(np.where(one.numbers == 13, -3.0, 1.5).sum())
    write(labelled_file.parent / "total.extxyz", atoms)
    settings = {"task": {"key": "total", "pooling": "sum"}, "reference": "elements"}
    run = PropertyRun(config(labelled_file.parent / "total.extxyz", **settings))
    assert float(run.model.reference[13]) == pytest.approx(-3.0, abs=1e-3)
    assert float(run.model.reference[29]) == pytest.approx(1.5, abs=1e-3)


def test_the_calculator_gives_magnetic_moments(labelled_file, tiny_model, crystal):
    atoms = read(labelled_file, index=":")
    for one in atoms:
        one.new_array("magmoms", one.arrays["spin"])
    write(labelled_file.parent / "moments.extxyz", atoms)
    run = train_property(config(labelled_file.parent / "moments.extxyz", task={"key": "magmoms", "level": "atom"}))
    folder = run.config.output / "model"
    atoms = crystal(1)
    atoms.calc = GNNCalculator(tiny_model, properties=[folder], check_overlaps=False)
    energy = atoms.get_potential_energy()
    assert "magmoms" not in atoms.calc.results  # computed only when asked for
    np.testing.assert_allclose(atoms.get_magnetic_moments(), forcefield.predict(atoms, model=folder), atol=1e-6)
    assert atoms.get_potential_energy() == energy
    with pytest.raises(ModelError, match="is a potential"):
        GNNCalculator(tiny_model, properties=[tiny_model])
    with pytest.raises(ValueError, match="leave one out"):
        GNNCalculator(tiny_model, properties=[folder, folder])
    with pytest.raises(ModelError, match="magmoms"):
        load_model(folder)


def test_the_calculator_gives_charges(random_model, tiny_model, crystal, tmp_path):
    model = random_model("schnet", level="atom", key="charges")
    save_property(tmp_path, model, network="schnet", hyperparameters=random_model.__globals__["SMALL"]["schnet"])
    atoms = crystal(1)
    atoms.calc = GNNCalculator(tiny_model, properties=[tmp_path], check_overlaps=False, dtype="float64")
    expected = forcefield.predict(atoms, model=tmp_path, dtype="float64")
    assert expected.shape == (4,)
    np.testing.assert_allclose(atoms.get_charges(), expected, atol=1e-12)


def test_the_command_trains_and_goes_on(labelled_file):
    settings = json.loads(config(labelled_file, steps=4).model_dump_json(exclude={"card"}))
    path = labelled_file.parent / "config.yaml"
    settings |= {"train": "data.extxyz", "output": "run", "log_every": 5}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    result = CliRunner().invoke(app, ["train", str(path)])
    assert result.exit_code == 0, result.output
    assert (labelled_file.parent / "run" / "model" / "config.json").is_file()
    assert (labelled_file.parent / "run" / "train.csv").read_text().startswith("step,epoch,minutes,lr,loss,mae")
    result = CliRunner().invoke(app, ["train", str(path), "--set", "steps=6", "--resume"])
    assert result.exit_code == 0, result.output
    lines = (labelled_file.parent / "run" / "train.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["4", "5", "6"]  # the last steps are logged, however few
    assert torch.load(labelled_file.parent / "run" / CHECKPOINT, weights_only=True)["counters"]["step"] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task.poling": "sum"}, "unknown key 'task.poling'; did you mean 'pooling'"),
        ({"netwrk": "schnet"}, "unknown key 'netwrk'; did you mean 'network'"),
        ({"network": "scnet"}, "unknown network 'scnet'; did you mean 'schnet'"),
        ({"hyperparameters.chanels": 3}, "no hyper-parameter 'chanels'; did you mean 'channels'"),
        ({"epochs": 3}, "one of epochs, minutes and steps"),
        ({"task.key": "gp"}, "has the label 'gp'; did you mean 'gap'"),
        ({"task.shape": "vector"}, "a vector label has 1 numbers, but needs 3"),
        ({"material_key": "materal"}, "did you mean 'material'"),
    ],
)
def test_errors_say_what_to_do(labelled_file, change, message):
    settings = json.loads(config(labelled_file).model_dump_json(exclude={"card"}))
    path = labelled_file.parent / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    overrides = [part for key, value in change.items() for part in ("--set", f"{key}={value}")]
    result = CliRunner().invoke(app, ["train", str(path), *overrides])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
