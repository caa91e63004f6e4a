"""Frames from ASE's atoms and from the compact archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from forcefield.data.frames import frame_from_atoms, read_compact


def test_labels_of_the_calculator_become_labels_of_the_frame(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    forces, stress = np.arange(6.0).reshape(2, 3), np.linspace(-1, 1, 6)
    atoms.calc = SinglePointCalculator(atoms, energy=-7.5, forces=forces, stress=stress)
    write(tmp_path / "frame.extxyz", atoms)
    for source in (atoms, read(tmp_path / "frame.extxyz")):
        frame = frame_from_atoms(source, kind="relaxed", material="salt")
        assert frame.energy == -7.5 and (frame.kind, frame.material) == ("relaxed", "salt")
        np.testing.assert_allclose(frame.forces, forces)
        np.testing.assert_allclose(frame.stress, stress)
        assert frame.atomic_energies is None
        np.testing.assert_array_equal(frame.numbers, [11, 17])
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(frame.cell, atoms.cell.array, atol=1e-8)
        assert frame.pbc.all()


def test_atoms_without_calculator_have_no_labels_and_info_names_them():
    atoms = molecule("H2O")
    atoms.info.update(kind="gas", material="water")
    frame = frame_from_atoms(atoms, kind="other")
    assert frame.energy is frame.forces is frame.stress is frame.atomic_energies is None
    assert (frame.kind, frame.material) == ("gas", "water") and not frame.pbc.any()


def test_frame_does_not_share_memory_with_the_atoms():
    atoms = bulk("Cu")
    frame = frame_from_atoms(atoms)
    atoms.positions += 1.0
    atoms.set_cell(2 * atoms.cell.array)
    atoms.numbers[:] = 1
    assert frame.positions[0, 0] == 0.0 and frame.numbers[0] == 29 and frame.cell[0, 1] == pytest.approx(1.805)


def compact_archive(path: Path, *, with_energies: bool = True) -> list[Atoms]:
    """Write an archive of three random crystals and return them."""
    rng = np.random.default_rng(0)
    crystals = []
    for n in (2, 5, 1):
        cell = np.diag(rng.uniform(4, 6, 3)) + rng.normal(scale=0.3, size=(3, 3))
        crystals.append(Atoms(rng.choice([3, 8, 26], n), scaled_positions=rng.random((n, 3)), cell=cell, pbc=True))
    total = sum(map(len, crystals))
    arrays = {
        "n_atoms": np.array([2, 5, 1], dtype=np.uint8),
        "numbers": np.concatenate([atoms.numbers for atoms in crystals]).astype(np.uint8),
        "fractional": np.concatenate([np.floor(a.get_scaled_positions() * 65536) for a in crystals]).astype(np.uint16),
        "cell": np.array([atoms.cell.array for atoms in crystals]).astype(np.float32),
        "energy": np.array([-3.5, -9.25, -0.5]),
        "forces": np.arange(3 * total).reshape(-1, 3).astype(np.int16),
        "stress": rng.normal(size=(3, 6)).astype(np.float32),
        "kind": np.array([1, 0, 1], dtype=np.uint8),
        "kind_names": np.array(["relaxed", "rattled"]),
        "material": np.array([7, 9, 7]),
    }
    if with_energies:
        arrays["atomic_energies"] = (-1000 - np.arange(total)).astype(np.int16)
    np.savez(path, **arrays)
    return crystals


def test_compact_archive_is_read_in_its_units(tmp_path):
    crystals = compact_archive(tmp_path / "frames.npz")
    frames = list(read_compact(tmp_path / "frames.npz"))
    assert [len(frame.numbers) for frame in frames] == [2, 5, 1]
    assert [frame.kind for frame in frames] == ["rattled", "relaxed", "rattled"]
    assert [frame.material for frame in frames] == ["7", "9", "7"]
    assert [frame.energy for frame in frames] == [-3.5, -9.25, -0.5]
    for frame, atoms in zip(frames, crystals, strict=True):
        np.testing.assert_array_equal(frame.numbers, atoms.numbers)
        np.testing.assert_allclose(frame.cell, atoms.cell.array, atol=1e-6)
        np.testing.assert_allclose(frame.positions, atoms.positions, atol=3e-4)  # 1/65536 of the cell
        assert frame.pbc.all() and frame.stress.shape == (6,)
    np.testing.assert_allclose(frames[1].forces[0], [0.006, 0.007, 0.008])
    np.testing.assert_allclose(frames[2].atomic_energies, [-1.007])


def test_atomic_energies_of_an_archive_are_optional(tmp_path):
    compact_archive(tmp_path / "frames.npz", with_energies=False)
    assert all(frame.atomic_energies is None for frame in read_compact(tmp_path / "frames.npz"))


def test_other_archives_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", n_atoms=np.array([1]), energy=np.array([0.0]))
    with pytest.raises(ValueError, match=r"lacks the arrays \['numbers', 'fractional'.*not a compact frame archive"):
        list(read_compact(tmp_path / "other.npz"))
