"""Reading structures, loading calculators, naming and writing results."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from forcefield.cli.io import (
    OutputNames,
    describe_error,
    load_calculator,
    parse_index,
    prepare_folder,
    read_frames,
    stem_of,
    write_json,
    write_structure,
)


@pytest.fixture
def frames_file(tmp_path):
    path = tmp_path / "many.extxyz"
    write(path, [bulk("Cu", a=3.5 + 0.1 * k) for k in range(4)])
    return path


@pytest.mark.parametrize(
    ("index", "numbers"),
    [(":", [0, 1, 2, 3]), ("1:", [1, 2, 3]), ("::2", [0, 2]), ("2", [2]), ("-1", [0]), ("-2:", [0, 1])],
)
def test_frames_are_numbered_as_in_the_file(frames_file, index, numbers):
    frames = read_frames(frames_file, index)
    assert [frame.number for frame in frames] == numbers
    if index != "-1" and index != "-2:":
        for frame in frames:
            assert frame.atoms.cell.cellpar()[0] * 2**0.5 == pytest.approx(3.5 + 0.1 * frame.number)
    assert frames[0].label == (str(frames_file) if len(frames) == 1 else f"{frames_file} #{numbers[0]}")


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.vasp", "a.xyz", "a.traj", "a.pdb", "a.xsf", "a.json"])
def test_formats_are_told_by_name(tmp_path, name):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    write(tmp_path / name, atoms, format="vasp" if name == "a.vasp" else None)
    (frame,) = read_frames(tmp_path / name)
    assert sorted(frame.atoms.symbols) == sorted(atoms.symbols)
    assert frame.atoms.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.cif", None, "no such file"),
        ("broken.cif", "data_\nloop_ nothing\n", "no structure"),
        ("broken.xyz", "3\n\nCu 0 0\n", "ASE cannot read it"),
        ("notes.docx", "hello", "ASE cannot read it"),
        ("empty.xyz", "", "cannot read it|no structure"),
        ("POSCAR", "no numbers here\nat all\n", "ASE cannot read it"),
    ],
)
def test_unreadable_files_give_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_frames(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_folder_and_frames_out_of_range(tmp_path, frames_file):
    with pytest.raises(ValueError, match="not a file"):
        read_frames(tmp_path)
    for index in ("7", "9:"):
        with pytest.raises(ValueError, match=f"no frame {index}"):
            read_frames(frames_file, index)
    with pytest.raises(ValueError, match="--index is 'first'"):
        parse_index("first")


def test_cell_of_one_angstrom_in_a_pdb_file_is_none(tmp_path):
    path = tmp_path / "water.pdb"
    write(path, molecule("H2O"))
    atoms = path.read_text(encoding="utf-8")
    for lengths, periodic in ((1.0, False), (10.0, True)):
        sides = f"{lengths:9.3f}" * 3
        path.write_text(f"CRYST1{sides}  90.00  90.00  90.00 P 1           1\n{atoms}", encoding="utf-8")
        (frame,) = read_frames(path)
        assert frame.atoms.pbc.all() == frame.atoms.pbc.any() == periodic
        assert frame.atoms.cell.rank == (3 if periodic else 0) and len(frame.atoms) == 3


def test_partial_occupancy_is_refused(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    write(tmp_path / "full.cif", atoms)
    full = (tmp_path / "full.cif").read_text()
    (frame,) = read_frames(tmp_path / "full.cif")
    assert not frame.atoms.info and "spacegroup_kinds" not in frame.atoms.arrays
    (tmp_path / "part.cif").write_text(
        full.replace("1.0000", "0.5000", 1) if "1.0000" in full else full.replace("1.0", "0.5", 1)
    )
    with pytest.raises(ValueError, match="partially occupied"):
        read_frames(tmp_path / "part.cif")


def test_errors_become_one_line():
    assert describe_error(ValueError("two\n  lines")) == "two lines"
    assert describe_error(KeyError("Xx")) == "KeyError: 'Xx'"
    assert describe_error(RuntimeError()) == "RuntimeError"


def test_calculator_by_name(tmp_path, monkeypatch):
    assert isinstance(load_calculator("ase.calculators.emt:EMT", None, None, None), EMT)
    (tmp_path / "my_potentials.py").write_text("from ase.calculators.emt import EMT\ndef make():\n    return EMT()\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert isinstance(load_calculator("my_potentials:make", None, None, None), EMT)
    assert sys.path == before
    sys.modules.pop("my_potentials")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("EMT", None, None, None), "must be module:Class"),
        ((":EMT", None, None, None), "must be module:Class"),
        (("no_such_module:EMT", None, None, None), "cannot be imported"),
        (("ase.calculators.emt:Nothing", None, None, None), "no class or function Nothing"),
        (("ase.data:chemical_symbols", None, None, None), "no class or function"),
        (("ase.calculators.singlepoint:SinglePointCalculator", None, None, None), "without arguments"),
        (("ase.calculators.emt:EMT", "default", None, "float64"), "--model, --dtype"),
    ],
)
def test_calculators_that_cannot_be_had(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_calculator(*arguments)


def test_output_folder(tmp_path):
    prepare_folder(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write to the output folder"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(ValueError, match="Cannot write to the output folder"):
        prepare_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser can write anywhere")
def test_read_only_output_folder(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(ValueError, match="Permission denied"):
        prepare_folder(tmp_path / "locked")


def test_names_come_from_stems_and_differ():
    assert stem_of(Path("data/NaCl.cif.gz")) == "NaCl" and stem_of(Path("POSCAR")) == "POSCAR"
    names = OutputNames([Path("a/POSCAR"), Path("b/POSCAR"), Path("x/CO.xyz"), Path("x/CO.pdb"), Path("NaCl.cif")])
    assert names.name(Path("a/POSCAR")) == "a_POSCAR" and names.name(Path("b/POSCAR")) == "b_POSCAR"
    assert names.name(Path("x/CO.xyz")) == "CO_xyz" and names.name(Path("x/CO.pdb")) == "CO_pdb"
    assert names.name(Path("NaCl.cif"), 3) == "NaCl_0003"
    assert names.name(Path("NaCl.cif")) == "NaCl" and names.name(Path("NaCl.cif")) == "NaCl-2"
    same = [Path("p/x/CO.xyz"), Path("q/x/CO.xyz"), Path("q/x/CO.pdb")]
    names = OutputNames(same)
    assert len({names.name(path) for path in same}) == 3


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.cif", ["out.cif", "out.extxyz"]),
        ("POSCAR", ["out", "out.extxyz"]),
        ("a.vasp", ["out.vasp", "out.extxyz"]),
        ("a.xyz", ["out.xyz"]),
        ("a.extxyz", ["out.extxyz"]),
        ("a.traj", ["out.extxyz"]),
        ("a.json", ["out.extxyz"]),
    ],
)
def test_structures_leave_in_the_format_they_came_in(tmp_path, source, expected):
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    write(tmp_path / source, atoms, format="vasp" if source == "a.vasp" else None)
    written = write_structure(atoms, tmp_path, "out", tmp_path / source)
    assert [path.name for path in written] == expected
    for path in written:
        again = read(path, format="vasp" if path.suffix in ("", ".vasp") else None)
        assert again.get_volume() == pytest.approx(atoms.get_volume(), rel=1e-5)


def test_compressed_input(tmp_path):
    write(tmp_path / "a.cif", bulk("Cu"))
    with open(tmp_path / "a.cif", "rb") as plain, gzip.open(tmp_path / "a.cif.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    (frame,) = read_frames(tmp_path / "a.cif.gz")
    assert [path.name for path in write_structure(frame.atoms, tmp_path, "out", frame.path)] == [
        "out.cif",
        "out.extxyz",
    ]


def test_results_travel_in_extxyz(tmp_path):
    atoms = molecule("CO")
    atoms.calc = EMT()
    forces = atoms.get_forces()
    write(tmp_path / "a.xyz", atoms)
    (path,) = write_structure(atoms, tmp_path, "out", tmp_path / "a.xyz")
    again = read(path)
    assert again.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    np.testing.assert_allclose(again.get_forces(), forces, atol=1e-7)


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant|Out of range"):
        write_json(tmp_path / "a.json", {"energy": math.nan})
