"""Readers against files that ASE and pymatgen wrote, or that are written out here."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import read, write
from ase.io.trajectory import Trajectory

from forcefield.data.frames import Frame, atoms_from_frame, frame_from_atoms
from forcefield.data.labels import ReadOptions, parse_order
from forcefield.data.readers import read_entries_of, read_frames
from forcefield.data.store import write_store
from forcefield.units import GPA, KBAR


def test_atoms_of_a_frame_make_the_same_frame(structures, assert_same):
    for atoms in structures:
        frame = frame_from_atoms(atoms, kind="rattled", material="m")
        again = atoms_from_frame(frame)
        assert_same(frame_from_atoms(again), atoms, 0)
        assert again.info == {"kind": "rattled", "material": "m"}
        again.positions += 1.0
        assert_same(frame, atoms, 0)
    assert atoms_from_frame(frame_from_atoms(bulk("Cu"))).calc is None


@pytest.mark.parametrize("packing", ["", ".gz", ".bz2", ".xz"])
def test_extxyz_is_read_as_ase_reads_it(structures, tmp_path, packing, assert_same):
    plain = tmp_path / "frames.extxyz"
    write(plain, structures)
    path = plain.with_name(plain.name + packing)
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, "": bytes}[packing]
    path.write_bytes(pack(plain.read_bytes()))
    frames = list(read_frames(path))
    assert len(frames) == len(structures)
    for frame, atoms in zip(frames, read(plain, ":"), strict=True):
        assert_same(frame, atoms, 1e-12)


def test_keys_of_other_programs_are_found_and_virial_becomes_stress(structures, tmp_path, assert_same):
    atoms = structures[1].copy()
    results = structures[1].calc.results
    volume = atoms.get_volume()
    xx, yy, zz, yz, xz, xy = results["stress"]
    atoms.info["REF_energy"] = results["energy"]
    atoms.info["virial"] = -volume * np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    atoms.arrays["dft_forces"] = results["forces"]
    atoms.info["config_type"] = "rattled"
    atoms.info["mp_id"] = "mp-23"
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    options = ReadOptions()
    (frame,) = read_frames(tmp_path / "a.xyz", options=options)
    assert_same(frame, structures[1])
    assert (frame.kind, frame.material) == ("rattled", "mp-23")
    found = {(label, key) for label, key, _ in options.found}
    assert found >= {("energy", "REF_energy"), ("virial", "virial"), ("forces", "dft_forces")}


def test_virial_of_a_compressed_crystal_makes_a_compressive_stress(tmp_path):
    """The sign by physics: a compressed crystal has dE/dV < 0, so ASE's stress (dE/d strain / V) is negative."""
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.calc = EMT()
    step = 1e-4
    energies = []
    for sign in (1, -1):
        other = bulk("Cu", a=3.4 * (1 + sign * step), cubic=True)
        other.calc = EMT()
        energies.append(other.get_potential_energy())
    trace = -(energies[0] - energies[1]) / (2 * step)  # of the virial, minus the derivative by an isotropic strain
    bare = bulk("Cu", a=3.4, cubic=True)
    bare.info["virial"] = np.eye(3) * trace / 3
    write(tmp_path / "a.xyz", bare, format="extxyz")
    (frame,) = read_frames(tmp_path / "a.xyz")
    assert frame.stress[0] < 0
    np.testing.assert_allclose(frame.stress, atoms.get_stress(), atol=1e-6)


def extxyz(comment: str, rows: str = "Cu 0 0 0 0 0 0", properties: str = "species:S:1:pos:R:3:forces:R:3") -> str:
    lattice = 'Lattice="3 0 0 0 3 0 0 0 3"'
    return f"{len(rows.splitlines())}\n{lattice} Properties={properties} {comment}\n{rows}\n"


def read_text(tmp_path: Path, text: str, **options) -> list[Frame]:
    (tmp_path / "a.extxyz").write_text(text)
    return list(read_frames(tmp_path / "a.extxyz", options=ReadOptions(**options)))


SPELLINGS = ['"1 2 3 4 5 6"', '"1 6 5 6 2 4 5 4 3"', "[1, 2, 3, 4, 5, 6]", '"_JSON [1,2,3,4,5,6]"']


@pytest.mark.parametrize("stress", SPELLINGS)
def test_stress_as_a_tensor_or_as_six_numbers(tmp_path, stress):
    (frame,) = read_text(tmp_path, extxyz(f"stress={stress}"))
    np.testing.assert_allclose(frame.stress, [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("key", ["stress", "virial"])
@pytest.mark.parametrize(("order", "numbers"), [("vasp", "1 2 3 6 4 5"), ("lammps", "1 2 3 6 5 4")])
def test_six_numbers_in_the_order_of_another_program(tmp_path, key, order, numbers):
    (frame,) = read_text(tmp_path, extxyz(f'{key}="{numbers}"'), stress_order=parse_order(order))
    expected = np.arange(1.0, 7.0)
    if key == "virial":
        expected /= -np.linalg.det(frame.cell)
    np.testing.assert_allclose(frame.stress, expected)
    with pytest.raises(ValueError, match="order of the stress is"):
        ReadOptions(stress_order=("xx", "yy"))
    assert ReadOptions(stress_order=("XX", "YY", "ZZ", "XY", "YZ", "ZX")).stress_order == parse_order("vasp")


def test_a_tensor_made_of_six_numbers_in_the_wrong_order_is_put_right(tmp_path):
    text = extxyz('stress="1 5 4 5 2 6 4 6 3"')  # 1 2 3 6 4 5, VASP's order, taken for ASE's
    (frame,) = read_text(tmp_path, text, stress_order=parse_order("vasp"))
    np.testing.assert_allclose(frame.stress, [1, 2, 3, 4, 5, 6])


def test_units_and_signs_are_converted(tmp_path):
    text = extxyz('energy=-1 stress="10 0 0 0 0 0"', "Cu 0 0 0 1 0 0")
    units = {"energy": "Ha", "forces": "Ha/bohr", "stress": "-kbar"}
    (frame,) = read_text(tmp_path, text, units=units)
    assert frame.energy == pytest.approx(-27.211386, abs=1e-5)
    assert frame.forces[0, 0] == pytest.approx(51.422067, abs=1e-4)
    assert frame.stress[0] == pytest.approx(-10 * KBAR) == pytest.approx(-GPA)


def test_unclear_keys_are_refused_and_named_ones_taken(tmp_path):
    text = extxyz("energy=-1 REF_energy=-2")
    with pytest.raises(ValueError, match=r"a.extxyz: the energy may be under .* energy, REF_energy.*--keys"):
        read_text(tmp_path, text)
    assert read_text(tmp_path, text, keys={"energy": "REF_energy"})[0].energy == -2
    assert read_text(tmp_path, extxyz("energy=-1 free_energy=-2"))[0].energy == -1
    assert read_text(tmp_path, extxyz("energy=-1 REF_energy=-1"))[0].energy == -1
    assert read_text(tmp_path, extxyz("mace_energy=-1 e=-3"), keys={"energy": "e"})[0].energy == -3
    assert read_text(tmp_path, extxyz("energy=-1"), keys={"energy": "e"})[0].energy is None


def test_plain_xyz_is_a_frame_without_labels(tmp_path):
    frame = read_text(tmp_path, "2\nhydrogen, energy unknown\nH 0 0 0\nH 0 0 0.74\n")[0]
    assert frame.energy is frame.forces is None and not frame.pbc.any() and (frame.cell == 0).all()


GOOD = extxyz("energy=-1")
BROKEN = {
    "nan energy": (extxyz("energy=nan"), "energy holds 1 NaN"),
    "nan force": (extxyz("energy=1", "Cu 0 0 0 0 nan 0"), "forces holds 1 NaN"),
    "text for a number": (extxyz("energy=none"), "'none' and no number"),
    "huge force": (extxyz("energy=1", "Cu 0 0 0 1e6 0 0"), "force component is 1e.06 eV/Å"),
    "huge stress": (extxyz('stress="1e3 0 0 0 0 0"'), "stress component is 1000 eV/Å"),
    "asymmetric stress": (extxyz('stress="1 9 9 0 1 9 0 0 1"'), "far from symmetric"),
    "stress of four": (extxyz('stress="1 9 9 0"'), r"has shape \(4,\)"),
    "unknown element": (extxyz("energy=1", "Qq 0 0 0 0 0 0"), "unknown elements: Qq"),
    "two atoms in one place": (extxyz("energy=1", "Cu 0 0 0 0 0 0\nO 0 0 0 0 0 0"), "overlap"),
    "two atoms in one place by periodicity": (extxyz("", "Cu 0 0 0 0 0 0\nO 3 3 -3 0 0 0"), "overlap"),
    "a column short": (extxyz("energy=1", "Cu 0 0 0 0 0"), "announced"),
    "word in a column": (extxyz("energy=1", "Cu 0 0 x 0 0 0"), "column pos"),
    "atoms missing": (GOOD.replace("1\n", "3\n", 1), "announced"),
    "no count": ("what is this\n", "a number of atoms was expected but 'what is this' came"),
    "lattice": (GOOD.replace('0 3"', '3"'), "Lattice has 8 numbers"),
    "flat lattice": (GOOD.replace('0 3"', '0 0"'), "periodic along c"),
    "properties": (GOOD.replace("pos:R:3", "pos:R"), "Properties is"),
    "pbc": (GOOD.replace("energy", 'pbc="T T what" energy'), "pbc is 'T T what'"),
    "forces with two columns": (extxyz("", "Cu 0 0 0 1 1", "species:S:1:pos:R:3:forces:R:2"), r"shape \(1, 2\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_is_named_and_the_next_one_read(tmp_path, name):
    text, fault = BROKEN[name]
    with pytest.raises(ValueError, match=rf"a.extxyz #1: .*{fault}"):
        read_text(tmp_path, GOOD + text + GOOD + GOOD)
    bad: list[str] = []
    frames = list(read_frames(tmp_path / "a.extxyz", on_bad=bad.append))
    assert len(bad) == 1 and "#1" in bad[0]
    assert len(frames) == 3 and all(frame.energy == -1 for frame in frames)


def test_a_file_that_ends_in_a_frame(tmp_path):
    (tmp_path / "a.xyz").write_text(GOOD + "4\n")
    entries = list(read_entries_of(tmp_path / "a.xyz"))
    assert [entry.frame is None for entry in entries] == [False, True] and "ends after" in entries[1].fault


def test_compressed_file_cut_short(structures, tmp_path):
    rng = np.random.default_rng(0)
    atoms = bulk("Cu") * (6, 6, 6)
    atoms.positions += rng.normal(scale=0.1, size=(len(atoms), 3))
    write(tmp_path / "a.xyz", [atoms] * 4, format="extxyz")
    content = gzip.compress((tmp_path / "a.xyz").read_bytes())
    (tmp_path / "a.xyz.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a.xyz.gz: Compressed file ended"):
        list(read_frames(tmp_path / "a.xyz.gz"))
    (tmp_path / "a.xyz.gz").write_bytes(content[:2000] + bytes(500) + content[2500:])
    with pytest.raises(ValueError, match=r"a.xyz.gz"):
        list(read_frames(tmp_path / "a.xyz.gz"))


def test_without_ijson_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text('{"mp-1": {"mp-1-0-0": {"structure": {}}}}')
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(ImportError, match=r"gnn-forcefield\[data\]"):
        list(read_frames(tmp_path / "a.json"))


def test_ase_database_with_results_or_own_keys(structures, tmp_path, assert_same):
    atoms = structures[1]
    results = atoms.calc.results
    for suffix in ("db", "json"):
        with connect(tmp_path / f"a.{suffix}") as database:
            database.write(atoms, material="nickel")
            bare = atoms.copy()
            own = {"REF_energy": results["energy"]}
            database.write(bare, key_value_pairs=own, data={"REF_forces": results["forces"]})
            database.write(molecule("H2O"))
        frames = list(read_frames(tmp_path / f"a.{suffix}"))
        assert_same(frames[0], atoms)
        assert frames[0].material == "nickel"
        assert frames[1].energy == pytest.approx(results["energy"]) and frames[1].stress is None
        np.testing.assert_allclose(frames[1].forces, results["forces"])
        assert frames[2].energy is None


def test_trajectory_and_other_formats_of_ase(structures, tmp_path, assert_same):
    with Trajectory(tmp_path / "a.traj", "w") as trajectory:
        for atoms in structures:
            trajectory.write(atoms)
    for frame, atoms in zip(read_frames(tmp_path / "a.traj"), structures, strict=True):
        assert_same(frame, atoms, 0)
    write(tmp_path / "POSCAR", structures[0])
    (frame,) = read_frames(tmp_path / "POSCAR")
    assert_same(frame, structures[0].copy(), 1e-6)


def test_a_store_gives_back_its_frames(structures, tmp_path, assert_same):
    frames = [frame_from_atoms(atoms, kind="k", material=f"m{k}") for k, atoms in enumerate(structures)]
    store = write_store(tmp_path / "store", frames, 5.0)
    for frame, atoms in zip(read_frames(tmp_path / "store"), structures, strict=True):
        assert_same(frame, atoms, 1e-5)  # labels are single precision
    assert store.frame(2).material == "m2" and store.frame(3).stress is None
    for k in (-1, 4):
        with pytest.raises(IndexError, match="frames 0 to 3"):
            store.frame(k)


def test_unusable_files_are_refused_in_words(tmp_path):
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "other.json").write_text('{"a": [1, 2]}')
    (tmp_path / "no.json").write_text("{'a': 1}")
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "noise.cif").write_bytes(bytes(range(256)))
    (tmp_path / "noise.db").write_bytes(b"no database" * 100)
    (tmp_path / "noise.npz").write_bytes(b"no archive" * 100)
    (tmp_path / "folder").mkdir()
    cases = {
        "missing.xyz": "no such file",
        "empty.xyz": "is empty",
        "other.json": "no known layout",
        "no.json": "is no JSON",
        "text.json": "called JSON",
        "noise.cif": "noise.cif",
        "noise.db": "noise.db",
        "noise.npz": "noise.npz",
        "folder": "no frame store",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            list(read_frames(tmp_path / name))
