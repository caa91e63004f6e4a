"""`forcefield predict` with ASE's EMT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT as EMTCalculator
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.units import GPA

EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rattled = bulk("Au", cubic=True)
    rattled.rattle(0.1, seed=1)
    write(tmp_path / "two.extxyz", [bulk("Cu", a=3.7, cubic=True), rattled])
    write(tmp_path / "CO.xyz", molecule("CO"))
    write(tmp_path / "NaCl.cif", bulk("NaCl", "rocksalt", a=5.64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["predict", "--calculator", EMT, *arguments])


def expected(path, index=0):
    atoms = read(path, index)
    atoms.calc = EMTCalculator()
    return atoms


def test_table(folder):
    result = run("two.extxyz", "CO.xyz")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["structure", "formula", "atoms"]
    assert f"{expected('two.extxyz').get_potential_energy():.4f}" in lines[1]
    assert lines[3].split()[-1] == "-"  # no pressure for a molecule
    assert lines[-1] == "3 of 3 computed"


def test_json_holds_everything(folder):
    result = run("two.extxyz", "CO.xyz", "--json")
    crystal, rattled, carbon_monoxide = json.loads(result.stdout)
    reference = expected("two.extxyz", 1)
    assert rattled["energy"] == pytest.approx(reference.get_potential_energy())
    assert rattled["energy_per_atom"] == pytest.approx(reference.get_potential_energy() / 4)
    np.testing.assert_allclose(rattled["forces"], reference.get_forces(), atol=1e-10)
    np.testing.assert_allclose(rattled["stress"], reference.get_stress() / GPA, atol=1e-10)
    assert rattled["pressure"] == pytest.approx(-np.mean(rattled["stress"][:3]))
    assert carbon_monoxide["stress"] is None and carbon_monoxide["pressure"] is None
    assert (crystal["source"], crystal["frame"], rattled["frame"]) == ("two.extxyz", 0, 1)


@pytest.mark.parametrize("name", ["out.extxyz", "out.xyz", "out.traj"])
def test_structures_are_written_with_results(folder, name):
    assert run("two.extxyz", "CO.xyz", "--output", name).exit_code == 0
    frames = read(name, ":")
    assert len(frames) == 3
    reference = expected("two.extxyz", 1)
    assert frames[1].get_potential_energy() == pytest.approx(reference.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(frames[1].get_forces(), reference.get_forces(), atol=1e-7)
    np.testing.assert_allclose(frames[1].get_stress(), reference.get_stress(), atol=1e-7)


def test_json_file(folder):
    assert run("CO.xyz", "-o", "out.json").exit_code == 0
    (record,) = json.loads((folder / "out.json").read_text())
    assert record["formula"] == "CO" and record["n_atoms"] == 2


def test_one_frame(folder):
    result = run("two.extxyz", "--index", "1", "--json")
    assert [record["frame"] for record in json.loads(result.stdout)] == [1]


def test_failures_do_not_stop_the_others(folder):
    result = run("NaCl.cif", "missing.cif", "CO.xyz", "--output", "out.extxyz")
    assert result.exit_code == 1
    assert len(read("out.extxyz", ":")) == 1
    assert "1 of 3 computed" in result.stdout and "failed: missing.cif: no such file." in result.stdout
    assert "Traceback" not in result.output


def test_non_finite_results_are_a_failure(folder, monkeypatch):
    def broken(self, *args, **kwargs):
        self.results = {"energy": float("nan"), "forces": np.zeros((2, 3))}

    monkeypatch.setattr(EMTCalculator, "calculate", broken)
    result = run("CO.xyz")
    assert result.exit_code == 1 and "energy that is not finite" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out.docx"], "must end in .extxyz"),
        (["--output", "no/such/folder/out.json"], "Cannot write to"),
        (["--index", "all"], "--index is 'all'"),
    ],
)
def test_wrong_usage_is_one_line(folder, arguments, message):
    result = run("CO.xyz", *arguments)
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_interruption_keeps_what_was_done(folder, monkeypatch):
    calculate, calls = EMTCalculator.calculate, []

    def stop_at_second(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        calculate(self, *args, **kwargs)

    monkeypatch.setattr(EMTCalculator, "calculate", stop_at_second)
    result = run("two.extxyz", "CO.xyz", "--output", "out.json")
    assert result.exit_code == 130
    assert len(json.loads((folder / "out.json").read_text())) == 1


def test_processes_give_what_one_process_gives(folder):
    write(folder / "Al.extxyz", bulk("Al"))
    files = ("two.extxyz", "missing.cif", "CO.xyz", "NaCl.cif", "Al.extxyz")
    one = run(*files, "--output", "one.extxyz")
    many = run(*files, "--output", "many.extxyz", "--workers", "2")
    assert one.exit_code == many.exit_code == 1  # the missing file, and sodium
    assert one.stdout == many.stdout and "missing.cif: no such file." in many.stdout
    assert (folder / "one.extxyz").read_text() == (folder / "many.extxyz").read_text()
    assert [len(atoms) for atoms in read("many.extxyz", ":")] == [4, 4, 2, 1]
    assert json.loads(run(*files, "--json").stdout) == json.loads(run(*files, "--json", "--workers", "2").stdout)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_full_disk_fails_each_structure_in_a_line(folder, workers):
    (folder / "out.extxyz").symlink_to("/dev/full")
    result = run("two.extxyz", "--output", "out.extxyz", "--workers", workers)
    assert result.exit_code == 1 and "0 of 2 computed" in result.stdout, result.output
    assert result.stdout.count("No space left on device") == 2 and "Traceback" not in result.output
