"""The pieces of `benchmarks/properties.py` that turn results into numbers, against values known otherwise."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation

from forcefield.workflows.elastic_tensor import to_full

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]

pytest.importorskip("matplotlib")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Import a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def rotated(tensor: np.ndarray) -> np.ndarray:
    """The tensor for axes turned at random."""
    turn = Rotation.random(random_state=3).as_matrix()
    full = np.einsum("ai,bj,ck,dl,ijkl->abcd", *[turn] * 4, to_full(tensor), optimize=True)
    return np.array([[full[i, j, k, l] for k, l in VOIGT] for i, j in VOIGT])


@pytest.mark.parametrize("constants", [(166.0, 64.0, 80.0), (52.0, 20.0, 5.0), (230.0, 160.0, 120.0)])
def test_cubic_constants_are_found_in_any_orientation(load, constants: tuple[float, float, float]) -> None:
    tasks: ModuleType = load("properties_tasks")
    c11, c12, c44 = constants
    tensor = np.diag([c11 - c12] * 3 + [c44] * 3)
    tensor[:3, :3] += c12
    found = tasks.cubic_constants(rotated(tensor))
    assert [found[name] for name in ("C11", "C12", "C44")] == pytest.approx(constants)


def test_last_peak_is_that_of_the_highest_bump(load) -> None:
    tasks: ModuleType = load("properties_tasks")
    frequencies = np.linspace(0.0, 10.0, 501)
    density = np.exp(-((frequencies - 3.0) ** 2)) + 0.3 * np.exp(-((frequencies - 8.0) ** 2) / 0.1)
    assert tasks.last_peak(frequencies, density) == pytest.approx(8.0, abs=0.02)
    with pytest.raises(ValueError, match="no peak"):
        tasks.last_peak(frequencies, np.zeros_like(frequencies))


def test_larger_draw_holds_the_smaller(load) -> None:
    references: ModuleType = load("properties_references")
    all_of_them = [references.Reference(f"{k}", bulk("Cu") * (1, 1, 1 + k % 3), {}) for k in range(40)]
    limits = {"seed": 5, "most_atoms": 2, "elements": (29,)}
    few, many = (references.sample(all_of_them, number, **limits) for number in (6, 15))
    assert [item.key for item in few] == [item.key for item in many[:6]]
    assert all(len(item.atoms) <= 2 for item in many)
    assert references.sample(all_of_them, 5, seed=0, most_atoms=9, elements=(13,)) == []


def test_statistics_of_a_soft_model(load) -> None:
    report: ModuleType = load("properties_report")
    known = np.array([10.0, 20.0, 40.0])
    found = report.statistics(np.column_stack([0.8 * known, known]))
    assert found["slope"] == pytest.approx(0.8) and found["median error (%)"] == pytest.approx(-20.0)
    assert found["mean absolute error"] == pytest.approx(14.0 / 3.0) and found["within 10 % (%)"] == 0.0


def test_work_file_goes_on_and_refuses_another_model(load, tmp_path: Path) -> None:
    properties: ModuleType = load("properties")
    path, record = tmp_path / "work.jsonl", {"property": "eos", "key": "Cu", "pairs": {}}
    properties.WorkFile(path, {"calculator": "a"}).add(record)
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"property": "eos", "ke')  # cut short by a kill
    assert properties.WorkFile(path, {"calculator": "a"}).records == {("eos", "Cu"): record}
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1]) == record
    with pytest.raises(ValueError, match="was made with"):
        properties.WorkFile(path, {"calculator": "b"})
