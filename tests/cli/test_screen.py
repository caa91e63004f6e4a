"""`forcefield screen`: files in, one table out, resumable."""

from __future__ import annotations

import csv
import json

import pytest
from ase.build import bulk, fcc111
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

EMT = ("--calculator", "ase.calculators.emt:EMT")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of structures, made the current one: two files, a trajectory below, and one that is no structure."""
    inputs = tmp_path / "inputs"
    (inputs / "below").mkdir(parents=True)
    write(inputs / "Cu.cif", bulk("Cu"))
    write(inputs / "W.extxyz", bulk("W"))
    write(inputs / "below" / "many.extxyz", [bulk("Au"), bulk("Ag"), bulk("Pt")])
    (inputs / "notes.cif").write_text("no crystal")
    (inputs / ".hidden").write_text("not looked at")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["screen", *map(str, arguments), *EMT])


def test_folder_becomes_a_table_and_goes_on(folder):
    first = run("inputs", "--task", "predict")
    assert first.exit_code == 1 and "6 of 6 done; 4 without objection, 2 failed" in first.stdout
    with open(folder / "screening" / "results.csv", newline="") as stream:
        rows = {row["structure"]: row for row in csv.DictReader(stream)}
    assert list(rows) == [
        *("inputs/Cu.cif", "inputs/W.extxyz", "inputs/notes.cif"),
        *(f"inputs/below/many.extxyz #{k}" for k in range(3)),
    ]
    assert rows["inputs/Cu.cif"]["verdict"] == "computed" and "ASE cannot read it" in rows["inputs/notes.cif"]["error"]
    assert [str(atoms.symbols) for atoms in read(folder / "screening" / "structures.extxyz", ":")] == [
        *("Cu", "Au", "Ag", "Pt")
    ]
    again = run("inputs", "--task", "predict", "--resume", "--workers", 2)
    assert "5 of them before" in again.stdout and again.exit_code == 1
    assert run("inputs/Cu.cif", "--task", "predict", "--resume", "--retry-failed").exit_code == 0


def test_options_of_the_task_and_json(folder):
    done = run("inputs/Cu.cif", "--set", "fmax=0.05", "--set", "smax=1.0", "--set", "optimizer=LBFGS", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["verdict"] == "converged" and row["formula"] == "Cu"
    other = run("inputs/Cu.cif", "--set", "fmax=0.01", "--resume")
    assert other.exit_code == 2 and "another screening" in other.stderr


def test_records_of_before_are_put_aside_without_resume(folder):
    assert run("inputs/Cu.cif", "--task", "predict").exit_code == 0
    journal = folder / "screening" / "screening.jsonl"
    before = journal.read_bytes()
    anew = run("inputs/below", "--task", "predict")
    assert "screening.jsonl.before keeps the records" in anew.stderr and "--resume" in anew.stderr
    assert journal.with_name("screening.jsonl.before").read_bytes() == before != journal.read_bytes()


def test_vacuum_in_a_periodic_cell_keeps_it(folder):
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0, periodic=True)
    slab.info.clear()
    write("slab.extxyz", slab)
    done = run("slab.extxyz", "inputs/Cu.cif", "--set", "fmax=0.05", "--set", "smax=1.0", "--json")
    assert done.exit_code == 0, done.output
    slab, copper = json.loads(done.stdout)
    assert slab["volume_change"] == 0.0 and slab["note"].startswith("a vacuum of 10.0 Å along c, as of a slab")
    assert copper["note"] is None
    assert "slab.extxyz: converged (a vacuum of 10.0 Å along c" in done.stderr
    asked = run("slab.extxyz", "--set", "cell=true", "--set", "fmax=0.05", "--set", "smax=1.0", "--json")
    (slab,) = json.loads(asked.stdout)
    assert slab["volume_change"] != 0.0 and slab["note"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inputs", "--task", "relaxing"), "did you mean 'relax'"),
        (("inputs", "--task", "nowhere:task"), "--task nowhere:task: the module nowhere"),
        (("inputs", "--set", "fmax"), "must be KEY=VALUE"),
        (("inputs", "--set", "fmx=1"), "no option 'fmx'"),
        (("empty",), "holds no files"),
    ],
)
def test_wrong_use_is_one_line(folder, arguments, message):
    (folder / "empty").mkdir()
    done = run(*arguments)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
