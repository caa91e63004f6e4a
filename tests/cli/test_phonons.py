"""`forcefield phonons`, `elastic`, `eos`, `qha`, `gruneisen` and their folders, with ASE's EMT."""

from __future__ import annotations

import errno
import json
import os
import sys

import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("phonopy")
pytest.importorskip("matplotlib")

EMT = "ase.calculators.emt:EMT"
QUICK = ("--supercell", 2, 2, 2, "--mesh-length", 15, "--t-max", 300, "--t-step", 100)

CALCULATORS = """
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

class StopsAtCall(EMT):
    calls, limit = 0, 4
    def calculate(self, *args, **kwargs):
        StopsAtCall.calls += 1
        if StopsAtCall.calls == StopsAtCall.limit:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)

def soft():
    return LennardJones(sigma=1.0, epsilon=1.0, rc=2.5, smooth=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures and calculators in it."""
    write(tmp_path / "Cu.cif", bulk("Cu", cubic=True))
    write(tmp_path / "Al.extxyz", bulk("Al"))
    write(tmp_path / "CO.xyz", molecule("CO"))
    slab = fcc111("Cu", (1, 1, 3), vacuum=6)
    slab.info.clear()
    write(tmp_path / "slab.extxyz", slab)
    write(tmp_path / "loose.extxyz", Atoms("Ar", cell=[1.1] * 3, pbc=True))
    (tmp_path / "own_calculators.py").write_text(CALCULATORS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_calculators", None)


def run(command, *arguments, calculator=EMT):
    words = [command, "--calculator", calculator, *[str(argument) for argument in arguments]]
    return CliRunner().invoke(app, words)


def names(path):
    return {entry.name for entry in path.iterdir()}


def test_phonons_fill_a_folder_for_each_structure(folder):
    result = run("phonons", "Cu.cif", "Al.extxyz", *QUICK)
    assert result.exit_code == 0, result.output
    assert names(folder / "phonons") == {"Cu", "Al", "report.html"}
    assert names(folder / "phonons" / "Al") == {"result.json", "phonopy.yaml", "bands.png", "thermal.png"}
    record = json.loads((folder / "phonons" / "Al" / "result.json").read_text())
    assert record["ok"] is True and record["verdict"] == "stable" and record["source"] == "Al.extxyz"
    assert record["options"]["supercell"] == [2, 2, 2] and record["identity"]["calculator"] == EMT
    assert record["files"] == ["bands.png", "phonopy.yaml", "thermal.png"]
    assert "2 of 2 without objection; results are in phonons" in result.stdout

    import phonopy

    again = phonopy.load(folder / "phonons" / "Al" / "phonopy.yaml", log_level=0)
    again.run_qpoints([[0.5, 0.5, 0.0]])
    assert again.qpoints.frequencies.max() == pytest.approx(record["highest_frequency"], rel=0.02)


def test_resume_takes_what_is_done_if_nothing_changed(folder):
    assert run("phonons", "Al.extxyz", *QUICK).exit_code == 0
    path = folder / "phonons" / "Al" / "result.json"
    before = path.stat().st_mtime_ns
    again = run("phonons", "Al.extxyz", *QUICK, "--resume")
    assert again.exit_code == 0 and "done before, stable" in again.stderr and path.stat().st_mtime_ns == before
    other = run("phonons", "Al.extxyz", *QUICK, "--displacement", 0.02, "--resume", "--no-plots")
    assert "done before" not in other.stderr and path.stat().st_mtime_ns != before
    assert names(path.parent) == {"result.json", "phonopy.yaml"}


def test_interrupted_run_goes_on_with_its_forces(folder):
    options = ["Al.extxyz", *QUICK, "--relaxation", "none", "--no-plots"]
    stopped = run("phonons", *options, calculator="own_calculators:StopsAtCall")
    # the default limit is beyond a crystal of one displacement
    assert stopped.exit_code == 0, stopped.output
    sys.modules["own_calculators"].StopsAtCall.calls, sys.modules["own_calculators"].StopsAtCall.limit = 0, 2
    stopped = run("phonons", *options, calculator="own_calculators:StopsAtCall")
    assert stopped.exit_code == 130
    assert names(folder / "phonons" / "Al") == {"state.json", "forces.jsonl"}
    lines = (folder / "phonons" / "Al" / "forces.jsonl").read_text().splitlines()
    assert len(lines) == 2  # the crystal and the supercell at rest
    sys.modules["own_calculators"].StopsAtCall.calls = sys.modules["own_calculators"].StopsAtCall.limit = 10
    done = run("phonons", *options, "--resume", calculator="own_calculators:StopsAtCall")
    assert done.exit_code == 0 and names(folder / "phonons" / "Al") == {"result.json", "phonopy.yaml"}
    assert sys.modules["own_calculators"].StopsAtCall.calls == 11


def test_what_is_no_crystal_fails_alone(folder):
    result = run("phonons", "CO.xyz", "slab.extxyz", "Al.extxyz", *QUICK, "--no-plots")
    assert result.exit_code == 1 and "1 of 3 without objection" in result.stdout
    assert "failed: CO.xyz: phonons need a crystal" in result.stdout and "ase.vibrations" in result.stdout
    assert "failed: slab.extxyz: phonons need a crystal" in result.stdout


def test_imaginary_modes_are_status_one_unless_followed(folder):
    options = ["loose.extxyz", *QUICK, "--no-symmetry", "--json"]
    result = run("phonons", *options, calculator="own_calculators:soft")
    assert result.exit_code == 1
    (record,) = json.loads(result.stdout)
    assert record["verdict"] == "imaginary modes" and record["imaginary"][0]["frequency"] < -0.05
    assert len(record["imaginary"][0]["eigenvector"][0]) == 3
    followed = run("phonons", *options, "--follow-imaginary", calculator="own_calculators:soft")
    assert followed.exit_code == 0, followed.output
    stable = read(folder / "phonons" / "loose" / "stable_structure.extxyz")
    assert stable.pbc.all() and len(stable) >= 1


def test_elastic_and_equation_of_state(folder):
    result = run("elastic", "Cu.cif", "--strain", 0.005)
    assert result.exit_code == 0, result.output
    assert names(folder / "elastic" / "Cu") == {"result.json", "young_modulus.png"}
    elastic = json.loads((folder / "elastic" / "Cu" / "result.json").read_text())
    result = run("eos", "Cu.cif", "--n-volumes", 7, "--equation", "vinet")
    assert result.exit_code == 0, result.output
    assert names(folder / "eos" / "Cu") == {"result.json", "equation_of_state.png"}
    curve = json.loads((folder / "eos" / "Cu" / "result.json").read_text())
    assert curve["bulk_modulus"] == pytest.approx(elastic["moduli"]["bulk"], rel=0.02)
    assert curve["options"]["equation"] == "vinet" and elastic["options"]["strains"] == [0.005]


def test_quasi_harmonic_and_gruneisen(folder):
    result = run("qha", "Cu.cif", "--n-volumes", 5, *QUICK)
    assert result.exit_code == 0, result.output
    assert names(folder / "qha" / "Cu") == {"result.json", "quasi_harmonic.png"}
    result = run("gruneisen", "Cu.cif", *QUICK)
    assert result.exit_code == 0, result.output
    assert names(folder / "gruneisen" / "Cu") == {"result.json", "gruneisen.png"}
    record = json.loads((folder / "gruneisen" / "Cu" / "result.json").read_text())
    assert 1.5 < record["mean"][-1] < 3.0


def test_folder_of_another_command_is_left_alone(folder):
    assert run("eos", "Cu.cif", "--n-volumes", 5, "--output-dir", "out", "--no-plots").exit_code == 0
    before = (folder / "out" / "Cu" / "result.json").read_bytes()
    result = run("elastic", "Cu.cif", "--output-dir", "out")
    assert result.exit_code == 1 and "holds results of `forcefield eos`" in result.stdout
    assert (folder / "out" / "Cu" / "result.json").read_bytes() == before


def test_full_disk_is_one_line_and_leaves_no_half_result(folder, monkeypatch):
    replace = os.replace

    def full(source, target):
        if str(target).endswith("result.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = run("eos", "Cu.cif", "--n-volumes", 5, "--no-plots")
    assert result.exit_code == 1 and "failed: Cu.cif: OSError: [Errno 28] No space left on device" in result.stdout
    assert "result.json" not in names(folder / "eos" / "Cu") and "forces.jsonl" in names(folder / "eos" / "Cu")
    monkeypatch.undo()
    os.chdir(folder)
    assert run("eos", "Cu.cif", "--n-volumes", 5, "--no-plots", "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("phonons", ["--method", "guess"], "method is 'guess'"),
        ("phonons", ["--supercell", 0, 1, 1], "supercell is (0, 1, 1)"),
        ("elastic", ["--strain", 2], "strains is (2.0,)"),
        ("eos", ["--shape", "round"], "shape is 'round'"),
        ("qha", ["--n-volumes", 2], "n_volumes is 2"),
        ("gruneisen", ["--relaxation", "some"], "relaxation is 'some'"),
        ("conductivity", ["--t-min", 0], "t_min is 0.0"),
        ("phonons", ["--output-dir", "Cu.cif"], "Cannot write to the output folder Cu.cif"),
        ("phonons", ["--born", "absent"], "--born is absent, but there is no such file"),
        ("phonons", ["--index", "first"], "--index is 'first'"),
        ("elastic", ["--model", "default"], "came together with --model"),
    ],
)
def test_wrong_usage_is_one_line_before_any_work(folder, command, arguments, message):
    before = names(folder)
    result = run(command, "Cu.cif", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""
    assert names(folder) - before <= {"phonons"}


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("phonons", "phonopy", "phonopy"),
        ("phonons", "seekpath", "phonopy"),
        ("qha", "phonopy", "phonopy"),
        ("gruneisen", "phonopy", "phonopy"),
        ("conductivity", "phono3py", "phono3py"),
        ("surfaces", "pymatgen", "pymatgen"),
    ],
)
def test_missing_package_names_the_extra_before_any_work(folder, monkeypatch, command, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    result = run(command, "Cu.cif", "Al.extxyz", "--no-plots")
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert f"{package} is not installed; it comes with pip install 'gnn-forcefield[{extra}]'" in result.stderr
    assert not (folder / command).exists()


def test_missing_matplotlib_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("eos", "Cu.cif")
    assert result.exit_code == 2 and "gnn-forcefield[plot]" in result.stderr and "--no-plots" in result.stderr
