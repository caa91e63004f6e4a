"""Reference energies from labels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from forcefield.data.frames import Frame
from forcefield.data.statistics import bound_energies, read_element_energies
from forcefield.data.store import FrameStore, write_store

ISOLATED = {3: -0.25, 8: -1.5, 26: -3.0}
BOUND = {3: -2.0, 8: -5.5, 26: -6.75}


def synthetic(folder: Path, *, noise: float, atomic: bool, only_energy_of: slice = slice(None)) -> FrameStore:
    """Frames whose atoms have the energies ISOLATED + BOUND + normal noise (eV)."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(400):
        numbers = rng.choice(list(ISOLATED), size=int(rng.integers(1, 6)))
        energies = np.array([ISOLATED[z] + BOUND[z] for z in numbers]) + noise * rng.normal(size=len(numbers))
        frame = Frame(numbers, rng.random((len(numbers), 3)) * 9, np.zeros((3, 3)), np.zeros(3, bool), energies.sum())
        frames.append(dataclasses.replace(frame, atomic_energies=energies if atomic else None))
    wanted = set(range(400)[only_energy_of])
    frames = [f if k in wanted else dataclasses.replace(f, energy=None) for k, f in enumerate(frames)]
    return write_store(folder, frames, 2.0)


@pytest.mark.parametrize("atomic", [True, False])
def test_known_energies_are_recovered(tmp_path, atomic):
    mean, rest = bound_energies(synthetic(tmp_path / "s", noise=0.0, atomic=atomic), ISOLATED)
    assert list(mean) == [3, 8, 26]
    assert mean == pytest.approx(BOUND, abs=1e-3)
    assert rest < 1e-3


def test_spread_of_atomic_energies_is_found(tmp_path):
    mean, rest = bound_energies(synthetic(tmp_path / "s", noise=0.3, atomic=True), ISOLATED)
    assert mean == pytest.approx(BOUND, abs=0.05)
    assert rest == pytest.approx(0.3, rel=0.05)


def test_least_squares_stand_noise_and_missing_energies(tmp_path):
    store = synthetic(tmp_path / "s", noise=0.1, atomic=False, only_energy_of=slice(0, None, 2))
    mean, rest = bound_energies(store, ISOLATED)
    assert mean == pytest.approx(BOUND, abs=0.05)
    assert 0.03 < rest < 0.1  # of the mean over one to five atoms


def test_elements_that_always_occur_together_share_their_energy(tmp_path):
    pair = Frame(np.array([3, 8]), np.eye(3)[:2] * 9, np.zeros((3, 3)), np.zeros(3, bool), energy=-1.75 - 6.0)
    store = write_store(tmp_path / "s", [pair] * 50, 2.0)
    mean, rest = bound_energies(store, ISOLATED)
    assert mean[3] == pytest.approx(-3.0, abs=0.01) and mean[8] == pytest.approx(-3.0, abs=0.01)
    assert rest < 0.01


def test_missing_reference_energies_are_named(tmp_path):
    store = synthetic(tmp_path / "s", noise=0.0, atomic=True)
    with pytest.raises(ValueError, match=r"no free-atom energy for atomic numbers \[8, 26\]"):
        bound_energies(store, {3: 0.0})


def test_no_labels_at_all_are_refused(tmp_path):
    store = synthetic(tmp_path / "s", noise=0.0, atomic=False, only_energy_of=slice(0, 0))
    with pytest.raises(ValueError, match="no frame has an energy"):
        bound_energies(store, ISOLATED)


def test_element_energies_are_read_by_symbol(tmp_path):
    path = tmp_path / "free.json"
    path.write_text(json.dumps({"H": -1.11, "Fe": -3, "Og": 0.5}))
    assert read_element_energies(path) == {1: -1.11, 26: -3.0, 118: 0.5}
    path.write_text(json.dumps({"H": -1.11, "Iron": -3}))
    with pytest.raises(ValueError, match=r"no element symbols: \['Iron'\]"):
        read_element_energies(path)
