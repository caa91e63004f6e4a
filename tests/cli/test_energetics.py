"""`forcefield energetics` from the command line, with ASE's EMT potential."""

from __future__ import annotations

import json

import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("pymatgen")

EMT = "ase.calculators.emt:EMT"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures in it."""
    sites = [(0, 0, 0), (0.5, 0.5, 0.5)]
    write(tmp_path / "CuAu.cif", Atoms("CuAu", scaled_positions=sites, cell=[2.8, 2.8, 3.7], pbc=True))
    write(tmp_path / "B2.cif", Atoms("CuAu", scaled_positions=sites, cell=[3.1] * 3, pbc=True))
    write(tmp_path / "Fe.cif", bulk("Fe"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["energetics", "--calculator", EMT, *[str(argument) for argument in arguments]])


def test_energies_and_hull_of_several_files(folder):
    result = run("CuAu.cif", "B2.cif", "Fe.cif", "--hull")
    assert result.exit_code == 1 and "failed: Fe.cif: " in result.stdout  # the others are there nevertheless
    record = json.loads((folder / "energetics" / "CuAu" / "result.json").read_text())
    assert record["verdict"] == "stable against the elements"
    points = {point["name"]: point for point in json.loads((folder / "energetics" / "hull.json").read_text())}
    assert set(points) == {"CuAu.cif", "B2.cif", "Cu (fcc)", "Au (fcc)"}
    assert points["CuAu.cif"]["stable"] and points["CuAu.cif"]["above_hull"] == 0.0
    assert points["CuAu.cif"]["formation_energy"] == pytest.approx(record["formation_energy"])
    assert points["B2.cif"]["decomposition"] == {"CuAu.cif": pytest.approx(1.0)}
    assert "100 % CuAu.cif" in result.stdout
    again = run("CuAu.cif", "B2.cif", "--hull", "--resume")
    assert again.exit_code == 0 and again.stderr.count("done before") == 2 and "100 % CuAu.cif" in again.stdout


def test_json_is_only_json(folder):
    result = run("CuAu.cif", "--reference", "Cu=0", "--reference", "Au=0", "--json", "--hull")
    (record,) = json.loads(result.stdout)
    assert record["formation_energy"] == pytest.approx(record["energy_per_atom"])
    assert (folder / "energetics" / "hull.json").exists()


def test_wrong_usage_is_one_line(folder):
    for wrong in (("--reference", "Cu"), ("--relaxation", "all"), ("--fmax", 0)):
        result = run("CuAu.cif", *wrong)
        assert result.exit_code == 2 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
