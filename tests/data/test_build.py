"""Building stores: masking, broken frames, splits without a common material, and nothing half done."""

from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.io import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forcefield.data.build import SplitOptions, build_stores
from forcefield.data.checks import OVERLAP, may_overlap, refuse_broken
from forcefield.data.frames import Frame, frame_from_atoms
from forcefield.data.materials import in_validation, reduced_formula
from forcefield.data.store import FrameStore, folder_when_complete, npy_header, write_store
from forcefield.structures import close_contacts

ELEMENTS = ("Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Al", "Pb")


def crystal(element: str, seed: int, *, material: str = "", labels: tuple[str, ...] = ("energy", "forces")) -> Atoms:
    atoms = bulk(element) * (1, 1, 1 + seed % 3)
    atoms.rattle(0.05, seed=seed)
    rng = np.random.default_rng(seed)
    known = {"energy": float(rng.normal()), "forces": rng.normal(size=(len(atoms), 3)), "stress": rng.normal(size=6)}
    atoms.calc = SinglePointCalculator(atoms, **{name: known[name] for name in labels})
    if material:
        atoms.info["material"] = material
    return atoms


def materials(store: FrameStore) -> set[str]:
    return {store.frame(k).material for k in range(len(store))}


def test_missing_labels_are_masked(tmp_path):
    write(tmp_path / "a.xyz", [crystal("Cu", 0), crystal("Cu", 1, labels=("energy",))], format="extxyz")
    write(tmp_path / "b.traj", [crystal("Cu", 2, labels=("energy", "stress")), crystal("Ag", 3, labels=("forces",))])
    report = build_stores([tmp_path / "a.xyz", tmp_path / "b.traj"], tmp_path / "store", cutoff=4.0)
    store = FrameStore(tmp_path / "store")
    assert report.frames == [4] and report.labelled["energy"] == 3 and report.labelled["stress"] == 1
    assert [store.frame(k).forces is None for k in range(4)] == [False, True, True, False]
    assert [store.frame(k).stress is None for k in range(4)] == [True, True, False, True]
    assert np.isnan(store.arrays["energy"][3])
    assert materials(store) == {"formula Cu", "formula Ag"}
    assert store.made["files"] == [str(tmp_path / "a.xyz"), str(tmp_path / "b.traj")]


def test_magnetic_moments_are_stored_where_there_are_some(tmp_path):
    frame = frame_from_atoms(crystal("Ni", 1))
    magnetic = dataclasses.replace(frame, magmoms=np.array([0.5, 0.75]))
    store = write_store(tmp_path / "some", [frame, magnetic], 4.0)
    assert store.frame(0).magmoms is None
    np.testing.assert_array_equal(store.frame(1).magmoms, [0.5, 0.75])
    assert "magmoms" not in write_store(tmp_path / "none", [frame], 4.0).arrays


def test_broken_frames_stop_a_build_or_are_skipped_and_counted(tmp_path):
    bad = crystal("Cu", 1)
    bad.calc.results["energy"] = np.nan
    write(tmp_path / "a.traj", [crystal("Cu", 0), bad, crystal("Cu", 2), bad])
    with pytest.raises(ValueError, match=r"a.traj #1: energy holds 1 NaN.*--skip-bad"):
        build_stores([tmp_path / "a.traj"], tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["a.traj"]
    report = build_stores([tmp_path / "a.traj"], tmp_path / "store", skip_bad=True)
    assert report.frames == [2] and report.skipped == 2 and "a.traj #3" in report.faults[1]
    write(tmp_path / "bad.traj", [bad])
    with pytest.raises(ValueError, match="no frame to store.*1 broken"):
        build_stores([tmp_path / "bad.traj"], tmp_path / "other", skip_bad=True)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_material_is_on_both_sides(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("split")
    names = st.sampled_from(["", "m1", "m2", "m3", "m4", "m5", "m6"])
    drawn = data.draw(
        st.lists(st.tuples(st.sampled_from(ELEMENTS), names, st.integers(0, 50)), min_size=4, max_size=24)
    )
    split = SplitOptions(
        0.5, seed=data.draw(st.integers(0, 5)), split_by=data.draw(st.sampled_from(["material", "formula"]))
    )
    structures = [crystal(element, seed, material=name) for element, name, seed in drawn]
    write(folder / "a.xyz", structures, format="extxyz")
    try:
        report = build_stores([folder / "a.xyz"], folder / "pair", cutoff=3.0, split=split)
    except ValueError as error:
        assert "part is empty" in str(error) and not (folder / "pair").exists()
        return
    train, validation = (FrameStore(folder / "pair" / part) for part in ("train", "validation"))
    assert len(train) + len(validation) == len(drawn) == sum(report.frames)
    if split.split_by == "material":
        assert not materials(train) & materials(validation)
    formulas = [{reduced_formula(s.frame(k).numbers) for k in range(len(s))} for s in (train, validation)]
    if split.split_by == "formula":
        assert not formulas[0] & formulas[1]


def test_a_split_depends_on_name_and_seed_only():
    names = [f"mp-{k}" for k in range(4000)]
    first = [in_validation(name, 0.1, 0) for name in names]
    assert abs(np.mean(first) - 0.1) < 0.02
    assert first == [in_validation(name, 0.1, 0) for name in names]
    larger = [in_validation(name, 0.2, 0) for name in names]
    assert all(b for a, b in zip(first, larger, strict=True) if a)  # a larger share keeps what was there
    assert first != [in_validation(name, 0.1, 1) for name in names]


def eight_files(folder):
    folder.mkdir()
    files = [folder / f"{k}.traj" for k in range(8)]
    for k, file in enumerate(files):
        write(file, [crystal("Cu", k), crystal("Cu", k + 1)])
    return files


def test_split_by_file_does_not_depend_on_where_the_files_lie(tmp_path):
    split = SplitOptions(0.5, split_by="file")
    positions = []
    for place in ("here", "there"):
        build_stores(eight_files(tmp_path / place), tmp_path / f"{place} stores", split=split)
        positions.append(FrameStore(tmp_path / f"{place} stores" / "validation").arrays["positions"].copy())
    np.testing.assert_array_equal(*positions)


def test_split_by_file_and_empty_sides(tmp_path):
    files = eight_files(tmp_path / "files")
    with pytest.raises(ValueError, match="part is empty: 1 group by material"):
        build_stores(files, tmp_path / "pair", split=SplitOptions(0.4))
    report = build_stores(files, tmp_path / "pair", split=SplitOptions(0.4, split_by="file"))
    assert sum(report.frames) == 16 and all(frames % 2 == 0 and frames > 0 for frames in report.frames)
    for wrong in ({"validation": 1.0}, {"validation": -0.1}, {"split_by": "frame"}):
        with pytest.raises(ValueError, match="but must be"):
            SplitOptions(**wrong)


def test_elements_of_the_validation_part_alone_are_reported(tmp_path):
    frames = [crystal(element, k) for element in ELEMENTS for k in range(3)]
    write(tmp_path / "metals.extxyz", frames, format="extxyz")
    report = build_stores([tmp_path / "metals.extxyz"], tmp_path / "pair", split=SplitOptions(0.4))
    alone = FrameStore(tmp_path / "pair" / "validation")
    assert report.only_in_validation == [chemical_symbols[number] for number in sorted(alone.elements)]
    assert report.only_in_validation
    assert not build_stores([tmp_path / "metals.extxyz"], tmp_path / "single").only_in_validation


def test_what_exists_is_not_touched(tmp_path):
    write(tmp_path / "a.traj", crystal("Cu", 0))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine").write_text("x")
    with pytest.raises(FileExistsError, match="give a new folder"):
        build_stores([tmp_path / "a.traj"], tmp_path / "store")
    assert (tmp_path / "store" / "mine").read_text() == "x"


FULL_DISK = """
import resource, sys
from pathlib import Path
from forcefield.data.build import SplitOptions, build_stores
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    build_stores([sys.argv[1]], sys.argv[2], cutoff=6.0, split=SplitOptions(0.5))
except OSError as error:
    print(error.errno)
"""


@pytest.mark.parametrize("limit", [9000, 100])  # while frames are added, and when the arrays are completed
def test_a_full_disk_leaves_nothing(tmp_path, limit):
    """A limit on the size of a file is what a full disk looks like to a process that may not mount one."""
    write(tmp_path / "a.traj", [crystal(element, k) for k, element in enumerate(ELEMENTS * 10)])
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.traj"), str(tmp_path / "pair"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (str(errno.EFBIG), str(errno.ENOSPC))
    assert [path.name for path in tmp_path.iterdir()] == ["a.traj"]


KILLED = """
import os, sys
from forcefield.data.frames import Frame
import forcefield.data.build as build
real = build.StoreWriter.append
def append(self, frame, **options):
    real(self, frame, **options)
    if self.rows["frames"] == 5:
        os.kill(os.getpid(), 9)
build.StoreWriter.append = append
build.build_stores([sys.argv[1]], sys.argv[2])
"""


def test_a_killed_build_leaves_no_store_and_can_be_repeated(tmp_path):
    write(tmp_path / "a.traj", [crystal("Cu", k) for k in range(8)])
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.traj"), str(tmp_path / "store")], check=False)
    partial = tmp_path / "store.partial"
    assert partial.is_dir() and not (tmp_path / "store").exists()
    with pytest.raises(ValueError, match="no frame store"):
        FrameStore(partial)
    build_stores([tmp_path / "a.traj"], tmp_path / "store")
    assert len(FrameStore(tmp_path / "store")) == 8 and not partial.exists()


def test_folder_appears_only_after_a_good_end(tmp_path):
    with pytest.raises(RuntimeError), folder_when_complete(tmp_path / "new") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with folder_when_complete(tmp_path / "new") as folder:
        (folder / "whole").touch()
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "whole").exists()


@pytest.mark.parametrize("shape", [(0, 3), (7,), (123456789012, 3), (1, 3, 3)])
def test_array_headers_are_numpys(tmp_path, shape):
    import numpy.lib.format as npy

    (tmp_path / "a.npy").write_bytes(npy_header("<f4", shape))
    with (tmp_path / "a.npy").open("rb") as file:
        assert npy.read_magic(file) == (1, 0)
        assert npy.read_array_header_1_0(file) == (shape, False, np.dtype("<f4"))
        assert file.tell() == 128


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_the_quick_look_never_misses_an_overlap(seed, pbc):
    """Against the full search with a cell list, for random cells with an atom put next to an image of another."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(0.8, 5.0, 3)) + rng.normal(scale=0.8, size=(3, 3))
    n = int(rng.integers(1, 6))
    positions = rng.random((n, 3)) @ cell
    if rng.random() < 0.5:
        image = rng.integers(-2, 3, 3) * np.array(pbc)
        positions = np.vstack([positions, positions[0] + image @ cell + rng.normal(scale=0.05, size=3)])
    frame = Frame(rng.choice([1, 8, 55], len(positions)), positions, cell, np.array(pbc))
    atoms = Atoms(frame.numbers, positions, cell=cell, pbc=pbc)
    try:
        refuse_broken(dataclasses.replace(frame))
        refused = False
    except ValueError as error:
        refused = "overlap" in str(error)
        if not refused:
            return
    assert refused == bool(close_contacts(atoms, factor=OVERLAP))
    if refused:
        assert may_overlap(frame)


def test_older_stores_are_read(tmp_path):
    """A store of the first version has neither `made` nor magnetic moments."""
    import json

    write_store(tmp_path / "old", [frame_from_atoms(crystal("Cu", 0))], 4.0)
    header = json.loads((tmp_path / "old" / "store.json").read_text())
    del header["made"]
    Path(tmp_path / "old" / "store.json").write_text(json.dumps(header))
    store = FrameStore(tmp_path / "old")
    assert store.made == {} and store.frame(0).magmoms is None
