"""`forcefield evaluate` with a tiny model and with ASE's EMT."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT as EMTCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.data.readers import read_frames
from forcefield.data.store import write_store

EMT = "ase.calculators.emt:EMT"
SHIFT = 1.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Copper crystals with EMT's labels, the energies too low by `SHIFT` an atom, and forces too large by a tenth."""
    frames = []
    for k in range(6):
        atoms = bulk("Cu", a=3.7, cubic=True).repeat((1 + k % 2, 1, 1))
        atoms.rattle(0.1, seed=k)
        atoms.calc = EMTCalculator()
        labels = {"energy": atoms.get_potential_energy() - SHIFT * len(atoms), "forces": 1.1 * atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels, stress=np.zeros(6))
        atoms.info["kind"] = ("small", "large")[k % 2]
        frames.append(atoms)
    write(tmp_path / "copper.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_stress_in_the_order_of_vasp_is_noticed_and_can_be_given(tmp_path, monkeypatch):
    """Labels are EMT's, doubts come from the shipped model, for which these crystals are new."""
    monkeypatch.chdir(tmp_path)
    frames = []
    for k in range(8):
        atoms = bulk("Cu", a=3.6, cubic=True)
        strain = 0.04 * np.random.default_rng(k).normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        atoms.calc = EMTCalculator()
        stress, forces = atoms.get_stress()[[0, 1, 2, 5, 3, 4]], atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=forces, stress=stress)
        frames.append(atoms)
    write("vasp.extxyz", frames)
    result = run("mp-0", "vasp.extxyz", "-o", "errors.json")
    assert result.exit_code == 0, result.output
    assert "doubtful labels: stress: components seem to be in the order xx yy zz xy yz xz" in result.stdout
    assert len(json.loads((tmp_path / "errors.json").read_text())["doubts"]) == 1
    for order in ("vasp", "xx yy zz xy yz zx"):
        result = run("mp-0", "vasp.extxyz", "--stress-order", order, "--json")
        assert json.loads(result.stdout)["doubts"] == []
    result = run("mp-0", "vasp.extxyz", "--stress-order", "abinit")
    assert result.exit_code == 2 and "must be ase, vasp, lammps, or the six components" in result.output


def test_calculator_against_known_differences(folder):
    result = run("--calculator", EMT, "copper.extxyz", "-o", "new/errors.json")
    assert result.exit_code == 0, result.output
    report = json.loads((folder / "new" / "errors.json").read_text())
    assert report["all"]["energy"]["mae"] == pytest.approx(SHIFT)
    assert report["all"]["forces"]["slope"] == pytest.approx(1 / 1.1)
    assert report["all"]["forces"]["cosine"] == pytest.approx(1.0)
    forces = np.vstack([atoms.get_forces() for atoms in read("copper.extxyz", ":")])
    assert report["all"]["forces"]["mae"] == pytest.approx(np.abs(forces / 11).mean(), rel=1e-5)
    assert report["units"]["stress"] == "GPa" and report["failed"] == [] and report["model"] == EMT
    assert (report["by_kind"]["small"]["frames"], report["by_kind"]["large"]["atoms"]) == (3, 24)
    assert report["data"] == ["copper.extxyz"] and report["shifts"] is None
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "property"
    assert f"{1000 * SHIFT:.2f}" in next(line for line in lines if line.startswith("energy"))
    assert lines[-1].startswith("6 frames, 36 atoms in ") and lines[-1].endswith("0 failed")


def test_shifted_elements_are_reported_as_such(folder):
    result = run("--calculator", EMT, "copper.extxyz", "--shift-elements", "--json")
    report = json.loads(result.stdout)
    assert report["shifts"] == {"Cu": pytest.approx(-SHIFT)} and report["all"]["energy"]["mae"] < 1e-7
    table = run("--calculator", EMT, "copper.extxyz", "--shift-elements").stdout
    assert "element energies were refitted to these labels before comparing (eV): Cu -1.500" in table


def test_model_on_file_and_store_agree(folder, tiny_model):
    write_store("store", read_frames("copper.extxyz"), 4.0)
    reports = []
    for data in ("copper.extxyz", "store"):
        result = run(tiny_model, data, "--json", "--dtype", "float64", "--device", "cpu", "--max-edges", "500")
        assert result.exit_code == 0, result.output
        reports.append(json.loads(result.stdout))
    for name in ("energy", "forces", "stress"):
        assert reports[0]["all"][name] == pytest.approx(reports[1]["all"][name], rel=1e-5)
    assert reports[0]["atoms_per_second"] > 0
    together = json.loads(run(tiny_model, "copper.extxyz", "store", "--json", "--limit", "7", "--seed", "3").stdout)
    assert together["all"]["frames"] == 7
    last = json.loads(run(tiny_model, "copper.extxyz", "--json", "--index", "-1").stdout)
    assert last["all"]["atoms"] == 8 and last["worst"]["energy"][0]["frame"] == "copper.extxyz #5"


def test_plots(folder):
    pytest.importorskip("matplotlib")
    result = run("--calculator", EMT, "copper.extxyz", "--plots", "pictures", "--json")
    report = json.loads(result.stdout)
    assert [path.split("/")[-1] for path in report["plots"]] == [
        "parity_energy.png",
        "parity_forces.png",
        "parity_stress.png",
        "parity.png",
    ]
    for path in report["plots"]:
        assert (folder / path).read_bytes()[:4] == b"\x89PNG"


def test_frames_that_fail_are_reported_and_the_rest_counts(folder):
    frames = read("copper.extxyz", ":")
    frames[1].symbols[0] = "U"
    write("mixed.extxyz", frames)
    result = run("--calculator", EMT, "mixed.extxyz")
    assert result.exit_code == 1
    assert "1 failed" in result.stdout and "failed: mixed.extxyz #1: NotImplementedError: No EMT" in result.stdout
    assert "5 frames" in result.stdout


def test_other_keys_and_units(folder):
    frames = read("copper.extxyz", ":")
    for atoms in frames:
        atoms.info["my_total"] = 1000 * (atoms.get_potential_energy() + SHIFT * len(atoms))
        atoms.calc = None
    write("other.extxyz", frames)
    arguments = ("--keys", "energy=my_total", "--units", "energy=meV", "--json")
    report = json.loads(run("--calculator", EMT, "other.extxyz", *arguments).stdout)
    assert report["all"]["energy"]["mae"] < 1e-7 and "forces" not in report["all"]
    assert "no label to compare with" in run("--calculator", EMT, "other.extxyz").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copper.extxyz"], "give a MODEL and DATA"),
        (["no-such-model", "copper.extxyz"], "there is no model 'no-such-model'"),
        (["--calculator", "ase:Nothing", "copper.extxyz"], "has no class or function Nothing"),
        (["--calculator", EMT, "missing.extxyz"], "missing.extxyz"),
        (["--calculator", EMT, "copper.extxyz", "--index", "x"], "--index is 'x'"),
        (["--calculator", EMT, "copper.extxyz", "--index", "99"], "no frame to compare"),
        (["--calculator", EMT, "copper.extxyz", "--limit", "0"], "limit is 0"),
        (["--calculator", EMT, "copper.extxyz", "--keys", "energy"], "must be LABEL=VALUE"),
        (["--calculator", EMT, "copper.extxyz", "--device", "cpu"], "--calculator came together with --device"),
    ],
)
def test_wrong_usage_is_one_line(folder, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
