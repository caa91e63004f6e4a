"""`forcefield md` and `forcefield analyse` with ASE's EMT."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("matplotlib")

EMT = "ase.calculators.emt:EMT"
QUICK = ("--timestep", 5, "--log-interval", 2, "--frame-interval", 2, "--checkpoint-interval", 10)

CALCULATORS = """
from ase.calculators.emt import EMT

class Stops(EMT):
    left = 0
    def calculate(self, *args, **kwargs):
        Stops.left -= 1
        if Stops.left == 0:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures and a calculator in it."""
    write(tmp_path / "Cu.extxyz", bulk("Cu", cubic=True))
    write(tmp_path / "Al.extxyz", bulk("Al", cubic=True))
    (tmp_path / "md_calculators.py").write_text(CALCULATORS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("md_calculators", None)


def run(*arguments, calculator=EMT, command="md"):
    words = [command] + ([] if calculator is None else ["--calculator", calculator])
    return CliRunner().invoke(app, words + [str(argument) for argument in arguments])


def names(path):
    return {entry.name for entry in path.iterdir()}


def test_run_and_analysis_fill_their_folders(folder):
    result = run("Cu.extxyz", "Al.extxyz", *QUICK, "--steps", 60, "--temperature", 100)
    assert result.exit_code == 0, result.output
    files = {"trajectory.extxyz", "thermo.csv", "checkpoint.npz", "final.extxyz", "thermo.png", "result.json"}
    assert names(folder / "md") == {"Cu", "Al", "report.html"} and names(folder / "md" / "Cu") == files
    record = json.loads((folder / "md" / "Cu" / "result.json").read_text())
    assert record["verdict"] == "finished" and record["steps"] == 60 and record["options"]["temperature"] == 100
    assert len(read(folder / "md" / "Cu" / "trajectory.extxyz", ":")) == 31

    trajectories = [f"md/{name}/trajectory.extxyz" for name in ("Cu", "Al")]
    result = run(*trajectories, calculator=None, command="analyse")
    assert result.exit_code == 0, result.output
    drawn = {"distances.png", "displacements.png", "vibrations.png", "thermo.png", "result.json"}
    assert names(folder / "analyse") == {"Cu", "Al", "report.html"} and names(folder / "analyse" / "Al") == drawn
    assert (folder / "analyse" / "report.html").read_text().count("<img") == 8
    record = json.loads((folder / "analyse" / "Cu" / "result.json").read_text())
    assert record["interval"] == pytest.approx(10.0) and record["averages"]["temperature_K"]["mean"] > 0


def test_interrupted_run_goes_on_and_a_finished_one_is_made_longer(folder):
    assert run("Cu.extxyz", *QUICK, "--steps", 40, "--no-plots", "--output-dir", "whole").exit_code == 0
    options = ["Cu.extxyz", *QUICK, "--no-plots", "--output-dir", "cut"]
    assert run(*options, "--steps", 1, calculator="md_calculators:Stops").exit_code == 0
    sys.modules["md_calculators"].Stops.left = 30
    stopped = run(*options, "--steps", 30, calculator="md_calculators:Stops")
    assert stopped.exit_code == 130 and "result.json" not in names(folder / "cut" / "Cu")
    resumed = run(*options, "--steps", 30, "--resume", calculator="md_calculators:Stops")
    assert resumed.exit_code == 0, resumed.output
    again = run(*options, "--steps", 30, "--resume", calculator="md_calculators:Stops")
    assert "done before, finished" in again.stderr
    longer = run(*options, "--steps", 40, "--resume", calculator="md_calculators:Stops")
    assert longer.exit_code == 0 and "done before" not in longer.stderr
    for name in ("trajectory.extxyz", "thermo.csv"):
        assert (folder / "cut" / "Cu" / name).read_bytes() == (folder / "whole" / "Cu" / name).read_bytes()


def test_run_that_leaves_physics_is_status_one(folder):
    result = run("Cu.extxyz", *QUICK, "--ensemble", "nve", "--timestep", 80, "--temperature", 3000, "--json")
    assert result.exit_code == 1
    (record,) = json.loads(result.stdout)
    assert record["ok"] is False and record["verdict"] != "finished" and record["reason"]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("md", ["Cu.extxyz", "--ensemble", "nph"], "ensemble is 'nph'"),
        ("md", ["Cu.extxyz", "--pressure", 1], "A pressure came with ensemble='nvt'"),
        ("analyse", ["Cu.extxyz", "--skip", -1], "--skip is -1"),
    ],
)
def test_wrong_usage_is_one_line(folder, command, arguments, message):
    result = run(*arguments, calculator=EMT if command == "md" else None, command=command)
    assert result.exit_code == 2 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_what_is_no_trajectory_fails_alone(folder):
    frames = [bulk("Cu") for _ in range(4)]
    for number, frame in enumerate(frames):
        frame.positions += 0.01 * number * np.ones(3)
        frame.info["time_fs"] = 2.0 * number
    write(folder / "good.extxyz", frames)
    (folder / "bad.extxyz").write_text("nonsense")
    result = run("bad.extxyz", "good.extxyz", "Cu.extxyz", "gone.traj", calculator=None, command="analyse")
    assert result.exit_code == 1 and "1 of 4 without objection" in result.stdout
    assert "cannot be read as a trajectory" in result.stdout and "needs two or more" in result.stdout
    assert "gone.traj: no such file" in result.stdout


def walks(folder, *stems):
    """Trajectories of atoms that walk at random."""
    for number, stem in enumerate(stems):
        rng = np.random.default_rng(number)
        frames = [bulk("Cu", cubic=True)]
        for step in range(30):
            frames.append(frames[-1].copy())
            frames[-1].positions += rng.normal(0.0, 0.05, (4, 3))
            frames[-1].info["time_fs"] = 2.0 * (step + 1)
        write(folder / f"{stem}.extxyz", frames[1:])


def analyse(*arguments):
    return run(*arguments, "--json", calculator=None, command="analyse")


def test_resumed_analysis_leaves_out_what_is_done(folder):
    walks(folder, "a", "b")
    paths = ["a.extxyz", "b.extxyz", "--no-plots", "--resume"]
    first = analyse("a.extxyz", "--no-plots")
    assert first.exit_code == 0, first.output
    time = (folder / "analyse" / "a" / "result.json").stat().st_mtime_ns
    both = analyse(*paths)
    assert both.exit_code == 0 and "a.extxyz: done before, analysed" in both.stderr
    assert "b.extxyz: analysed" in both.stderr
    assert (folder / "analyse" / "a" / "result.json").stat().st_mtime_ns == time
    assert json.loads(both.stdout)[0] == json.loads(first.stdout)[0]
    walks(folder, "c", "a")  # another trajectory under the same name
    changed = analyse(*paths)
    assert "a.extxyz: analysed" in changed.stderr and "b.extxyz: done before" in changed.stderr
    assert json.loads(changed.stdout)[0]["diffusion"] != json.loads(first.stdout)[0]["diffusion"]
    assert "done before" not in analyse(*paths, "--skip", 2).stderr
    assert "done before" not in analyse(*paths[:-1], "--skip", 2).stderr


def test_processes_share_trajectories_and_give_the_same(folder):
    walks(folder, "a", "c")
    (folder / "bad.extxyz").write_text("nonsense")
    paths = ["a.extxyz", "bad.extxyz", "c.extxyz", "gone.traj"]
    one = analyse(*paths, "--output-dir", "one")
    two = analyse(*paths, "--output-dir", "two", "--workers", 2)
    assert one.exit_code == two.exit_code == 1, two.output
    alone, shared = ({r["source"]: r for r in json.loads(x.stdout)} for x in (one, two))
    assert alone == shared and set(alone) == set(paths)
    assert [alone[path]["verdict"] for path in paths] == ["analysed", "failed", "analysed", "failed"]
    assert names(folder / "two" / "c") == {"distances.png", "displacements.png", "result.json"}
    assert (folder / "two" / "report.html").read_text().count("<img") == 4


def test_interrupted_analysis_keeps_what_is_done(folder, monkeypatch):
    from forcefield.workflows import trajectory_analysis

    walks(folder, "a", "b")
    whole = trajectory_analysis.analyse_trajectory
    calls = []

    def stops(frames, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(frames, **options)

    monkeypatch.setattr(trajectory_analysis, "analyse_trajectory", stops)
    assert analyse("a.extxyz", "b.extxyz", "--no-plots").exit_code == 130
    resumed = analyse("a.extxyz", "b.extxyz", "--no-plots", "--resume")
    assert resumed.exit_code == 0 and len(calls) == 3 and "a.extxyz: done before" in resumed.stderr
