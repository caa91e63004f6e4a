"""Several processes do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from forcefield.train.checkpoint import CHECKPOINT, load_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.distributed import Group, process_group, resolve_device
from forcefield.train.hessian_labels import label_hessians, write_hessian_labels
from forcefield.train.loop import train

BREAKS_IN_ONE_PROCESS = """
import os, sys
from forcefield.cli import main
from forcefield.train.loop import Run

original = Run.update
def update(run, frames):
    if run.step == 3 and os.environ["RANK"] == "1":
        raise ValueError("something is wrong here")
    return original(run, frames)
Run.update = update
main()
"""


def torchrun(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a program in several processes of one thread each."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment, timeout=300)


def written(config: TrainConfig, path: Path) -> str:
    """The configuration as a file (JSON is YAML)."""
    path.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    return str(path)


@pytest.fixture
def short(config: TrainConfig, tmp_path: Path) -> TrainConfig:
    """Seven steps with a Hessian loss, a line of the log for each; frames of unlike size."""
    crystals = [bulk("Cu", a=a, cubic=True) for a in (3.5, 3.6, 3.7)]
    labels = label_hessians(crystals, EMT(), directions=2)
    file = write_hessian_labels(tmp_path / "hessian.npz", labels)
    changes = {"steps": 7, "log_every": 1, "hessian": {"file": file, "every": 2}, "checkpoint_minutes": 60}
    return TrainConfig(**{**config.model_dump(), **changes})


def losses(folder: Path, event: str = "train") -> list[dict]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == event]


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(short, tmp_path):
    two = short.model_copy(update={"output": tmp_path / "two"})
    done = torchrun("-m", "forcefield", "train", written(two, tmp_path / "two.yaml"))
    assert done.returncode == 0, done.stderr
    train(short)
    one_log, two_log = losses(short.output), losses(two.output)
    assert len(one_log) == len(two_log) == 7
    for name in ("loss", "norm", "energy", "forces", "stress", "atomic_energies", "atoms_seen"):
        np.testing.assert_allclose([e[name] for e in two_log], [e[name] for e in one_log], rtol=1e-6, err_msg=name)
    assert ["hessian" in entry for entry in two_log] == [True, False] * 3 + [True]
    (one_result,), (two_result,) = losses(short.output, "result"), losses(two.output, "result")
    assert two_result["frames"] == 6
    assert two_result["forces_mae"] == pytest.approx(one_result["forces_mae"], rel=1e-6)
    states = [load_checkpoint(config.output / CHECKPOINT)["model"] for config in (short, two)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-6, atol=1e-9, equal_nan=True)
    assert (two.output / "model" / "config.json").is_file()
    assert done.stderr.count("the model is") == 1, "only one process speaks"


@pytest.mark.slow
def test_error_of_one_process_ends_all(short, tmp_path):
    script = tmp_path / "breaks.py"
    script.write_text(BREAKS_IN_ONE_PROCESS, encoding="utf-8")
    done = torchrun(str(script), "train", written(short, tmp_path / "config.yaml"))
    assert done.returncode != 0
    assert "something is wrong here" in done.stderr
    assert not (short.output / "model").exists()


def test_one_process_without_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group("cpu") as (group, device):
        assert group == Group() and group.is_root and device == "cpu"
        assert group.from_root([1]) == [1] and group.gather("a") == ["a"] and group.seconds_of_root(2.5) == 2.5
        values = torch.arange(3.0)
        assert group.sum(values) is values


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_frame_is_someones_and_edges_are_even(size):
    rng = np.random.default_rng(0)
    edges = rng.integers(10, 200, 100)
    frames = rng.permutation(100)[:20]
    parts = [Group(rank, size).share(frames, edges) for rank in range(size)]
    assert sorted(np.concatenate(parts)) == sorted(frames)
    load = [edges[part].sum() for part in parts]
    assert max(load) - min(load) <= edges[frames].max()
    few = [Group(rank, size).share(frames[:2], edges) for rank in range(size)]
    assert sum(len(part) for part in few) == 2


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ValueError, match="must be auto, cpu, cuda"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no GPU"):
            resolve_device("cuda:1")
