"""What commands say where things go wrong (see docs/outcomes.md), with ASE's EMT made to misbehave."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100
from ase.io import read, write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.cli.anharmonic import _conductivity_row
from forcefield.workflows.pieces import count_pieces

CALCULATORS = """
import warnings
import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT

class NoStress(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if "stress" in properties:
            raise PropertyNotImplementedError("none here")
        super().calculate(atoms, properties, system_changes)
        self.results.pop("stress", None)

class NotFinite(EMT):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["forces"] = self.results["forces"] * np.nan

class Warns(EMT):
    def calculate(self, *args, **kwargs):
        warnings.warn("atoms are far\\n  from home", stacklevel=2)
        super().calculate(*args, **kwargs)

class Stops(EMT):
    def calculate(self, *args, **kwargs):
        raise KeyboardInterrupt

class Counts(EMT):
    calls, stop_at = 0, None

    def calculate(self, *args, **kwargs):
        type(self).calls += 1
        if type(self).calls == type(self).stop_at:
            raise KeyboardInterrupt
        super().calculate(*args, **kwargs)

class Expands(Calculator):
    implemented_properties = ["energy", "forces", "stress"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        volume = self.atoms.get_volume()
        self.results = {"energy": -volume, "free_energy": -volume, "forces": np.zeros((len(self.atoms), 3))}
        self.results["stress"] = -np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

class LiftsHydrogen(Calculator):
    implemented_properties = ["energy", "forces"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces, energy = np.zeros((len(self.atoms), 3)), 0.0
        light = self.atoms.numbers == 1
        if light.any() and not light.all():
            height = self.atoms.positions[:, 2][light] - self.atoms.positions[:, 2][~light].max()
            energy = float((5.0 / height).sum())
            forces[light, 2] = 5.0 / height**2
            forces[np.flatnonzero(~light)[0], 2] = -forces[light, 2].sum()
        self.results = {"energy": energy, "forces": forces}

class Repels(Calculator):
    implemented_properties = ["energy", "forces"]
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        apart = self.atoms.positions[1] - self.atoms.positions[0]
        length = np.linalg.norm(apart)
        push = 5.0 * apart / length**3
        self.results = {"energy": 5.0 / length, "forces": np.array([-push, push])}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures and calculators in it."""
    rattled = bulk("Cu", a=3.6, cubic=True)
    rattled.rattle(0.05, seed=1)
    write(tmp_path / "Cu.extxyz", bulk("Cu", a=3.6))
    write(tmp_path / "rattled.extxyz", rattled)
    write(tmp_path / "pair.extxyz", Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]]))
    write(tmp_path / "turned.extxyz", Atoms("Cu2", positions=[[0, 0, 0], [0, 0.3, 2.4]]))
    slab = fcc100("Al", (2, 2, 2), vacuum=5)
    bare = slab.copy()
    bare.info.clear()
    write(tmp_path / "slab.extxyz", bare)
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info.clear()
    write(tmp_path / "here.extxyz", slab)
    slab.positions[-1] += slab.cell[0] / 2
    write(tmp_path / "there.extxyz", slab)
    (tmp_path / "bad_calculators.py").write_text(CALCULATORS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("bad_calculators", None)


def run(*arguments, calculator):
    name = calculator if ":" in calculator else f"bad_calculators:{calculator}"
    return CliRunner().invoke(app, [*map(str, arguments), "--calculator", name])


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["relax", "Cu.extxyz"], "Use cell=False"),
        (["eos", "Cu.extxyz", "--no-plots"], 'Use relaxation="positions"'),
        (["eos", "Cu.extxyz", "--no-plots", "--relaxation", "none", "--shape", "relaxed"], 'Use shape="fixed"'),
        (["md", "Cu.extxyz", "--ensemble", "npt", "--steps", "2", "--no-plots"], 'Use ensemble="nvt"'),
    ],
)
def test_calculator_without_stress_is_answered_with_the_option_that_needs_none(folder, arguments, advice):
    result = run(*arguments, calculator="NoStress")
    assert result.exit_code == 1 and "needs a stress, but NoStress gives none" in result.stdout, result.output
    assert advice in result.stdout and "Traceback" not in result.output


@pytest.mark.parametrize("arguments", [["saddle", "here.extxyz"], ["neb", "here.extxyz", "there.extxyz"]])
def test_forces_that_are_not_finite_end_a_search_at_once(folder, arguments):
    options = ["--no-relax-ends", "--no-plots"] if arguments[0] == "neb" else []
    result = run(*arguments, *options, calculator="NotFinite")
    assert result.exit_code == 1, result.output
    assert "NotFinite gave an energy or forces that are not finite" in result.stdout


@pytest.mark.filterwarnings("default:atoms are far")
@pytest.mark.parametrize("workers", [1, 2])
def test_warnings_of_a_calculator_are_lines_about_the_structure(folder, workers):
    result = run("relax", "Cu.extxyz", "pair.extxyz", "--steps", 2, "--workers", workers, calculator="Warns")
    for name in ("Cu.extxyz", "pair.extxyz"):
        assert result.stderr.splitlines().count(f"{name}: warning: atoms are far from home") == 1, result.output
    assert "UserWarning" not in result.stderr


def test_warnings_of_a_result_are_shown(folder):
    options = ["--no-symmetry", "--n-volumes", 5, "--no-plots"]
    result = run("eos", "rattled.extxyz", *options, calculator="ase.calculators.emt:EMT")
    assert result.exit_code == 0, result.output
    assert "rattled.extxyz: warning: the relaxation changed the space group from P1 (1) to Fm-3m (225)" in result.stderr


def test_warnings_of_a_path_are_no_failures(folder):
    far = read("there.extxyz")
    far.positions[-1] += [0.4, 0.4, 0]
    write("far.extxyz", far)
    options = ["--n-images", 1, "--steps", 100, "--fmax", 0.05, "--no-plots"]
    result = run("neb", "here.extxyz", "far.extxyz", *options, calculator="ase.calculators.emt:EMT")
    assert "warning: the ends moved by up to" in result.stderr, result.output
    assert "failed" not in result.stdout


def test_run_that_was_stopped_says_why(folder):
    result = run("md", "Cu.extxyz", "--steps", 5, "--no-plots", calculator="NotFinite")
    assert result.exit_code == 1 and "energy or forces not finite" in result.stdout
    assert "Cu.extxyz: the energy is" in result.stderr


def test_interruption_is_named(folder):
    result = run("elastic", "Cu.extxyz", "--no-plots", calculator="Stops")
    assert result.exit_code == 130 and "interrupted before the others (--resume goes on)" in result.stdout


SMALL_SLABS = ["--miller", "1,1,1", "--min-slab", "5", "--min-vacuum", "6", "--no-plots"]
QUICK_ADSORPTION = ["--molecule", "CO", "--site", "ontop", "--min-width", "5", "--steps", "40", "--fmax", "0.2"]
SMALL_DEFECTS = ["--supercell", "2", "2", "2", "--reference", "Cu=-0.01"]


@pytest.mark.parametrize(
    ("arguments", "stop_at"),
    [
        (["surfaces", "Cu.extxyz", *SMALL_SLABS], 6),
        (["adsorption", "slab.extxyz", *QUICK_ADSORPTION], 25),
        (["defects", "Cu.extxyz", *SMALL_DEFECTS], 8),
        (["energetics", "Cu.extxyz", "rattled.extxyz", "--reference", "Cu=-0.01"], 8),
    ],
)
def test_interrupted_run_goes_on_where_it_was(folder, arguments, stop_at):
    calculators = import_module("bad_calculators")
    output = ["--output-dir", "parts"]
    calculators.Counts.stop_at = stop_at
    stopped = run(*arguments, *output, calculator="Counts")
    assert stopped.exit_code == 130 and "--resume goes on" in stopped.stdout, stopped.output
    calculators.Counts.calls, calculators.Counts.stop_at = 0, None
    resumed = run(*arguments, *output, "--resume", calculator="Counts")
    assert resumed.exit_code == 0, resumed.output
    resumed_calls, calculators.Counts.calls = calculators.Counts.calls, 0
    assert run(*arguments, "--output-dir", "whole", calculator="Counts").exit_code == 0
    assert resumed_calls < calculators.Counts.calls
    for path in folder.glob("parts/*/result.json"):
        whole = folder / "whole" / path.relative_to(folder / "parts")
        assert json.loads(path.read_text())["verdict"] == json.loads(whole.read_text())["verdict"]


@pytest.mark.parametrize("command", ["elastic", "eos", "qha", "surfaces", "defects", "energetics"])
def test_exploding_cell_fails_with_advice(folder, command):
    plots = [] if command in ("defects", "energetics") else ["--no-plots"]
    result = run(command, "Cu.extxyz", *plots, calculator="Expands")
    assert result.exit_code == 1 and "cell exploding after" in result.stdout, result.output
    assert "Start from another structure or cell" in result.stdout and "more steps" not in result.stdout


def test_exploding_cell_stops_a_trajectory(folder):
    options = ["--ensemble", "npt", "--temperature", 10, "--steps", 2000, "--no-plots"]
    result = run("md", "rattled.extxyz", *options, calculator="Expands")
    assert result.exit_code == 1 and "cell exploding" in result.stdout, result.output


def test_atom_that_leaves_gives_no_adsorption_energy(folder):
    options = ["--molecule", "H", "--site", "ontop", "--min-width", 5, "--fmax", 0.1]
    result = run("adsorption", "slab.extxyz", *options, calculator="LiftsHydrogen")
    assert result.exit_code == 1 and "nothing adsorbed" in result.stdout, result.output
    record = json.loads((folder / "adsorption/slab/result.json").read_text())
    assert [place["verdict"] for place in record["adsorbates"]] == ["desorbed"] and record["best"] is None


def test_atom_that_leaves_gives_no_barrier(folder):
    result = run("neb", "pair.extxyz", "turned.extxyz", "--n-images", 1, "--no-plots", calculator="Repels")
    assert result.exit_code == 1, result.output
    assert run("saddle", "pair.extxyz", "--steps", 40, calculator="Repels").exit_code == 1


@pytest.mark.parametrize("command", ["eos", "neb"])
def test_report_that_cannot_be_written_does_not_hide_the_results(folder, command):
    (folder / command / "report.html").mkdir(parents=True)
    files = ["Cu.extxyz"] if command == "eos" else ["here.extxyz", "there.extxyz", "--n-images", 1]
    result = run(command, *files, "--no-plots", calculator="ase.calculators.emt:EMT")
    assert result.exit_code == 1 and "found" in result.stdout, result.output
    assert "report.html: IsADirectoryError" in result.stdout
    assert not list(folder.rglob("*.partial"))


@pytest.mark.parametrize("options", [[], ["--batch"]])
def test_structure_that_came_apart_is_no_plain_success(folder, options):
    result = run("relax", "pair.extxyz", *options, calculator="Repels")
    assert "converged, came apart" in result.stdout, result.output
    record = json.loads((folder / "pair_relax.json").read_text())
    assert (record["pieces_before"], record["pieces_after"]) == (1, 2)
    assert np.ptp(read("pair_relaxed.extxyz").positions[:, 2]) > 10


def test_pieces_are_counted_across_periodic_images():
    slab = fcc100("Al", (2, 2, 2), vacuum=8)
    assert count_pieces(slab) == 1
    add_adsorbate(slab, "O", 1.5, "hollow")
    assert count_pieces(slab) == 1
    slab.positions[-1, 2] += 6.0
    assert count_pieces(slab) == 2
    assert count_pieces(Atoms("Cu")) == 1 and count_pieces(bulk("Cs", a=6.1)) == 1
    wire = Atoms("Cu2", positions=[[0, 0, 0.5], [0, 0, 9.5]], cell=[0, 0, 10], pbc=[False, False, True])
    assert count_pieces(wire) == 1  # neighbours through the boundary


@pytest.mark.parametrize(("ok", "shown"), [(True, "3.00"), (False, "-")])
def test_conductivity_without_meaning_is_not_shown(ok, shown):
    record = {"ok": ok, "temperatures": [300.0], "conductivity": [[2.0, 3.0, 4.0, 0, 0, 0]], "n_displacements": 7}
    assert _conductivity_row(record) == ["7", shown]
