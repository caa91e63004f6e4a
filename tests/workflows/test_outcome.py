"""What the workflows share: JSON of any result, files written whole, refusals that name the extra."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.calculator import GNNCalculator
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import (
    plain,
    precise_calculator,
    precision_warning,
    prepare_crystal,
    require_package,
    symmetry_change,
    write_result,
)
from forcefield.workflows.symmetry import SpaceGroup


@dataclass
class Example:
    numbers: np.ndarray
    path: Path
    nothing: None = None


def test_plain_turns_everything_into_json():
    content = {
        "example": Example(np.array([1.5, np.nan, np.inf]), Path("a/b")),
        "group": SpaceGroup("Fm-3m", 225),
        "complex": np.array([1.0 + 2.0j]),
        "atoms": bulk("Cu", a=4.0),
        7: (np.int64(3), True, np.float32(0.5), {1}),
    }
    expected = {
        "example": {"numbers": [1.5, None, None], "path": "a/b", "nothing": None},
        "group": {"symbol": "Fm-3m", "number": 225},
        "complex": [[1.0, 2.0]],
        "atoms": {
            "symbols": ["Cu"],
            "cell": [[0, 2, 2], [2, 0, 2], [2, 2, 0]],
            "scaled_positions": [[0, 0, 0]],
            "pbc": [True] * 3,
        },
        "7": [3, True, 0.5, [1]],
    }
    assert json.loads(json.dumps(plain(content), allow_nan=False)) == expected
    with pytest.raises(TypeError, match="A object cannot be written"):
        plain(object())


def test_result_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_result(path, {"a": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_result(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1} and [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_choice_of_calculator_and_its_precision(tiny_model):
    atoms = bulk("Cu")
    engine = EMT()
    assert precise_calculator(atoms, engine) is engine
    atoms.calc = engine
    assert precise_calculator(atoms) is engine and precision_warning(engine) is None
    atoms.calc = SinglePointCalculator(atoms, energy=0.0)
    assert "float32" in precision_warning(GNNCalculator(tiny_model))
    assert precision_warning(GNNCalculator(tiny_model, dtype="float64")) is None


def test_crystal_is_prepared_without_its_constraints_and_change_of_symmetry_is_named():
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0] += 0.1
    relaxed, outcome = prepare_crystal(atoms, EMT(), symmetry=False, symprec=0.001)
    assert outcome.converged and relaxed.calc is not None and not relaxed.constraints
    assert symmetry_change(None) is None and "to Fm-3m (225)" in symmetry_change(outcome)
    same, nothing = prepare_crystal(atoms, EMT(), relaxation="none")
    assert nothing is None and same == atoms


def test_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"phono3py is not installed.*gnn-forcefield\[phono3py\]"):
        from unittest.mock import patch

        with patch.dict("sys.modules", {"phono3py": None}):
            require_package("phono3py")


def test_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_build.py").write_text('raise ImportError("built for\\nanother numpy")\n')
    (tmp_path / "lacks_a_part.py").write_text("import surely_there_is_no_such_part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="broken_build is installed but cannot be imported: built for another numpy$"):
        require_package("broken_build")
    with pytest.raises(ImportError, match="cannot be imported: No module named 'surely_there_is_no_such_part'"):
        require_package("lacks_a_part")


def test_store_keeps_structures_to_the_last_digit(tmp_path):
    atoms = Atoms("CuAl", positions=[[0.1, 1 / 3, np.pi], [1, 2, 3]], cell=np.eye(3) * np.e, pbc=[True, True, False])
    atoms.set_masses([60.0, 27.1])
    ForceStore(tmp_path / "forces.jsonl").structure("relaxed", bulk("Cu"), lambda: atoms)
    again = ForceStore(tmp_path / "forces.jsonl").structure("relaxed", bulk("Cu"), lambda: None)
    assert again == atoms
    np.testing.assert_array_equal(again.get_masses(), atoms.get_masses())
    other = ForceStore(tmp_path / "forces.jsonl").structure("relaxed", bulk("Al"), lambda: bulk("Al"))
    assert other == bulk("Al")
