"""The frame store: exact, mapped into memory, and complete or not there at all."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from forcefield.data.frames import Frame
from forcefield.data.store import ARRAYS, FrameStore, write_store
from forcefield.neighbours import find_edges

LABELS = {"energy": (), "forces": (3,), "stress": (6,), "atomic_energies": ()}


def lone_atom(**changes) -> Frame:
    atom = Frame(np.array([8]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), energy=-1.5)
    return dataclasses.replace(atom, **changes)


def test_frames_come_back_exactly(store, frames):
    assert len(store) == len(frames) and store.cutoff == 4.0
    for k, frame in enumerate(frames):
        atoms = np.s_[store.first_atom[k] : store.first_atom[k + 1]]
        edges = np.s_[store.first_edge[k] : store.first_edge[k + 1]]
        arrays = store.arrays
        np.testing.assert_array_equal(arrays["numbers"][atoms], frame.numbers)
        np.testing.assert_array_equal(arrays["positions"][atoms], frame.positions)
        np.testing.assert_array_equal(arrays["cell"][k], frame.cell)
        np.testing.assert_array_equal(arrays["pbc"][k], frame.pbc)
        assert store.kinds[arrays["kind"][k]] == frame.kind
        assert store.materials[arrays["material"][k]] == frame.material
        found = find_edges(frame.positions, frame.cell, frame.pbc, 4.0)
        for name, expected in zip(("centre", "neighbour", "shift"), found, strict=True):
            np.testing.assert_array_equal(arrays[name][edges], expected)
        assert arrays["max_neighbours"][k] == np.bincount(found.centre, minlength=1).max()


def test_labels_come_back_exactly_and_missing_ones_are_nan(store, frames):
    missing = 0
    for k, frame in enumerate(frames):
        rows = {"frames": k, "atoms": np.s_[store.first_atom[k] : store.first_atom[k + 1]]}
        for name in LABELS:
            stored, label = store.arrays[name][rows[ARRAYS[name][2]]], getattr(frame, name)
            missing += label is None
            if label is None:
                assert np.isnan(stored).all()
            else:
                np.testing.assert_array_equal(stored, label)
    assert missing == 6


def test_store_lists_what_it_holds(store):
    assert store.elements == [1, 8, 11, 14, 17, 29]
    assert store.kinds == ["rattled", "relaxed", "slab", "molecule"]
    assert len(store.materials) == 10 and len(set(store.materials)) == 10


def test_arrays_are_mapped_not_read_and_cannot_be_written(store):
    for name, array in store.arrays.items():
        assert isinstance(array, np.memmap), name
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_store_travels_as_its_path(store):
    content = pickle.dumps(store)
    assert len(content) < 500
    other = pickle.loads(content)
    np.testing.assert_array_equal(other.arrays["positions"], store.arrays["positions"])
    assert len(other) == len(store)


def test_frames_are_taken_one_at_a_time(frames, tmp_path):
    taken = []

    def stream():
        for k, frame in enumerate(frames):
            written = tmp_path / "new.partial" / "n_atoms.raw"
            assert written.exists()
            taken.append(k)
            yield frame

    write_store(tmp_path / "new", stream(), 4.0)
    assert len(taken) == len(frames)
    assert not list((tmp_path / "new").glob("*.raw")) and not (tmp_path / "new.partial").exists()


def test_store_of_atoms_without_neighbours(tmp_path):
    store = write_store(tmp_path / "atoms", [lone_atom(), lone_atom(numbers=np.array([3]))], 5.0)
    assert len(store) == 2 and store.arrays["centre"].shape == (0,) and store.arrays["shift"].shape == (0, 3)
    assert store.elements == [3, 8]
    assert len(pickle.loads(pickle.dumps(store))) == 2


BROKEN = {
    "no atoms": ({"numbers": np.zeros(0, int), "positions": np.zeros((0, 3))}, "has 0 atoms"),
    "nan": ({"positions": np.array([[0, np.nan, 0]])}, "not finite"),
    "infinite": ({"positions": np.array([[0, np.inf, 0]])}, "infinite"),
    "cell": ({"cell": np.full((3, 3), np.nan)}, "cell"),
    "no volume": ({"pbc": np.ones(3, bool)}, "periodic along a"),
    "flat": ({"cell": np.ones((3, 3)) * 5, "pbc": np.ones(3, bool)}, "linearly dependent"),
    "too thin": ({"cell": np.diag([0.11, 50, 50]), "pbc": np.array([1, 0, 0], bool)}, "beyond 127 cells"),
    "element 0": ({"numbers": np.array([0])}, "Unknown"),
    "element 300": ({"numbers": np.array([300])}, "Unknown.*: atomic number 300"),
    "forces of other atoms": ({"forces": np.zeros((2, 3))}, r"forces has shape \(2, 3\) but must have \(1, 3\)"),
    "flat forces": ({"forces": np.zeros(3)}, r"forces has shape \(3,\)"),
    "stress as a tensor": ({"stress": np.zeros((3, 3))}, r"stress has shape \(3, 3\) but must have \(6,\)"),
    "energies": ({"atomic_energies": np.zeros(4)}, r"atomic_energies has shape \(4,\)"),
    "positions": ({"positions": np.zeros((2, 3))}, r"positions has shape \(2, 3\)"),
    "infinite energy": ({"energy": np.inf}, "energy is infinite"),
    "infinite force": ({"forces": np.array([[0, 0, -np.inf]])}, "forces is infinite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_frames_are_refused_by_their_index(tmp_path, name):
    changes, message = BROKEN[name]
    with pytest.raises(ValueError, match=f"^frame 2.*{message}"):
        write_store(tmp_path / "new", [lone_atom(), lone_atom(), lone_atom(**changes), lone_atom()], 15.0)
    assert not (tmp_path / "new").exists()


def test_interrupted_writing_leaves_no_store_and_can_be_repeated(frames, tmp_path):
    def interrupted():
        yield from frames[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "new", interrupted(), 4.0)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="no frame store"):
        FrameStore(tmp_path / "new")
    assert len(write_store(tmp_path / "new", frames, 4.0)) == len(frames)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_no_frames_and_existing_folders_are_refused(frames, tmp_path):
    with pytest.raises(ValueError, match="no frame to store"):
        write_store(tmp_path / "new", [], 4.0)
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileExistsError, match="give a new folder"):
        write_store(tmp_path / "taken", frames, 4.0)


def test_other_folders_and_formats_are_refused(frames, tmp_path):
    with pytest.raises(ValueError, match="no frame store"):
        FrameStore(tmp_path)
    folder = Path(write_store(tmp_path / "new", frames[:2], 4.0).folder)
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(ValueError, match="store format 99, this version reads"):
        FrameStore(folder)


def test_writing_does_not_change_the_frames(frames, tmp_path):
    before = [pickle.dumps(frame) for frame in frames]
    write_store(tmp_path / "new", frames, 4.0)
    assert [pickle.dumps(frame) for frame in frames] == before


def test_an_atom_hundreds_of_cells_away_is_refused_with_advice(tmp_path):
    atoms = Atoms("NaCl", positions=[[0, 0, 0], [2.8 - 200 * 5.6, 0, 0]], cell=[5.6] * 3, pbc=True)
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
    with pytest.raises(ValueError, match="^frame 0.*wrap"):
        write_store(tmp_path / "new", [frame], 4.0)
