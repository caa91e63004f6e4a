"""`forcefield neb` and `forcefield saddle` with ASE's EMT."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.constraints import FixAtoms
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[2]
EMT = ("--calculator", "ase.calculators.emt:EMT")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with an adatom in two neighbouring hollows."""
    slab = fcc100("Al", size=(2, 2, 2))
    add_adsorbate(slab, "Al", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms(mask=[atom.tag > 0 for atom in slab]))
    slab.info.clear()
    moved = slab.copy()
    moved.positions[-1, 0] += slab.cell[0, 0] / 2
    write(tmp_path / "initial.traj", slab)
    write(tmp_path / "final.traj", moved)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("killed", None)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_barrier_and_saddle(folder):
    result = run("neb", "initial.traj", "final.traj", "--n-images", 3, *EMT)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "neb").iterdir()} == {
        "band.json",
        "path.extxyz",
        "saddle.extxyz",
        "barrier.png",
        "result.json",
        "report.html",
    }
    assert (folder / "neb" / "report.html").read_text().count("<img") == 1
    record = json.loads((folder / "neb" / "result.json").read_text())
    path = read(folder / "neb" / "path.extxyz", ":")
    energies = [image.get_potential_energy() for image in path]
    assert record["forward"] == pytest.approx(max(energies) - energies[0], abs=1e-6) and record["forward"] > 0.2
    np.testing.assert_allclose(record["energies"], np.array(energies) - energies[0], atol=1e-6)

    write(folder / "start.traj", path[0])
    result = run("saddle", "start.traj", "--moving", 8, "--kick", 0.3, *EMT, "--json")
    (found,) = json.loads(result.stdout)
    assert result.exit_code == 0 and found["verdict"] == "saddle point found" and found["curvature"] < 0


def test_what_does_not_fit_is_said(folder):
    same = run("neb", "initial.traj", "initial.traj", *EMT, "--no-plots")
    assert same.exit_code == 1 and "Both ends are the same structure" in same.stdout
    assert json.loads((folder / "neb" / "result.json").read_text())["verdict"] == "failed"
    hasty = run("neb", "initial.traj", "final.traj", *EMT, "--steps", 1, "--no-relax-ends", "--no-plots", "--json")
    assert hasty.exit_code == 1 and json.loads(hasty.stdout)[0]["verdict"] == "not converged"


KILLED = """
import os, signal
from ase.calculators.emt import EMT
class Killed(EMT):
    calls = 0
    def calculate(self, *arguments, **options):
        Killed.calls += 1
        if Killed.calls > 40:
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*arguments, **options)
"""


def test_killed_search_goes_on_to_the_same_path(folder):
    assert run("neb", "initial.traj", "final.traj", "--n-images", 3, *EMT, "--output-dir", "whole").exit_code == 0
    (folder / "killed.py").write_text(KILLED)
    command = [sys.executable, "-m", "forcefield", "neb", "initial.traj", "final.traj", "--n-images", "3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    killed = subprocess.run(
        [*command, "--calculator", "killed:Killed", "--output-dir", "parts"], env=environment, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL and not (folder / "parts" / "result.json").exists()
    band = json.loads((folder / "parts" / "band.json").read_text())
    band["identity"]["calculator"] = EMT[1]  # the same potential, which now survives
    (folder / "parts" / "band.json").write_text(json.dumps(band))
    result = run("neb", "initial.traj", "final.traj", "--n-images", 3, *EMT, "--output-dir", "parts", "--resume")
    assert result.exit_code == 0, result.output
    whole, parts = (json.loads((folder / name / "result.json").read_text()) for name in ("whole", "parts"))
    assert parts["steps"] == whole["steps"] and band["band"]["steps"] < whole["steps"]
    np.testing.assert_allclose(parts["energies"], whole["energies"], rtol=0, atol=1e-10)
    assert parts["ends_moved"] == pytest.approx(whole["ends_moved"], abs=1e-10)


def test_killed_dimer_goes_on_to_the_same_saddle(folder):
    arguments = ["saddle", "initial.traj", "--moving", "8", "--kick", "0.3", "--calculator", "killed:Killed"]
    script = KILLED.replace("> 40:", ">= int(os.environ.get('KILL_AT', 1000000)):")
    (folder / "killed.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "KILL_AT": "40"}
    command = [sys.executable, "-m", "forcefield", *arguments, "--output-dir", "parts"]
    killed = subprocess.run(command, env=environment, capture_output=True)
    own = folder / "parts" / "initial"
    assert killed.returncode == -signal.SIGKILL and {path.name for path in own.iterdir()} == {
        "dimer.json",
        "state.json",
    }
    reached = json.loads((own / "dimer.json").read_text())["dimer"]["steps"]
    whole = run(*arguments, "--output-dir", "whole", "--json")
    resumed = run(*arguments, "--output-dir", "parts", "--resume", "--json")
    assert whole.exit_code == resumed.exit_code == 0, resumed.output
    (expected,), (found,) = json.loads(whole.stdout), json.loads(resumed.stdout)
    assert 0 < reached < found["steps"] == expected["steps"]
    assert found["barrier"] == pytest.approx(expected["barrier"], abs=1e-6)
    np.testing.assert_allclose(
        read(own / "saddle.extxyz").positions, read(folder / "whole" / "initial" / "saddle.extxyz").positions, atol=1e-4
    )
    again = run(*arguments, "--output-dir", "parts", "--resume")
    assert again.exit_code == 0 and "done before, saddle point found" in again.stderr


def test_dimer_that_ran_out_of_steps_goes_on_with_more(folder):
    arguments = ["saddle", "initial.traj", "--moving", 8, "--kick", 0.3, *EMT]
    assert run(*arguments, "--steps", 5).exit_code == 1
    state = folder / "saddle" / "initial" / "dimer.json"
    early = json.loads(state.read_text())["dimer"]
    assert early["steps"] == 5
    assert "done before, not converged" in run(*arguments, "--steps", 5, "--resume").stderr
    longer = run(*arguments, "--steps", 7, "--resume", "--json")
    (record,) = json.loads(longer.stdout)
    assert (record["steps"], record["verdict"]) == (7, "not converged") and longer.exit_code == 1
    other = run(*arguments, "--steps", 1, "--seed", 3, "--resume", "--json")  # another search begins anew
    assert json.loads(other.stdout)[0]["steps"] == 1


def test_resume_takes_more_steps_but_no_other_search(folder):
    arguments = ("neb", "initial.traj", "final.traj", "--n-images", 3, *EMT, "--no-plots")
    assert run(*arguments, "--steps", 40, "--no-relax-ends", "--fmax", 0.001).exit_code == 1
    known = json.loads((folder / "neb" / "band.json").read_text())["band"]["steps"]
    other = run(*arguments, "--resume", "--no-relax-ends")
    assert other.exit_code == 1 and "belongs to another search: fmax differ" in other.stdout
    longer = run(*arguments, "--steps", 50, "--no-relax-ends", "--fmax", 0.001, "--resume", "--json")
    assert json.loads(longer.stdout)[0]["steps"] in range(known + 1, 51)
    (folder / "neb" / "band.json").write_text("{")
    damaged = run(*arguments, "--resume")
    assert damaged.exit_code == 1 and "is damaged" in damaged.stdout
    assert run(*arguments).exit_code == 0  # without --resume all begins anew


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["neb", "initial.traj", "gone.traj"], "gone.traj: no such file"),
        (["neb", "initial.traj", "final.traj", "--n-images", 0], "n_images is 0"),
        (["saddle", "initial.traj", "--kick", 0], "kick is 0.0"),
    ],
)
def test_wrong_usage_is_one_line(folder, arguments, message):
    result = run(*arguments, *EMT)
    assert result.exit_code == 2 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
