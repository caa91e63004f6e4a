"""The command line as a whole: help, version, models and self-test."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import forcefield
from forcefield.cli import app

EMT = "ase.calculators.emt:EMT"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_import_loads_neither_torch_nor_ase():
    code = (
        "import sys, forcefield.cli; print([name for name in ('torch', 'ase', 'numpy', 'e3nn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["predict", "relax", "models", "selftest"])
def test_help_names_the_options(command):
    assert command in run("--help").stdout
    result = run(command, "-h")
    assert result.exit_code == 0 and "--json" in result.stdout


def test_help_of_relax():
    text = run("relax", "--help").stdout
    for option in ("--cell", "--fixed-cell", "--fmax", "--steps", "--optimizer", "--pressure", "--symmetry"):
        assert option in text


def test_version():
    assert run("--version").stdout == f"forcefield {forcefield.__version__}\n"


def test_without_a_command_there_is_help():
    result = run()
    assert "relax" in result.output and result.exit_code == 2


def test_selftest_prints_each_check():
    result = run("selftest", "--calculator", EMT, "--only", "translation", "--only", "forces: molecule")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line[:4] for line in lines[:2]] == ["pass", "pass"] and lines[2] == "2 passed, 0 failed, 0 skipped"


def test_selftest_does_not_warn_of_its_own_structures():
    result = run("selftest", "--only", "far fragments")  # warnings are errors in tests
    assert result.exit_code == 0 and "1 passed, 0 failed" in result.stdout and "outside" not in result.output


def test_selftest_fails_with_the_calculator():
    # EMT's cutoff is a step of a Fermi function, which the check of smoothness finds.
    result = run("selftest", "--calculator", EMT, "--only", "smooth: dimer", "--json")
    assert result.exit_code == 1
    (check,) = json.loads(result.stdout)
    assert check["name"] == "smooth: dimer" and check["passed"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "magic"], "unknown checks"),
        (["--limits", "float16"], "float16"),
        (["--elements", "U"], "no test structure"),
    ],
)
def test_selftest_refuses_in_one_line(options, message):
    result = run("selftest", "--calculator", EMT, *options)
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.output


def card(name, **more):
    return {
        "name": name,
        "default": False,
        "network": "density",
        "parameters": 123456,
        "elements": ["H", "O"],
        "cutoff": 5.0,
        "licence": "MIT",
        "training": {"minutes": 90.0},
        "validation": {"errors": {"all": {"energy_mae": 0.0312, "forces_mae": 0.0921, "stress_mae": 0.006241509}}},
        "isolated_energies": {"H": -1.0, "O": -2.0},
        **more,
    }


def test_models_shows_the_figures_of_the_card(monkeypatch):
    monkeypatch.setattr(
        "forcefield.models.list_models", lambda: [card("alpha", default=True), card("beta", cutoff=6.0)]
    )
    text = run("models").stdout
    assert "alpha *" in text and "123,456" in text and "6" in text
    assert "H O" in text
    figures = next(line for line in text.splitlines() if line.startswith("alpha")).split()
    assert figures[-5:] == ["1.5", "31", "92", "1.00", "MIT"]  # hours, meV/atom, meV/Å, GPa
    assert [model["name"] for model in json.loads(run("models", "--json").stdout)] == ["alpha", "beta"]


@pytest.mark.parametrize("as_name", [True, False])
def test_models_shows_all_of_one_by_name_or_folder(tiny_model, monkeypatch, as_name):
    monkeypatch.setattr("forcefield.models.models_folder", lambda: tiny_model.parent)
    one = run("models", tiny_model.name if as_name else str(tiny_model)).stdout
    assert one.count("9 elements: H C O Na Mg Al Si Cl Cu") == 1
    assert "  hyperparameters, cutoff: 4" in one and "isolated" not in one


def test_models_without_any(monkeypatch, tmp_path):
    monkeypatch.setattr("forcefield.models.models_folder", lambda: tmp_path)
    result = run("models")
    assert result.exit_code == 2 and "no model is installed" in result.stderr
    result = run("models", "gamma")
    assert result.exit_code == 2 and "no model 'gamma'" in result.stderr
