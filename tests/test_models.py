"""Model files: exact, checked, readable for a long time, and free of pickle."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from safetensors.torch import load_file, save_file

import forcefield.models
from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.models import ModelError, default_name, list_models, load_model, model_folder, save_model
from forcefield.networks import NETWORKS, build_network
from forcefield.potential import Potential
from forcefield.version import __version__

HYPERPARAMETERS = {"cutoff": 3.5, "channels": 8, "n_radial": 3, "species_channels": 4, "hidden": 8, "lmax": 3}


def random_potential(dtype: torch.dtype = torch.float64) -> Potential:
    network = build_network("density", [3, 8], **HYPERPARAMETERS)
    isolated, bound = {3: -0.2 / 3, 8: -1.5 / 7}, {3: -np.pi, 8: -6.1}
    return Potential(network, isolated_energies=isolated, bound_energies=bound, scale=1 / 3).with_dtype(dtype)


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copied"))


def change_config(folder: Path, **entries: Any) -> None:
    """Overwrite entries of a model's config; None removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | entries
    kept = {name: value for name, value in config.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_saved_and_loaded_models_are_the_same_to_the_last_bit(tmp_path, dtype):
    potential = random_potential(dtype)
    folder = save_model(tmp_path / "new", potential, network="density", hyperparameters=HYPERPARAMETERS)
    model = load_model(folder, dtype=dtype)
    assert model.name == "new" and model.potential.dtype == dtype and model.potential.elements == (3, 8)
    assert not any(parameter.requires_grad for parameter in model.potential.parameters())
    found, expected = model.potential.state_dict(), potential.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value.to(found[name].dtype)) or torch.isnan(value).any(), name
    atoms = bulk("Li2O", "fluorite", a=4.6, basis=[[0.25] * 3, [0.75] * 3, [0] * 3])
    atoms.rattle(0.1, seed=0)
    graph = graph_from_atoms(atoms, 3.5)
    one, other = evaluate(model.potential, graph), evaluate(potential, graph)
    for name in ("energy", "energies", "forces", "stress"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_a_loaded_model_saves_to_the_same_file(tiny_model, tmp_path):
    model = load_model(tiny_model)
    again = save_model(
        tmp_path / "again", model.potential, network="density", hyperparameters=model.config["hyperparameters"]
    )
    assert (again / "weights.safetensors").read_bytes() == (tiny_model / "weights.safetensors").read_bytes()


def test_config_says_what_is_needed(tiny_model):
    config = json.loads((tiny_model / "config.json").read_text(encoding="utf-8"))
    weights = (tiny_model / "weights.safetensors").read_bytes()
    assert config["sha256"] == hashlib.sha256(weights).hexdigest()
    assert config["format"] == forcefield.models.FORMAT and config["package_version"] == __version__
    assert config["network"] == "density" and config["cutoff"] == 4.0 and config["licence"] == "MIT"
    assert config["elements"] == ["H", "C", "O", "Na", "Mg", "Al", "Si", "Cl", "Cu"]
    assert config["isolated_energies"]["Na"] == -0.2 and config["bound_energies"]["Na"] == -2.22
    assert config["units"]["stress"] == "eV/Å^3"
    parameters = load_model(tiny_model).potential.network.parameters()
    assert config["parameters"] == sum(parameter.numel() for parameter in parameters) > 1000


def test_config_names_every_hyperparameter_so_that_defaults_may_change(tmp_path):
    folder = save_model(tmp_path / "new", random_potential(), network="density", hyperparameters=HYPERPARAMETERS)
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hyperparameters"]
    assert stored.items() > HYPERPARAMETERS.items()
    keywords = inspect.signature(NETWORKS["density"]).parameters
    assert set(stored) == set(keywords) - {"elements"}
    assert stored["n_layers"] == keywords["n_layers"].default


def test_saving_leaves_the_random_state_and_no_partial_files(tmp_path):
    potential = random_potential()
    before = torch.get_rng_state()
    folder = save_model(tmp_path / "new", potential, network="density", hyperparameters=HYPERPARAMETERS)
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]


def test_constants_keep_full_precision_whatever_the_training_used(tmp_path):
    single = random_potential(torch.float32)
    folder = save_model(tmp_path / "new", single, network="density", hyperparameters=HYPERPARAMETERS)
    exact = dict(build_network("density", [3, 8], **HYPERPARAMETERS).named_buffers())
    stored = load_file(folder / "weights.safetensors")
    constants = [name for name in exact if name in stored and exact[name].is_floating_point()]
    assert len(constants) > 3
    for name in constants:
        assert stored[name].dtype == torch.float64 and torch.equal(stored[name], exact[name].double()), name


def test_loading_needs_neither_e3nn_nor_pickle(tiny_model):
    code = f"""
import builtins, pickle, sys
class Refused:
    def __init__(self, *_, **__): raise AssertionError("a pickle was read")
import torch
pickle.load = pickle.loads = torch.load = pickle.Unpickler = Refused
from forcefield.models import load_model
from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from ase.build import bulk
model = load_model({str(tiny_model)!r})
print(float(evaluate(model.potential, graph_from_atoms(bulk("Cu"), 4.0)).energy))
assert not [name for name in sys.modules if name.split(".")[0] == "e3nn"], "e3nn was imported"
"""
    root = str(Path(forcefield.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    here = evaluate(load_model(tiny_model).potential, graph_from_atoms(bulk("Cu"), 4.0)).energy
    assert float(done.stdout) == pytest.approx(float(here), abs=1e-6)


def test_pickled_weights_are_refused_unread(copied):
    content = pickle.dumps({"weights": 1})
    (copied / "weights.safetensors").write_bytes(content)
    change_config(copied, sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(copied)


def test_damaged_weights_are_refused(copied):
    path = copied / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="damaged: its SHA-256"):
        load_model(copied)
    path.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(ModelError, match="damaged: its SHA-256"):
        load_model(copied)
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(copied)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "newest"}', '{"format": 1.5}', "null"])
def test_damaged_config_is_refused(copied, content):
    (copied / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be read as a model configuration"):
        load_model(copied)


@pytest.mark.parametrize("name", ["sha256", "elements", "network", "hyperparameters", "scale", "bound_energies"])
def test_incomplete_config_is_refused(copied, name):
    change_config(copied, **{name: None})
    with pytest.raises(ModelError, match=f"lacks {name}"):
        load_model(copied)


def test_impossible_config_is_refused(copied):
    config = load_model(copied).config
    for impossible, said in (
        ({"hyperparameters": {**config["hyperparameters"], "wings": 2}}, "wings"),
        ({"hyperparameters": {**config["hyperparameters"], "channels": "many"}}, "describes no model"),
        ({"network": "phlogiston"}, "unknown network 'phlogiston'"),
        ({"elements": [*config["elements"], "Zz"]}, "no elements Zz"),
        ({"bound_energies": {"Na": -1.0}}, "no reference energy for atomic numbers"),
        ({"scale": float("nan")}, "not a finite number"),
        ({"scale": "large"}, "large"),
        ({"task": "fortune"}, "task 'fortune', but must have potential or property"),
    ):
        change_config(copied, **{**config, **impossible})
        with pytest.raises(ModelError, match=said):
            load_model(copied)


def test_weights_of_another_network_are_refused(copied):
    hyperparameters = load_model(copied).config["hyperparameters"]
    change_config(copied, hyperparameters={**hyperparameters, "channels": 16})
    with pytest.raises(ModelError, match="does not fit the network 'density'"):
        load_model(copied)
    change_config(copied, hyperparameters={**hyperparameters, "n_layers": 3})
    with pytest.raises(ModelError, match="lacks|does not fit"):
        load_model(copied)


def test_missing_weight_is_refused(copied):
    path = copied / "weights.safetensors"
    weights = load_file(path)
    del weights["sender.weight"]
    save_file(weights, path)
    change_config(copied, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="sender.weight"):
        load_model(copied)


def test_newer_format_asks_for_an_upgrade(copied):
    change_config(copied, format=forcefield.models.FORMAT + 1)
    with pytest.raises(ModelError, match="pip install --upgrade gnn-forcefield"):
        load_model(copied)


def test_models_before_format_three_saturate_slowly(copied):
    """At the rate 1; so does a pair of atoms of such a model."""
    pair = Atoms("NaCl", positions=[[0, 0, 0], [0, 0, 2.5]])
    now = load_model(copied)
    assert now.potential.saturation_rate == now.config["saturation_rate"] == 4.0
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    del config["saturation_rate"]
    (copied / "config.json").write_text(json.dumps({**config, "format": 2}), encoding="utf-8")
    before = load_model(copied)
    assert before.potential.saturation_rate == 1.0
    graph = graph_from_atoms(pair, now.potential.cutoff)
    shares = [m.potential.saturation(graph, graph.edge_lengths()) for m in (before, now)]
    near = -torch.log1p(-shares[0])  # of one neighbour
    torch.testing.assert_close(shares[1], 1 - torch.exp(-near - 3 * near**3))


def test_older_format_is_brought_up_to_date(copied, monkeypatch):
    energies = load_model(copied).config["isolated_energies"]
    change_config(copied, isolated_energies=None, atom_energies=energies)

    def renamed(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "isolated_energies": config["atom_energies"], "format": config["format"] + 1}

    current = forcefield.models.FORMAT
    monkeypatch.setattr(forcefield.models, "FORMAT", current + 2)
    monkeypatch.setitem(forcefield.models.UPDATES, current, renamed)
    monkeypatch.setitem(forcefield.models.UPDATES, current + 1, lambda config: {**config, "scale": 2.5})
    model = load_model(copied)
    assert float(model.potential.isolated[11]) == energies["Na"]
    assert float(model.potential.scale) == 2.5
    monkeypatch.delitem(forcefield.models.UPDATES, current)
    with pytest.raises(ModelError, match=f"model format {current}, which this version .* no longer reads"):
        load_model(copied)


@pytest.fixture
def shelf(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models with two in it, the second being the default."""
    folder = tmp_path / "shelf"
    for name in ("alpha", "beta"):
        shutil.copytree(tiny_model, folder / name)
        change_config(folder / name, default=name == "beta", errors={"energy": 0.03})
    monkeypatch.setattr(forcefield.models, "models_folder", lambda: folder)
    return folder


def test_installed_models_are_listed_with_the_default_first(shelf):
    listed = list_models()
    assert [(model["name"], model["default"]) for model in listed] == [("beta", True), ("alpha", False)]
    assert listed[0]["errors"] == {"energy": 0.03}
    assert default_name() == "beta"
    assert load_model().name == "beta" and load_model("alpha").name == "alpha"


def test_names_and_paths_find_their_model(shelf, tmp_path, monkeypatch):
    assert model_folder("alpha") == shelf / "alpha"
    assert model_folder(shelf / "alpha") == shelf / "alpha"
    monkeypatch.chdir(shelf / "alpha")
    assert model_folder("../beta").resolve() == shelf / "beta"
    for name in ("gamma", str(tmp_path), str(shelf / "nothing")):
        with pytest.raises(ModelError, match=r"there is no model .*\(alpha, beta\)"):
            model_folder(name)


def test_empty_shelf_is_an_empty_list_and_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(forcefield.models, "models_folder", lambda: tmp_path)
    assert list_models() == []
    with pytest.raises(ModelError, match="no default model"):
        load_model()
    with pytest.raises(ModelError, match="none installed"):
        load_model("alpha")
