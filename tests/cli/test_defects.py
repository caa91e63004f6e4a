"""`forcefield defects` from the command line, with ASE's EMT potential."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk, molecule
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

EMT = "ase.calculators.emt:EMT"
QUICK = ("--supercell", 2, 2, 2, "--relaxation", "none", "--fmax", 0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures in it."""
    write(tmp_path / "Cu.cif", bulk("Cu", cubic=True, a=3.59))
    write(tmp_path / "CO.xyz", molecule("CO"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    words = ["defects", "--calculator", EMT, *[str(argument) for argument in arguments]]
    return CliRunner().invoke(app, words)


def test_defects_fill_a_folder(folder):
    result = run("Cu.cif", "CO.xyz", *QUICK, "--substitution", "Cu=Au", "--vacancy", "Cu", "--reference", "Au=0.0")
    assert result.exit_code == 1 and "failed: CO.xyz: point defects need a crystal" in result.stdout
    path = folder / "defects" / "Cu"
    assert {entry.name for entry in path.iterdir()} == {"result.json", "defects.extxyz"}
    record = json.loads((path / "result.json").read_text())
    assert [defect["name"] for defect in record["defects"]] == ["v_Cu", "Au_Cu"] and record["ok"]
    assert record["defects"][0]["formation_energy"] == pytest.approx(1.23, abs=0.02)
    assert record["chemical_potentials"]["Au"] == 0.0
    assert [cell.info["defect"] for cell in read(path / "defects.extxyz", ":")] == ["v_Cu", "Au_Cu"]
    assert "v_Cu relaxed 1.2" in result.stderr


def test_without_a_kind_all_vacancies_are_computed_and_resumed(folder):
    first = run("Cu.cif", *QUICK)
    assert first.exit_code == 0 and "v_Cu:1.2" in first.stdout
    again = run("Cu.cif", *QUICK, "--resume")
    assert again.exit_code == 0 and "done before, complete" in again.stderr
    other = run("Cu.cif", *QUICK, "--reference", "Cu=-1.0", "--resume")
    assert "done before" not in other.stderr and "v_Cu:0.2" in other.stdout


def test_wrong_usage_is_one_line(folder):
    for wrong in (("--substitution", "Cu"), ("--reference", "Cu=high"), ("--vacancy", "copper"), ("--steps", 0)):
        result = run("Cu.cif", *wrong)
        assert result.exit_code == 2 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
