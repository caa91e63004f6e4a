"""`forcefield run`: recipes checked before the work, steps chained, what is done skipped; with ASE's EMT."""

from __future__ import annotations

import json

import pytest
from ase.build import bulk, fcc111
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app

pytest.importorskip("matplotlib")

RECIPE = """
structures: [metals/*.extxyz]
output_dir: study
calculator: ase.calculators.emt:EMT
steps:
  - relax: {fmax: 0.001, symmetry: true}
  - eos: {n_volumes: 5, relaxation: none, plots: true}
  - elastic: {relaxation: none, plots: false}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with a recipe and structures."""
    (tmp_path / "metals").mkdir()
    write(tmp_path / "metals" / "Cu.extxyz", bulk("Cu", a=3.7))
    write(tmp_path / "metals" / "Al.extxyz", bulk("Al", a=4.1))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def change(folder, old, new):
    text = (folder / "recipe.yaml").read_text()
    assert old in text
    (folder / "recipe.yaml").write_text(text.replace(old, new))


def test_steps_follow_each_other_and_are_skipped_when_done(folder):
    result = run("recipe.yaml")
    assert result.exit_code == 0, result.output
    relaxed = read(folder / "study" / "1_relax" / "Cu" / "relaxed" / "Cu.extxyz")
    assert relaxed.cell.lengths()[0] * 2**0.5 == pytest.approx(3.590, abs=2e-3)  # EMT's copper
    record = json.loads((folder / "study" / "2_eos" / "Cu" / "result.json").read_text())
    assert record["equilibrium_volume"] == pytest.approx(relaxed.get_volume(), rel=1e-3)
    assert (folder / "study" / "3_elastic" / "Al" / "result.json").exists()
    page = (folder / "study" / "report.html").read_text()
    assert page.count("data:image/png") == 2 and page.count("elastic") >= 2
    assert result.stdout.count("complete") + result.stdout.count("converged") >= 2
    again = run("recipe.yaml")
    assert again.exit_code == 0 and again.stderr.count("done before") == 6


def test_vacuum_in_a_periodic_cell_keeps_it(folder):
    slab = fcc111("Cu", (1, 1, 3), vacuum=5.0, periodic=True)
    slab.info.clear()
    write(folder / "metals" / "slab.extxyz", slab)
    change(folder, RECIPE[RECIPE.index("  - eos") :], "")
    change(folder, ", symmetry: true", "")
    result = run("recipe.yaml")
    assert result.exit_code == 0, result.output
    assert "a vacuum of 10.0 Å along c, as of a slab: atoms relaxed, cell kept" in result.stderr
    record = json.loads((folder / "study" / "1_relax" / "slab" / "result.json").read_text())
    assert record["volume_change"] == 0.0 and len(record["warnings"]) == 1


def test_changed_step_is_done_again_and_the_others_are_not(folder):
    change(folder, "  - elastic: {relaxation: none, plots: false}\n", "")
    assert run("recipe.yaml").exit_code == 0
    change(folder, "n_volumes: 5", "n_volumes: 7")
    assert run("recipe.yaml").stderr.count("done before") == 2


def test_structure_that_does_not_converge_goes_no_further(folder):
    write(folder / "metals" / "Ni.extxyz", bulk("Ni", a=3.9))
    write(folder / "metals" / "W.extxyz", bulk("W"))  # unknown to EMT
    change(folder, "fmax: 0.001", "fmax: 0.001, steps: 1")
    result = run("recipe.yaml")
    assert result.exit_code == 1 and "W" in result.stdout
    assert not (folder / "study" / "2_eos" / "Ni").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("structures:", "structure:", "needs the entries structures and steps"),
        ("output_dir:", "outputdir:", "output_dir"),
        ("- eos", "- eoss", "eos"),
        ("n_volumes", "n_volume", "--n-volumes"),
        ("n_volumes: 5", "n_volumes: five", "eos"),
        ("n_volumes: 5", "n_volumes: 5, equation: murnagan", "equation"),
        ("metals/*", "minerals/*", "minerals"),
        ("fmax: 0.001", "fmax: -1", "fmax"),
        ("ase.calculators.emt:EMT", "ase.calculators.emt:EMTS", "EMTS"),
        ("  - relax: {", "  - relax: {{", "YAML"),
    ],
)
def test_errors_come_before_any_work(folder, old, new, said):
    change(folder, old, new)
    result = run("recipe.yaml")
    assert result.exit_code == 2, result.output
    assert said in result.stderr and not (folder / "study").exists()


def test_step_may_come_twice(folder):
    change(folder, "  - elastic: {relaxation: none, plots: false}\n", "  - eos: {n_volumes: 7, plots: false}\n")
    result = run("recipe.yaml")
    assert result.exit_code == 0, result.output
    assert "2_eos" in result.stdout and "3_eos" in result.stdout
    assert (
        json.loads((folder / "study" / "3_eos" / "Al" / "result.json").read_text())["identity"]["options"]["n_volumes"]
        == 7
    )


def test_processes_and_another_folder(folder):
    change(folder, "steps:\n", "workers: 2\nsteps:\n")
    result = run("recipe.yaml", "--output-dir", "elsewhere")
    assert result.exit_code == 0, result.output
    assert (folder / "elsewhere" / "3_elastic" / "Cu" / "result.json").exists()
