"""`forcefield finetune`: tables, verdict and status on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.data.frames import frame_from_atoms
from forcefield.models import load_model, save_model
from forcefield.networks import build_network
from forcefield.potential import Potential
from forcefield.train.replay import write_sample

HYPERPARAMETERS = {
    **{"cutoff": 4.0, "channels": 8, "n_radial": 4, "lmax": 1, "species_channels": 4, "message_scalars": 4},
    **{"message_vectors": 4, "hidden": 8},
}


def crystal(symbol: str, seed: int) -> Atoms:
    generator = np.random.default_rng(seed)
    atoms = bulk(symbol, "fcc", a=3.7 + 0.3 * generator.random(), cubic=True)
    atoms.positions += generator.normal(scale=0.1, size=(4, 3))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model with samples, and new data."""
    path = tmp_path_factory.mktemp("finetune")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("density", [13, 29, 79], **HYPERPARAMETERS)
    energies = dict.fromkeys((13, 29, 79), 0.0)
    potential = Potential(network, isolated_energies=energies, bound_energies=energies, scale=0.5)
    save_model(path / "tiny", potential, network="density", hyperparameters=HYPERPARAMETERS, labels="None.")
    for name, seeds in (("replay.npz", range(8)), ("validation_sample.npz", range(8, 12))):
        write_sample(path / "tiny" / name, [frame_from_atoms(crystal("Al", k), kind="crystal") for k in seeds])
    write(path / "new.extxyz", [crystal("Cu", k) for k in range(20, 32)])
    write(path / "silver.extxyz", [crystal("Ag", k) for k in range(4)])
    return path


def run(folder: Path, data: str, output: Path, *options: str):
    arguments = ["finetune", str(folder / "tiny"), str(folder / data), "--output", str(output), "--device", "cpu"]
    return CliRunner().invoke(app, [*arguments, "--slots", "1500", *options])


def test_errors_before_and_after_are_shown(folder, tmp_path):
    options = ("--steps", "30", "--learning-rate", "0.01", "--name", "mine", "--patience", "50")
    found = run(folder, "new.extxyz", tmp_path, *options)
    assert found.exit_code == 0, found.output
    text = found.stdout
    places = [
        text.index(part)
        for part in (
            "training on 11 new frames; validation on the last 1 of 12 frames",
            "element energies refitted by (eV): Cu",
            "fine-tuned",
            "smaller by a factor of",
            "errors on base validation",
            "forgetting: energy",
            "30 steps in",
            f"the fine-tuned model is {tmp_path / 'model'}",
        )
    ]
    assert places == sorted(places)
    assert load_model(tmp_path / "model").config["finetuned"]["base"] == "tiny"
    again = run(folder, "new.extxyz", tmp_path, *options, "--json")
    assert again.exit_code == 0 and "going on from step 30" in again.stderr
    report = json.loads(again.stdout)
    assert report["better"] and report["steps"] == 30 and len(report["stages"]) == 3


def test_worse_model_has_its_own_name_and_status(folder, tmp_path):
    found = run(folder, "new.extxyz", tmp_path, "--steps", "2", "--learning-rate", "2")
    assert found.exit_code == 1
    assert "not better: the" in found.stdout and str(tmp_path / "model-worse") in found.stdout
    assert (tmp_path / "model-worse").is_dir() and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("silver.extxyz", [], "#0 has Ag, which the model does not know"),
        ("none.extxyz", [], "none.extxyz does not exist"),
        ("new.extxyz", ["--steps", "3", "--epochs", "2"], "steps and epochs are given"),
        ("new.extxyz", ["--freeze", "gate*"], "fits no parameter of the network"),
        ("new.extxyz", ["--no-replay", "--replay", "x.npz"], "a file to replay is given together with no_replay"),
        ("new.extxyz", ["--base-validation", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_errors_are_one_line(folder, tmp_path, data, options, message):
    found = run(folder, data, tmp_path / "run", *options)
    assert found.exit_code == 2, found.output
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last
    assert not (tmp_path / "run" / "model").exists()
