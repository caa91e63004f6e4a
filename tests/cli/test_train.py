"""`forcefield train`: from raw files to a model, errors in one line, and a run that is killed again and again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.cli.train import describe, time_text
from forcefield.train.checkpoint import CHECKPOINT, load_checkpoint

SETTINGS = {
    **{"train": "train.extxyz", "validation": "validation.extxyz", "output": "run", "steps": 6, "slots": 500},
    **{"warmup_steps": 2, "log_every": 2, "checkpoint_minutes": 1e-9, "validation_batches": 1, "device": "cpu"},
    **{"isolated_energies": {"Cu": 3.5, "Al": 3.3}, "optimizer": "adam"},
    "hyperparameters": {
        **{"cutoff": 4.0, "channels": 8, "n_radial": 4, "lmax": 1, "species_channels": 4, "message_scalars": 4},
        **{"message_vectors": 4, "hidden": 8},
    },
    "card": {"name": "tiny", "labels": "Effective medium theory.", "limits": ["Knows copper and aluminium."]},
}


def crystal(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", a=3.8, cubic=True)
    atoms.symbols[: seed % 4] = "Al"
    atoms.positions += rng.normal(scale=0.1, size=(4, 3))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Raw files and a configuration beside them."""
    write(tmp_path / "train.extxyz", [crystal(k) for k in range(16)])
    write(tmp_path / "validation.extxyz", [crystal(k) for k in range(100, 104)])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(app, ["train", *[str(argument) for argument in arguments]])


def test_raw_files_become_a_model_with_card_logs_and_plots(folder, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir("/")  # paths are taken from the configuration's folder
    result = run(folder / "config.yaml", "--set", "log_every=1", "--set", "card.name=copper")
    assert result.exit_code == 0, result.output
    output = folder / "run"
    for name in ("log.jsonl", "train.csv", "validation.csv", "validation.json", "train.png", "parity.png"):
        assert (output / name).stat().st_size > 0, name
    assert len((output / "train.csv").read_text().splitlines()) == 7
    assert "meV/atom" in result.stderr and "making the store" in result.stderr
    card = (output / "model" / "README.md").read_text(encoding="utf-8")
    assert "# copper" in card and "Effective medium theory." in card and "Knows copper" in card and "16 frames" in card
    assert str(folder) not in card + (output / "model" / "config.json").read_text(encoding="utf-8")
    from forcefield.calculator import GNNCalculator

    atoms = crystal(0)
    atoms.calc = GNNCalculator(output / "model", device="cpu")
    assert np.isfinite(atoms.get_potential_energy())
    again = run(folder / "config.yaml", "--set", "plots=false")
    assert again.exit_code == 0 and "making the store" not in again.stderr and "going on from step 6" in again.stderr


def test_restart_begins_anew_and_resume_insists(folder):
    assert "has no checkpoint" in run(folder / "config.yaml", "--resume").stderr
    options = ["--set", "plots=false", "--set", "log_every=1"]
    assert run(folder / "config.yaml", *options).exit_code == 0
    done = run(folder / "config.yaml", "--restart", *options, "--set", "seed=1")
    assert done.exit_code == 0 and "going on" not in done.stderr
    assert len((folder / "run" / "train.csv").read_text().splitlines()) == 7
    refused = run(folder / "config.yaml", *options)
    assert refused.exit_code == 2 and "other settings of seed" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "learnig_rate=1"], "unknown key 'learnig_rate'; did you mean 'learning_rate'?"),
        (["--set", "hyperparameters.chanels=1"], "no hyper-parameter 'chanels'; did you mean 'channels'?"),
        (["--set", "format=99"], "has format 99, this version of the package reads formats 1 to 3"),
        (["--set", "train=nothing.extxyz"], "nothing.extxyz does not exist"),
        (["--set", "device=gpu"], "must be auto, cpu, cuda"),
        (["--set", "slots"], "needs key=value"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(folder, options, message):
    result = run(folder / "config.yaml", *options)
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "run" / CHECKPOINT).exists()


def test_no_configuration(tmp_path):
    assert "no CONFIG" in run().stderr
    assert "cannot be read" in run(tmp_path / "missing.yaml").stderr
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "holds no configuration" in run(tmp_path / "list.yaml").stderr


def test_example_is_a_configuration():
    result = run("--example")
    assert result.exit_code == 0
    from forcefield.train.config_file import checked

    assert checked(yaml.safe_load(result.stdout), "example").minutes == 60
    everything = "\n".join(line.removeprefix("# ") for line in result.stdout.splitlines())
    assert "warmup_steps: 300" in everything and "\n  limits:" in everything


def test_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "forcefield.train.config_file", raising=False)
    monkeypatch.delitem(sys.modules, "forcefield.train.reference", raising=False)
    assert 'pip install "gnn-forcefield[train]"' in run("--example").stderr


def start(folder: Path) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "forcefield", "train", str(folder / "config.yaml")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def steps_logged(folder: Path) -> int:
    path = folder / "run" / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum('"train"' in line for line in lines)


@pytest.mark.slow
def test_killed_run_ends_with_the_same_weights(folder, tmp_path_factory):
    """Killed (SIGKILL) three times at moments that nothing in the run knows of, while it writes checkpoints."""
    changes = {"steps": 60, "log_every": 1, "plots": False, "optimizer": "muon", "dtype": "float32"}
    settings = SETTINGS | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    generator = np.random.default_rng()
    kills = 0
    for target in (5, 20, 40):
        process = start(folder)
        while process.poll() is None and steps_logged(folder) < target:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        assert process.stderr is not None
        text = process.communicate(timeout=60)[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), text
    assert kills >= 2
    process = start(folder)
    assert process.wait(timeout=300) == 0, process.stderr.read().decode()
    process.stderr.close()
    straight = run(folder / "config.yaml", "--set", "output=straight", "--set", "checkpoint_minutes=60")
    assert straight.exit_code == 0, straight.output
    found, expected = (load_checkpoint(folder / name / CHECKPOINT) for name in ("run", "straight"))
    assert found["counters"] | {"seconds": 0} == expected["counters"] | {"seconds": 0}
    for name, value in expected["model"].items():
        assert torch.equal(found["model"][name].nan_to_num(), value.nan_to_num()), name
    for one, other in zip(found["ema"]["shadow_params"], expected["ema"]["shadow_params"], strict=True):
        assert torch.equal(one, other)
    logged = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged if entry["event"] == "train"] == list(range(1, 61))


def test_lines_of_the_log():
    entry = {"event": "train", "step": 1200, "minutes": 3.25, "loss": 1.5, "energy": 0.012, "stress": 0.00624150912}
    assert " ".join(describe(entry).split()) == "train step 1,200 3.2 min loss 1.5 energy 12 meV/atom stress 1 GPa"
    assert "3 steps skipped" in describe({**entry, "skipped": 3})
    assert [time_text(t) for t in (59.7, 3599, 7260)] == ["1 min 00 s", "59 min 59 s", "2 h 01 min"]
