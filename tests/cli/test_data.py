"""`forcefield data build` and `inspect` as a user calls them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.data.store import FrameStore


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    """Twenty strained crystals of four elements with EMT's labels under other names, stress in GPa."""
    rng = np.random.default_rng(0)
    structures = []
    for element in ("Cu", "Ag", "Au", "Al"):
        for _ in range(5):
            atoms = bulk(element, cubic=True)
            atoms.set_cell(atoms.cell.array * (1 + 0.005 * rng.normal()), scale_atoms=True)
            atoms.calc = EMT()
            xx, yy, zz, yz, xz, xy = atoms.get_stress() / 0.006241509
            atoms.info["REF_energy"] = atoms.get_potential_energy()
            atoms.info["REF_stress"] = np.array([xx, xy, xz, xy, yy, yz, xz, yz, zz])
            atoms.arrays["REF_forces"] = atoms.get_forces()
            atoms.calc = None
            structures.append(atoms)
    write(tmp_path / "data.extxyz", structures)
    return tmp_path / "data.extxyz"


def test_build_makes_a_pair_and_says_what_it_found(file, tmp_path):
    result = run("build", file, "--output", tmp_path / "pair", "--validation", 0.4, "--units", "stress=GPa")
    assert result.exit_code == 0, result.output
    assert "REF_energy" in result.stdout and "GPa" in result.stdout and "pair/validation" in result.stdout
    stores = [FrameStore(tmp_path / "pair" / part) for part in ("train", "validation")]
    assert sum(map(len, stores)) == 20 and all(len(store) % 5 == 0 for store in stores)
    assert not set(stores[0].materials) & set(stores[1].materials)
    again = run("build", file, "--output", tmp_path / "pair")
    assert again.exit_code == 2 and "exists; give a new folder" in again.stderr


def test_build_as_json_and_with_a_named_key(file, tmp_path):
    result = run("build", file, "-o", tmp_path / "one", "--keys", "energy=other", "--cutoff", 4, "--json")
    report = json.loads(result.stdout)
    assert report["frames"] == [20] and report["labelled"]["energy"] == 0 and report["labelled"]["forces"] == 20
    assert FrameStore(tmp_path / "one").cutoff == 4


def test_broken_frames_are_named(file, tmp_path):
    bad = bulk("Cu")
    bad.calc = SinglePointCalculator(bad, energy=np.nan)
    write(tmp_path / "bad.traj", [bulk("Cu"), bad])
    result = run("build", tmp_path / "bad.traj", "-o", tmp_path / "store")
    assert result.exit_code == 2 and "bad.traj #1: energy holds 1 NaN" in result.stderr
    assert not (tmp_path / "store").exists()
    result = run("build", tmp_path / "bad.traj", "-o", tmp_path / "store", "--skip-bad")
    assert result.exit_code == 0 and "1 broken frame was left out" in result.stdout


def test_inspect_prints_tables_and_the_verdict(file):
    result = run("inspect", file)
    assert result.exit_code == 0, result.output
    assert "sign agrees with the energies; size is off: the numbers look like GPa" in result.stdout
    assert "REF_forces (eV/Å) 20" in result.stdout and "energy per atom after element fit" in result.stdout
    assert "size is right" in run("inspect", file, "--units", "stress=GPa").stdout
    assert "OPPOSITE" in run("inspect", file, "--units", "stress=-GPa").stdout


def test_inspect_as_json_of_file_and_store(file, tmp_path):
    run("build", file, "-o", tmp_path / "store", "--units", "stress=GPa")
    report = json.loads(run("inspect", tmp_path / "store", file, "--json").stdout)
    assert report["frames"] == 40 and report["duplicates"]["frames"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keys", "energy"], "--keys is 'energy', but must be LABEL=VALUE"),
        (["--keys", "speed=v"], "must be one of energy"),
        (["--units", "stress=psi"], "'psi' is no unit for stress"),
        (["--units", "kind=eV"], "units has the label 'kind'"),
        (["--format", "compact"], "data.extxyz"),
    ],
)
def test_wrong_options_are_one_line(file, options, message):
    result = run("inspect", file, *options)
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1


def test_missing_file_is_one_line(tmp_path):
    result = run("inspect", tmp_path / "none.xyz")
    assert result.exit_code == 2 and "none.xyz: no such file" in result.stderr
