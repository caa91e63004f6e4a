"""The recipes for jobflow and atomate2 in `examples/engines/`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import relax

RECIPES = Path(__file__).parents[2] / "examples" / "engines"
THEIR_WARNINGS = pytest.mark.filterwarnings("ignore")  # of jobflow, atomate2, pymatgen and what they import


def load(name):
    """A recipe as a module."""
    found = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def crystals():
    return [bulk("Cu", a=3.7), bulk("NaCl", "rocksalt", a=5.5)]


@THEIR_WARNINGS
def test_jobflow_runs_our_tasks():
    pytest.importorskip("jobflow")
    records = load("jobflow_relax").run_all(crystals(), "relax", fmax=0.05, smax=0.5)
    for atoms, record in zip(crystals(), records, strict=True):
        expected = relax(atoms, GNNCalculator(), cell=True, fmax=0.05, smax=0.5)
        assert record["verdict"] == expected.reason and record["error"] is None
        assert record["values"]["energy"] == pytest.approx(expected.energy, abs=1e-5)


@THEIR_WARNINGS
def test_atomate2_relaxes_with_our_calculator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it leaves a file behind
    pytest.importorskip("atomate2.forcefields.jobs")
    from pymatgen.io.ase import AseAtomsAdaptor

    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in crystals()]
    documents = load("atomate2_relax").relax_all(structures, fmax=0.02, steps=200, device="cpu")
    for atoms, document in zip(crystals(), documents, strict=True):
        expected = relax(atoms, GNNCalculator(), cell=True, fmax=0.005)
        per_atom = document.output.energy / len(document.output.structure)
        assert per_atom == pytest.approx(expected.energy_per_atom, abs=2e-3)
        assert document.output.structure.volume == pytest.approx(expected.atoms.get_volume(), rel=0.03)


@pytest.mark.parametrize(("name", "package"), [("jobflow_relax", "jobflow"), ("atomate2_relax", "atomate2")])
def test_a_missing_package_is_one_line_that_names_the_extra(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "atomate2":
        monkeypatch.setitem(sys.modules, "atomate2.forcefields.jobs", None)
    with pytest.raises(SystemExit, match=rf"gnn-forcefield\[{package}\]"):
        load(name)
