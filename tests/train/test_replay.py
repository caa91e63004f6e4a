"""Samples of training data: drawn evenly, written and read without loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule

from forcefield.data.frames import Frame, frame_from_atoms
from forcefield.data.readers import read_frames
from forcefield.data.store import FrameStore, write_store
from forcefield.train.replay import choose_evenly, write_sample


def labelled(atoms, kind: str, seed: int) -> Frame:
    """A frame with random labels in whole meV, as samples have them."""
    generator = np.random.default_rng(seed)
    n = len(atoms)
    return replace(
        frame_from_atoms(atoms, kind=kind, material=f"m{seed}"),
        energy=float(generator.normal()),
        forces=generator.integers(-50000, 50000, (n, 3)) / 1000,
        stress=generator.normal(size=6).astype(np.float32).astype(float),
        atomic_energies=generator.integers(-9000, 9000, n) / 1000,
    )


def assert_same_labels(found: Frame, expected: Frame) -> None:
    for name in ("energy", "forces", "stress", "atomic_energies"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if other is not None:
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_sample_keeps_structures_and_labels(tmp_path):
    rocksalt = bulk("NaCl", "rocksalt", a=5.6)
    rocksalt.rattle(0.1, seed=1)
    frames = [labelled(rocksalt, "rattled", 1), labelled(molecule("CH3CH2OH"), "molecule", 2)]
    frames.append(replace(frames[0], energy=None, atomic_energies=None, kind="dimer"))
    frames[1] = replace(frames[1], stress=None)
    write_sample(tmp_path / "sample.npz", frames)
    found = list(read_frames(tmp_path / "sample.npz"))
    assert [frame.kind for frame in found] == ["rattled", "molecule", "dimer"]
    for one, other in zip(found, frames, strict=True):
        assert one.material == other.material
        np.testing.assert_array_equal(one.numbers, other.numbers)
        np.testing.assert_array_equal(one.pbc, other.pbc)
        np.testing.assert_allclose(one.cell, other.cell)
        assert_same_labels(one, other)
    fractional = np.linalg.solve(rocksalt.cell.T, (found[0].positions - frames[0].positions).T).T
    np.testing.assert_allclose(fractional, np.round(fractional), atol=1 / 65536)
    moved = found[1].positions - frames[1].positions
    np.testing.assert_allclose(moved - moved[0], 0, atol=2e-4)
    assert not list(tmp_path.glob("*.partial"))


def test_sample_refuses_partly_periodic_frames(tmp_path):
    slab = bulk("Cu", cubic=True)
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="periodic along all axes or none"):
        write_sample(tmp_path / "sample.npz", [labelled(slab, "slab", 0)])
    with pytest.raises(ValueError, match="no such file"):
        list(read_frames(tmp_path / "sample.npz"))


@pytest.fixture
def uneven(tmp_path: Path) -> FrameStore:
    """Much copper, little gold, very little silver; few strained frames."""
    symbols = ["Cu"] * 80 + ["Au"] * 15 + ["Ag"] * 5
    frames = [
        labelled(bulk(symbol, "fcc", a=4.0 + 0.001 * k), "strained" if k % 4 == 0 else "plain", k)
        for k, symbol in enumerate(symbols)
    ]
    return write_store(tmp_path / "store", frames, 4.0)


def test_frames_are_drawn_evenly_over_kinds_and_elements(uneven):
    chosen = choose_evenly(uneven, 20, seed=0)
    assert len(set(chosen.tolist())) == 20
    frames = [uneven.frame(int(k)) for k in chosen]
    kinds = [frame.kind for frame in frames]
    assert kinds.count("plain") == kinds.count("strained") == 10
    counts = {z: sum(z in frame.numbers for frame in frames) for z in (29, 47, 79)}
    assert counts[47] == 5 and 6 <= counts[79] <= 9 and 6 <= counts[29] <= 9


def test_drawing_is_seeded_and_can_take_all(uneven):
    np.testing.assert_array_equal(choose_evenly(uneven, 20, seed=3), choose_evenly(uneven, 20, seed=3))
    assert not np.array_equal(choose_evenly(uneven, 20, seed=3), choose_evenly(uneven, 20, seed=4))
    np.testing.assert_array_equal(choose_evenly(uneven, 100, seed=0), np.arange(100))
    with pytest.raises(ValueError, match="count is 101"):
        choose_evenly(uneven, 101, seed=0)
