"""`forcefield relax --batch`: the same files as one by one, and a run that goes on after an interruption."""

from __future__ import annotations

import json

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.workflows.batched.many import relax_each

LOOSE = ["--fmax", "0.1", "--smax", "1", "--steps", "20"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures in it."""
    copper = bulk("Cu", a=3.7, cubic=True)
    copper.rattle(0.05, seed=1)
    write(tmp_path / "Cu.cif", copper)
    write(tmp_path / "H2O.xyz", molecule("H2O"))
    write(tmp_path / "two.traj", [bulk("Si", a=5.3), bulk("Mg", a=3.1, c=5.0)])
    write(tmp_path / "Au.cif", bulk("Au"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tiny_model):
    def invoke(*arguments, calculator=None):
        choice = ["--calculator", calculator] if calculator else ["--model", str(tiny_model), "--dtype", "float64"]
        return CliRunner().invoke(app, ["relax", *choice, *LOOSE, *map(str, arguments)])

    return invoke


def test_the_same_results_as_one_by_one(folder, run):
    files = ["Cu.cif", "H2O.xyz", "two.traj"]
    batch = run(*files, "--batch", "--max-edges", 60, "--output-dir", "batch")
    alone = run(*files, "--output-dir", "alone")
    assert batch.exit_code == alone.exit_code, batch.output
    for name in ("Cu", "H2O", "two_0000", "two_0001"):
        found, expected = (
            json.loads((folder / where / f"{name}_relax.json").read_text()) for where in ("batch", "alone")
        )
        assert found["energy"] == pytest.approx(expected["energy"], abs=1e-6)
        assert {key: found[key] for key in ("reason", "steps", "options", "source", "frame", "spacegroup_after")} == {
            key: expected[key] for key in ("reason", "steps", "options", "source", "frame", "spacegroup_after")
        }
        assert f"{name}_relax.traj" not in found["files"]
    assert read("batch/Cu_relaxed.cif").cell.lengths() == pytest.approx(read("alone/Cu_relaxed.cif").cell.lengths())


def test_vacuum_in_a_periodic_cell_keeps_it(folder, run):
    water = molecule("H2O", cell=[10.0] * 3, pbc=True)
    write("box.vasp", water, format="vasp")
    result = run("box.vasp", "Cu.cif", "--batch", "--output-dir", "out")
    assert result.stderr.count("box.vasp: warning: a vacuum of 10.0 Å along a, ") == 1
    assert "Cu.cif: warning" not in result.stderr
    box, copper = (json.loads((folder / "out" / f"{name}_relax.json").read_text()) for name in ("box", "Cu"))
    assert box["volume_change"] == 0.0 and "as of a molecule in a box: atoms relaxed" in box["warnings"][0]
    assert copper["volume_change"] != 0.0 and copper["warnings"] == []


def test_failures_do_not_stop_the_others(folder, run):
    write("flat.extxyz", Atoms("Cu", cell=[3, 3, 0], pbc=True))
    result = run("Au.cif", "missing.cif", "flat.extxyz", "H2O.xyz", "--batch")
    assert result.exit_code == 1, result.output
    assert "failed: Au.cif: Unknown to the model: Au." in result.stdout
    assert "failed: missing.cif: no such file." in result.stdout
    assert "failed: flat.extxyz: The structure is periodic along c" in result.stdout
    assert (folder / "H2O_relax.json").exists() and "Traceback" not in result.output


def test_resume_goes_on_where_an_interrupted_run_was(folder, run, monkeypatch):
    def interrupted(*arguments, **options):
        outcomes = relax_each(*arguments, **options)
        yield next(outcomes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("forcefield.workflows.batched.relax_each", interrupted)
        result = run("H2O.xyz", "Cu.cif", "--batch")
    assert result.exit_code == 130
    first = set(path.name for path in folder.glob("*_relax.json"))
    assert len(first) == 1
    result = run("H2O.xyz", "Cu.cif", "--batch", "--resume", "--json")
    assert len(json.loads(result.stdout)) == 2
    assert result.stderr.count("done before, converged") == 1
    lines = (folder / "relax_batch.jsonl").read_text().splitlines()
    assert len(lines) == 3  # the header and each structure once
    assert "energy" in json.loads(lines[1])


def test_resume_with_other_options_is_refused(folder, run):
    run("H2O.xyz", "--batch")
    result = run("H2O.xyz", "--batch", "--resume", "--optimizer", "LBFGS")
    assert result.exit_code == 2
    assert "relax_batch.jsonl holds relaxations with other settings" in result.stderr
    assert run("H2O.xyz", "--batch", "--optimizer", "LBFGS").exit_code == 0  # without --resume it starts anew


def test_options_of_a_batch_need_one(folder, run):
    result = run("H2O.xyz", "--max-edges", 100)
    assert result.exit_code == 2 and "--max-edges and --engine belong to --batch" in result.stderr


def test_any_calculator(folder, run):
    result = run("Cu.cif", "--batch", calculator="ase.calculators.emt:EMT")
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "Cu_relax.json").read_text())["converged"] is True


def test_torch_sim_gives_the_same_where_it_is_installed(folder, run):
    pytest.importorskip("forcefield.torchsim.model")
    pytest.importorskip("torch_sim")
    for engine in ("own", "torch-sim"):
        result = run("Cu.cif", "H2O.xyz", "--batch", "--engine", engine, "--output-dir", engine)
        assert "Traceback" not in result.output, result.output
    for name in ("Cu", "H2O"):
        found, expected = (
            json.loads((folder / where / f"{name}_relax.json").read_text()) for where in ("torch-sim", "own")
        )
        assert found["reason"] == expected["reason"]
        assert found["energy"] == pytest.approx(expected["energy"], abs=1e-3)


def test_engines_are_checked(folder, run):
    assert "belong to --batch" in run("H2O.xyz", "--engine", "own").output
    result = run("H2O.xyz", "--batch", "--engine", "fast")
    assert result.exit_code == 2 and "engine is 'fast', but must be one of auto, own, torch-sim" in result.output
