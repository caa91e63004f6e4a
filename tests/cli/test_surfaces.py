"""`forcefield surfaces` and `forcefield adsorption` from the command line, with ASE's EMT potential."""

from __future__ import annotations

import csv
import json

import pytest
from ase.build import bulk, fcc111, molecule
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("pymatgen")
pytest.importorskip("matplotlib")

EMT = "ase.calculators.emt:EMT"
QUICK = ("--miller", "1,0,0", "--min-slab", 5, "--relaxation", "none", "--fmax", 0.05)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures in it."""
    write(tmp_path / "Cu.cif", bulk("Cu", cubic=True, a=3.59))
    write(tmp_path / "CO.xyz", molecule("CO"))
    slab = fcc111("Cu", (1, 1, 3), a=3.59, vacuum=8.0)
    slab.info.clear()
    write(tmp_path / "slab.extxyz", slab)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, *arguments):
    words = [command, "--calculator", EMT, *[str(argument) for argument in arguments]]
    return CliRunner().invoke(app, words)


def test_surfaces_fill_a_folder(folder):
    result = run("surfaces", "Cu.cif", *QUICK)
    assert result.exit_code == 0, result.output
    path = folder / "surfaces" / "Cu"
    assert {entry.name for entry in path.iterdir()} == {"result.json", "surfaces.csv", "slabs.extxyz", "wulff.png"}
    record = json.loads((path / "result.json").read_text())
    (row,) = csv.DictReader((path / "surfaces.csv").read_text().splitlines())
    assert row["miller"] == "1 0 0" and row["verdict"] == "relaxed" and row["polar"] == ""
    assert float(row["energy_J_per_m2"]) == pytest.approx(record["surfaces"][0]["energy_joule_per_m2"], abs=1e-6)
    assert record["wulff"]["shape_factor"] == pytest.approx(6.0) and record["options"]["miller"] == [[1, 0, 0]]
    (slab,) = read(path / "slabs.extxyz", ":")
    assert slab.info["surface"] == "(1 0 0) cut 0" and slab.pbc.tolist() == [True, True, False]
    assert "(1 0 0)" in result.stdout and "1 of 1 without objection" in result.stdout
    again = run("surfaces", "Cu.cif", *QUICK, "--resume")
    assert again.exit_code == 0 and "done before, complete" in again.stderr


def test_surface_that_does_not_converge_is_status_one(folder):
    result = run("surfaces", "Cu.cif", "--miller", "1,1,0", *QUICK[2:-1], 1e-6, "--steps", 1, "--no-plots")
    assert result.exit_code == 1 and "some surfaces have no energy" in result.stdout
    assert "no Wulff shape" in result.stderr


def test_molecule_fails_alone_and_wrong_options_at_once(folder):
    result = run("surfaces", "CO.xyz", "Cu.cif", *QUICK, "--no-plots")
    assert result.exit_code == 1 and "failed: CO.xyz: surfaces need a crystal" in result.stdout
    assert "1 of 2 without objection" in result.stdout
    for wrong in (("--miller", "1,1"), ("--max-index", 0), ("--min-slab", 0)):
        refused = run("surfaces", "Cu.cif", *wrong)
        assert refused.exit_code == 2 and refused.stderr.startswith("Error: ") and refused.stderr.count("\n") == 1


def test_adsorption_writes_what_was_tried(folder):
    options = ("--molecule", "O", "--site", "hollow", "--min-width", 2)
    result = run("adsorption", "slab.extxyz", *options)
    assert result.exit_code == 0, result.output
    path = folder / "adsorption" / "slab"
    assert {entry.name for entry in path.iterdir()} == {"result.json", "adsorbates.extxyz"}
    record = json.loads((path / "result.json").read_text())
    tried = read(path / "adsorbates.extxyz", ":")
    assert len(tried) == len(record["adsorbates"]) == 2 and record["adsorption_energy"] < -1.0
    apart = record["slab_energy"] + record["molecule_energy"]
    assert tried[0].get_potential_energy() - apart == pytest.approx(record["adsorption_energy"], abs=1e-6)
    write("gas.xyz", molecule("O"))
    same = run("adsorption", "slab.extxyz", "--molecule", "gas.xyz", *options[2:], "--resume")
    assert same.exit_code == 0 and "done before, adsorbed" in same.stderr


def test_adsorption_refuses_what_is_no_slab_or_molecule(folder):
    crystal = run("adsorption", "Cu.cif", "--molecule", "O")
    assert crystal.exit_code == 1 and "failed: Cu.cif: adsorption needs a slab with vacuum" in crystal.stdout
    unknown = run("adsorption", "slab.extxyz", "--molecule", "unobtainium")
    assert unknown.exit_code == 2 and "No molecule is called 'unobtainium'" in unknown.stderr
