"""Readers of MPtrj's JSON and of pymatgen's entries, against files that pymatgen wrote or that are written out here."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.data.labels import ReadOptions
from forcefield.data.readers import format_of, read_entries_of, read_frames
from forcefield.units import KBAR


def structure_dict(atoms: Atoms) -> dict:
    from pymatgen.io.ase import AseAtomsAdaptor

    return AseAtomsAdaptor.get_structure(atoms).as_dict()


def mptrj(structures: list[Atoms]) -> dict:
    """The layout of MPtrj: stress in kbar, positive under pressure."""
    frames = {}
    for k, atoms in enumerate(structures):
        xx, yy, zz, yz, xz, xy = -atoms.calc.results["stress"] / KBAR
        frames[f"mp-1-0-{k}"] = {
            "structure": structure_dict(atoms.copy()),
            "uncorrected_total_energy": atoms.calc.results["energy"],
            "corrected_total_energy": atoms.calc.results["energy"] - 1,
            "energy": atoms.calc.results["energy"] - 2,
            "force": atoms.calc.results["forces"].tolist(),
            "stress": [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]],
            "magmom": [0.5] * len(atoms),
            "bandgap": 0.0,
        }
    return {"mp-1": frames, "mp-2": {"mp-2-0-0": {**frames["mp-1-0-0"], "stress": None, "magmom": None, "force": None}}}


@pytest.mark.parametrize("packing", [False, True])
def test_mptrj_layout(structures, tmp_path, packing, assert_same):
    pytest.importorskip("pymatgen")
    content = json.dumps(mptrj(structures[:2])).encode()
    path = tmp_path / ("MPtrj.json.gz" if packing else "MPtrj.json")
    path.write_bytes(gzip.compress(content) if packing else content)
    options = ReadOptions()
    frames = list(read_frames(path, options=options))
    for frame, atoms in zip(frames[:2], structures[:2], strict=True):
        assert frame.material == "mp-1"
        np.testing.assert_allclose(frame.magmoms, 0.5)
        wanted = atoms.copy()
        wanted.calc = SinglePointCalculator(wanted, **atoms.calc.results, magmoms=np.full(len(atoms), 0.5))
        assert_same(frame, wanted, 1e-6)
    assert frames[2].material == "mp-2" and frames[2].stress is frames[2].forces is frames[2].magmoms is None
    assert options.found["stress", "stress", "-kbar"] == 2
    corrected = next(read_frames(path, options=ReadOptions(energy="corrected_total_energy")))
    assert corrected.energy == pytest.approx(frames[0].energy - 1)
    with pytest.raises(ValueError, match="must be one of uncorrected_total_energy"):
        next(read_frames(path, options=ReadOptions(energy="free")))


def test_broken_mptrj_frames_are_named(structures, tmp_path):
    pytest.importorskip("pymatgen")
    content = mptrj(structures[:2])
    del content["mp-1"]["mp-1-0-0"]["structure"]
    content["mp-1"]["mp-1-0-1"]["force"] = [[0.0, 0.0]]
    text = json.dumps(content)
    (tmp_path / "a.json").write_text(text)
    entries = list(read_entries_of(tmp_path / "a.json"))
    assert [(entry.place, entry.frame is None) for entry in entries] == [
        ("mp-1/mp-1-0-0", True),
        ("mp-1/mp-1-0-1", True),
        ("mp-2/mp-2-0-0", False),
    ]
    assert "structure" in entries[0].fault and "forces has shape (1, 2)" in entries[1].fault
    (tmp_path / "a.json").write_text(text[:-20])
    assert "ends too early" in list(read_entries_of(tmp_path / "a.json"))[-1].fault


def test_computed_structure_entries_of_pymatgen(structures, tmp_path):
    entries_module = pytest.importorskip("pymatgen.entries.computed_entries")
    from monty.serialization import dumpfn
    from pymatgen.io.ase import AseAtomsAdaptor

    entries = [
        entries_module.ComputedStructureEntry(
            AseAtomsAdaptor.get_structure(atoms.copy()),
            atoms.calc.results["energy"],
            correction=-3.0,
            entry_id=f"mp-{k}",
            data={"material_id": f"mp-{k}"},
        )
        for k, atoms in enumerate(structures[:2])
    ]
    dumpfn(entries, tmp_path / "list.json")
    dumpfn(entries, tmp_path / "list.json.gz")
    dumpfn({"entries": entries}, tmp_path / "dict.json")
    for name in ("list.json", "list.json.gz", "dict.json"):
        assert format_of(tmp_path / name) == "entries"
        frames = list(read_frames(tmp_path / name))
        for k, (frame, atoms) in enumerate(zip(frames, structures[:2], strict=True)):
            assert frame.energy == pytest.approx(atoms.calc.results["energy"])  # without the correction
            assert frame.material == f"mp-{k}" and frame.forces is None
            np.testing.assert_allclose(frame.positions, atoms.positions, atol=1e-9)


def test_entries_with_forces_need_their_unit_named(structures, tmp_path):
    pytest.importorskip("pymatgen")
    content = mptrj(structures[:2])["mp-1"]["mp-1-0-1"]
    item = {"structure": content["structure"], "energy": -1.0, "forces": content["force"], "stress": content["stress"]}
    (tmp_path / "a.json").write_text(json.dumps([item]))
    with pytest.raises(ValueError, match="--units stress=-kbar"):
        list(read_frames(tmp_path / "a.json"))
    keys = {"forces": "forces", "stress": "stress"}
    (frame,) = read_frames(tmp_path / "a.json", options=ReadOptions(keys=keys))
    np.testing.assert_allclose(frame.stress, structures[1].calc.results["stress"], atol=1e-9)
