"""`forcefield relax` with ASE's EMT: files, exit status, errors and interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from html import escape

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.constraints import FixAtoms
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("matplotlib")

EMT = "ase.calculators.emt:EMT"

SLOW_CALCULATOR = """
import time
from ase.calculators.emt import EMT

class Slow(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(0.05)
        super().calculate(*args, **kwargs)

class StopsAtSixthCall(EMT):
    calls = 0
    def calculate(self, *args, **kwargs):
        StopsAtSixthCall.calls += 1
        if StopsAtSixthCall.calls == 6:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures and calculators in it."""
    rattled = bulk("Au", cubic=True)
    rattled.rattle(0.1, seed=1)
    write(tmp_path / "Cu.cif", bulk("Cu", a=3.7, cubic=True))
    write(tmp_path / "POSCAR", rattled)
    write(tmp_path / "CO.xyz", molecule("CO"))
    write(tmp_path / "NaCl.cif", bulk("NaCl", "rocksalt", a=5.64))
    write(tmp_path / "two.traj", [bulk("Cu", a=3.7), rattled])
    (tmp_path / "broken.cif").write_text("data_\nloop_ nothing\n")
    (tmp_path / "slow_calculators.py").write_text(SLOW_CALCULATOR)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("slow_calculators", None)


def run(*arguments, calculator=EMT):
    return CliRunner().invoke(app, ["relax", "--calculator", calculator, *[str(argument) for argument in arguments]])


def test_crystal_gives_structure_trajectory_and_json(folder):
    result = run("Cu.cif", "--output-dir", "out")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (folder / "out").iterdir()} == {
        "Cu_relaxed.cif",
        "Cu_relaxed.extxyz",
        "Cu_relax.traj",
        "Cu_relax.json",
        "Cu_relax.png",
        "report.html",
    }
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('<img alt="Cu relax" src="data:image/png;base64,') == 1
    assert "<p>converged after" in page and "<td>converged</td>" in page
    record = json.loads((folder / "out" / "Cu_relax.json").read_text())
    assert record["converged"] is True and record["source"] == "Cu.cif" and record["options"]["cell"] is True
    assert record["spacegroup_before"]["number"] == record["spacegroup_after"]["number"] == 225
    assert read(folder / "out" / "Cu_relaxed.cif").cell.lengths() == pytest.approx([3.590] * 3, abs=2e-3)
    frames = read(folder / "out" / "Cu_relax.traj", ":")
    assert len(frames) == record["steps"] + 1
    assert frames[-1].get_potential_energy() == pytest.approx(record["energy"])
    assert "converged" in result.stdout and "Fm-3m (225)" in result.stdout and "-8.65" in result.stdout
    assert "1 of 1 converged; results are in out" in result.stdout


def test_automatic_cell_for_crystals_only(folder):
    result = run("Cu.cif", "CO.xyz", "POSCAR", "--output-dir", "out", "--fmax", 0.1, "--smax", 1)
    assert result.exit_code == 0, result.output
    cells = [
        json.loads((folder / "out" / f"{name}_relax.json").read_text())["options"]["cell"] for name in ("Cu", "CO")
    ]
    assert cells == [True, False]
    assert read(folder / "out" / "CO_relaxed.xyz").get_distance(0, 1) == pytest.approx(1.10, abs=0.15)
    assert len(read(folder / "out" / "POSCAR_relaxed", format="vasp")) == 4


def test_vacuum_in_a_periodic_cell_keeps_it(folder):
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0, periodic=True)
    slab.info.clear()
    write("slab.vasp", slab, format="vasp")
    result = run("slab.vasp", "Cu.cif", "--output-dir", "out", "--fmax", 0.1, "--smax", 1)
    assert result.exit_code == 0, result.output
    notice = (
        "a vacuum of 10.0 Å along c, as of a slab: atoms relaxed, cell kept; "
        "cell_axes='ab' (--cell-axes ab) relaxes it along a and b"
    )
    assert result.stderr.count(notice) == 1 and f"slab.vasp: warning: {notice}" in result.stderr
    record = json.loads((folder / "out" / "slab_relax.json").read_text())
    assert record["volume_change"] == 0.0 and record["options"]["cell"] is False and record["warnings"] == [notice]
    assert json.loads((folder / "out" / "Cu_relax.json").read_text())["warnings"] == []
    assert escape(notice) in (folder / "out" / "report.html").read_text(encoding="utf-8")
    asked = run("slab.vasp", "--cell", "--output-dir", "asked", "--fmax", 0.1, "--smax", 0.5)
    assert asked.exit_code == 0 and "vacuum" not in asked.output
    assert json.loads((folder / "asked" / "slab_relax.json").read_text())["volume_change"] != 0.0
    plane = run("slab.vasp", "--cell-axes", "ab", "--output-dir", "plane", "--fmax", 0.1, "--smax", 0.5)
    assert plane.exit_code == 0 and "vacuum" not in plane.output, plane.output
    record = json.loads((folder / "plane" / "slab_relax.json").read_text())
    assert record["options"]["cell"] is True and record["options"]["cell_axes"] == "ab"
    assert read(folder / "plane" / "slab_relaxed.extxyz").cell[2] == pytest.approx(slab.cell[2])
    assert run("slab.vasp", "--cell-axes", "ab", "--fixed-cell").exit_code == 2
    refused = run("slab.vasp", "--pressure", 1.0, "--output-dir", "pressed")
    assert refused.exit_code == 1 and "where a pressure has no meaning" in refused.stdout


def test_fixed_cell(folder):
    assert run("Cu.cif", "--fixed-cell").exit_code == 0
    assert not list(folder.glob("*.png"))  # without a folder for them, unless asked for
    record = json.loads((folder / "Cu_relax.json").read_text())
    assert record["volume_change"] == 0.0 and abs(record["pressure"]) > 1.0


def test_options_arrive(folder):
    options = ["--pressure", 10, "--fmax", 0.005, "--smax", 0.01, "--optimizer", "bfgs", "--symmetry", "--steps", 77]
    assert run("Cu.cif", *options).exit_code == 0
    record = json.loads((folder / "Cu_relax.json").read_text())
    assert record["pressure"] == pytest.approx(10.0, abs=0.01) and record["target_pressure"] == 10.0
    assert record["options"] == {
        "cell": True,
        "cell_axes": "abc",
        "fmax": 0.005,
        "smax": 0.01,
        "steps": 77,
        "optimizer": "bfgs",
        "pressure": 10.0,
        "symmetry": True,
        "symprec": 0.01,
    }


def test_all_frames_of_a_trajectory(folder):
    result = run("two.traj", "--json", "--fmax", 0.2, "--smax", 1)
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)
    assert [record["frame"] for record in records] == [0, 1]
    assert (folder / "two_0000_relaxed.extxyz").exists() and (folder / "two_0001_relax.traj").exists()
    assert run("two.traj", "--index", "-1", "--output-dir", "last", "--fixed-cell", "--fmax", 0.2).exit_code == 0
    assert (folder / "last" / "two_relaxed.extxyz").exists()


def test_failures_do_not_stop_the_others(folder):
    result = run("broken.cif", "missing.cif", "NaCl.cif", "Cu.cif")
    assert result.exit_code == 1
    assert (folder / "Cu_relax.json").exists()
    assert "1 of 4 converged" in result.stdout
    assert "failed: missing.cif: no such file." in result.stdout
    assert "failed: broken.cif: no structure in it." in result.stdout
    assert "failed: NaCl.cif: NotImplementedError: No EMT-potential for Na" in result.stdout
    assert "Traceback" not in result.output


def test_debug_lets_the_error_through(folder):
    result = run("NaCl.cif", "--debug")
    assert isinstance(result.exception, NotImplementedError)


def test_not_converged_is_status_one_with_files(folder):
    result = run("Cu.cif", "--steps", 2)
    assert result.exit_code == 1 and "step limit" in result.stdout and "0 of 1 converged" in result.stdout
    record = json.loads((folder / "Cu_relax.json").read_text())
    assert (record["converged"], record["reason"], record["steps"]) == (False, "step limit", 2)
    assert (folder / "Cu_relaxed.cif").exists()


def test_molecule_with_cell_fails_alone(folder):
    result = run("CO.xyz", "Cu.cif", "--cell")
    assert result.exit_code == 1 and "without periodic axes" in result.stdout and "1 of 2 converged" in result.stdout
    result = run("CO.xyz", "--pressure", 1)
    assert result.exit_code == 1 and "periodic along no axis, where a pressure has no meaning" in result.stdout


def test_slab_keeps_its_cell_by_default(folder):
    slab = fcc111("Cu", (1, 1, 3), vacuum=6)
    slab.info.clear()
    write("slab.extxyz", slab)
    assert run("slab.extxyz").exit_code == 0
    np.testing.assert_allclose(read("slab_relaxed.extxyz").cell.array, slab.cell.array, atol=1e-7)


def test_overlaps_are_named_for_every_structure(folder):
    for name, distance in (("close.xyz", 0.3), ("closer.xyz", 0.2)):
        write(name, Atoms("Cu2", positions=[[0, 0, 0], [0, 0, distance]]))
    result = run("close.xyz", "closer.xyz", "CO.xyz", "--steps", 0)
    assert "close.xyz: warning: 1 pair of atoms overlap: 0 Cu - 1 Cu: 0.300 Å" in result.stderr
    assert "closer.xyz: warning: 1 pair of atoms overlap: 0 Cu - 1 Cu: 0.200 Å" in result.stderr
    assert result.stderr.count("overlap") == 2


def test_impossible_structure_is_refused(folder):
    write("flat.extxyz", Atoms("Cu", cell=[3, 3, 0], pbc=True))
    result = run("flat.extxyz")
    assert result.exit_code == 1 and "periodic along c, but that cell vector has a length of 0 Å" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimizer", "Newton"], "Unknown optimizer 'Newton'; choose one of FIRE"),
        (["--fmax", "0"], "fmax is 0.0"),
        (["--steps", "-3"], "steps is -3"),
        (["--fixed-cell", "--pressure", "5"], "--pressure 5.0 came with --fixed-cell"),
        (["--output-dir", "Cu.cif"], "Cannot write to the output folder Cu.cif"),
        (["--index", "first"], "--index is 'first'"),
        (["--batch", "--plots"], "--plots came with --batch"),
        (["--model", "default"], "came together with --model"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(folder, arguments, message):
    before = set(folder.iterdir())
    result = run("Cu.cif", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""
    assert set(folder.iterdir()) == before


def test_nothing_to_do_is_wrong_usage(folder):
    assert run().exit_code == 2


def test_interruption_keeps_what_was_done(folder):
    result = run("CO.xyz", "two.traj", "Cu.cif", "--steps", 4, calculator="slow_calculators:StopsAtSixthCall")
    assert result.exit_code == 130, result.output
    # CO took five calls (the fixed cell has no stress), the first frame of two.traj none that was finished.
    assert json.loads((folder / "CO_relax.json").read_text())["steps"] == 4
    assert not (folder / "Cu_relax.json").exists()
    assert "0 of 1 converged" in result.stdout


def test_ctrl_c_in_a_real_process(folder):
    """Send SIGINT in the middle of the second structure: both have their files, and the status is that of SIGINT."""
    write("big.extxyz", bulk("Au", a=4.3, cubic=True))
    command = [
        sys.executable,
        "-c",
        "from forcefield.cli import main; main()",
        "relax",
        "Cu.cif",
        "big.extxyz",
        "POSCAR",
    ]
    command += ["--calculator", "slow_calculators:Slow", "--fmax", "1e-12", "--smax", "1e-12", "--steps", "40"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    deadline = time.monotonic() + 120
    while not (folder / "big_relax.traj").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    record = json.loads((folder / "big_relax.json").read_text())
    assert (record["converged"], record["reason"]) == (False, "interrupted") and record["steps"] < 40
    frames = read(folder / "big_relax.traj", ":")
    assert len(frames) >= record["steps"] + 1
    last = read(folder / "big_relaxed.extxyz")
    np.testing.assert_allclose(last.positions, frames[record["steps"]].positions, atol=1e-7)
    assert (folder / "Cu_relax.json").exists() and not (folder / "POSCAR_relax.json").exists()
    assert "interrupted" in stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_resume_leaves_out_what_is_done(folder, workers):
    loose = ("--fmax", 0.1, "--smax", 1, "--output-dir", "out")
    first = run("Cu.cif", "two.traj", *loose)
    assert first.exit_code == 0, first.output
    files = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir() if path.name != "report.html"}
    more = run("Cu.cif", "two.traj", "CO.xyz", *loose, "--resume", "--workers", workers)
    assert more.exit_code == 0 and more.stderr.count("done before, converged") == 3, more.output
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())
    shared = [line for line in more.stdout.splitlines() if line.startswith(("Cu.cif", "two.traj"))]
    assert shared == [line for line in first.stdout.splitlines() if line.startswith(("Cu.cif", "two.traj"))]
    assert "4 of 4 converged" in more.stdout and "<td>CO.xyz</td>" in (folder / "out" / "report.html").read_text()
    assert "done before" not in (folder / "out" / "report.html").read_text()


def test_resume_repeats_what_changed(folder):
    atoms = molecule("CO")
    write("free.extxyz", atoms)
    options = ("free.extxyz", "--steps", 3, "--fmax", 1e-6, "--resume")
    assert "done before" not in run(*options).stderr
    assert "free.extxyz: done before, step limit" in run(*options).stderr
    assert "done before" not in run("free.extxyz", "--steps", 4, "--fmax", 1e-6, "--resume").stderr
    run(*options)
    atoms.set_constraint(FixAtoms([0]))
    write("free.extxyz", atoms)
    assert "done before" not in run(*options).stderr and "done before" in run(*options).stderr
    (folder / "free_relax.traj").unlink()
    assert "done before" not in run(*options).stderr
    (folder / "free_relax.json").write_text('{"half')
    assert "done before" not in run(*options).stderr


def test_resume_does_an_interrupted_structure_again(folder):
    files = ("CO.xyz", "Cu.cif", "--steps", 4)
    interrupted = run(*files, calculator="slow_calculators:StopsAtSixthCall")
    assert interrupted.exit_code == 130
    resumed = run(*files, "--resume", calculator="slow_calculators:StopsAtSixthCall")
    assert resumed.exit_code == 1 and "CO.xyz: done before, step limit" in resumed.stderr
    assert json.loads((folder / "Cu_relax.json").read_text())["steps"] == 4


def test_processes_give_what_one_process_gives(folder):
    files = ("two.traj", "missing.cif", "NaCl.cif", "CO.xyz", "Cu.cif")
    options = ("--fmax", 0.1, "--smax", 1)
    one = run(*files, *options, "--output-dir", "one")
    many = run(*files, *options, "--output-dir", "many", "--workers", 2)
    assert one.exit_code == many.exit_code == 1  # the missing file, and sodium
    assert one.stdout.replace("in one", "in many") == many.stdout and "4 of 6 converged" in many.stdout
    names = sorted(path.name for path in (folder / "one").iterdir())
    assert names == sorted(path.name for path in (folder / "many").iterdir())
    for name in names:
        if not name.endswith((".traj", ".html")):  # a page says when it was made
            assert (folder / "one" / name).read_bytes() == (folder / "many" / name).read_bytes()
    for name in ("two_0000", "two_0001", "CO", "Cu"):
        frames = [read(folder / place / f"{name}_relax.traj", ":") for place in ("one", "many")]
        assert len(frames[0]) == len(frames[1]) and (frames[0][-1].positions == frames[1][-1].positions).all()


def test_process_that_dies_leaves_no_structure_unmentioned(folder):
    dies = "class Dies(EMT):\n    def calculate(self, *args, **kwargs):\n        import os\n\n        os._exit(9)\n"
    (folder / "slow_calculators.py").write_text(f"{SLOW_CALCULATOR}\n{dies}")
    write("many.traj", [bulk("Cu")] * 12)
    result = run("Cu.cif", "many.traj", "--workers", 2, calculator="slow_calculators:Dies")
    assert result.exit_code == 1 and "0 of 13 converged" in result.stdout, result.output
    assert "failed: Cu.cif: a process died" in result.stdout and "failed: many.traj #11: not begun" in result.stdout
    assert "Traceback" not in result.output


def test_batch_and_workers_exclude_each_other(folder):
    result = run("Cu.cif", "--batch", "--workers", 2)
    assert result.exit_code == 2 and "--workers 2 came with --batch" in result.stderr
