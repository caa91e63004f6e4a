"""The reader of vasprun.xml, against ASE's and against files that are written out here."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from ase.io import read

from forcefield.data.readers import read_entries_of, read_frames
from forcefield.units import KBAR

VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator><i name="program" type="string">vasp</i><i name="version" type="string">5.4.4</i></generator>
 <incar><i type="int" name="NSW">2</i></incar>
 <kpoints><generation param="Gamma"><v type="int" name="divisions">1 1 1</v></generation>
  <varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <parameters><separator name="electronic"><i type="int" name="NELM">{nelm}</i></separator></parameters>
 <atominfo><atoms>2</atoms><types>2</types>
  <array name="atoms"><dimension dim="1">ion</dimension><field type="string">element</field><set>
   <rc><c>Na</c><c>1</c></rc><rc><c>Cl</c><c>2</c></rc></set></array>
  <array name="atomtypes"><dimension dim="1">type</dimension><set>
   <rc><c>1</c><c>Na</c><c>22.99</c><c>1.0</c><c>PAW_PBE Na</c></rc>
   <rc><c>1</c><c>Cl</c><c>35.45</c><c>7.0</c><c>PAW_PBE Cl</c></rc></set></array>
 </atominfo>
 <structure name="initialpos">{structure}</structure>
{steps}
</modeling>
"""
STRUCTURE = """<crystal><varray name="basis"><v>0 2.8 2.8</v><v>2.8 0 2.8</v><v>2.8 2.8 0</v></varray>
  <i name="volume">43.9</i></crystal><varray name="positions"><v>0 0 0</v><v>0.5 0.5 {z}</v></varray>"""
STEP = """ <calculation>
  <scstep><energy><i name="e_fr_energy">-7.0</i><i name="e_wo_entrp">-7</i><i name="e_0_energy">-7</i></energy></scstep>
  <scstep><energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy></scstep>
  <structure>{structure}</structure>
  <varray name="forces"><v>0.1 0 {f}</v><v>-0.1 0 -0.2</v></varray>
  <varray name="stress"><v>10 1 2</v><v>1 20 3</v><v>2 3 30</v></varray>
  <energy><i name="e_fr_energy">{free}</i><i name="e_wo_entrp">9</i><i name="e_0_energy">{wrong}</i></energy>
 </calculation>"""


def vasprun(nelm: int = 60, force: str = "0.2") -> str:
    """Two ionic steps; as VASP 5 has it, the last energy behind a step is not the one of zero smearing."""
    steps = []
    for z, free, zero in ((0.5, -8.0, -7.9), (0.51, -8.5, -8.4)):
        structure = STRUCTURE.format(z=z)
        steps.append(STEP.format(structure=structure, free=free, zero=zero, wrong=-99.0, f=force))
    return VASPRUN.format(nelm=nelm, structure=STRUCTURE.format(z=0.5), steps="\n".join(steps))


@pytest.mark.parametrize("packing", [False, True])
def test_vasprun_steps_as_ase_reads_them(tmp_path, packing):
    (tmp_path / "vasprun.xml").write_text(vasprun())
    path = tmp_path / "vasprun.xml"
    if packing:
        path = tmp_path / "run_vasprun.xml.gz"
        path.write_bytes(gzip.compress(vasprun().encode()))
    frames = list(read_frames(path))
    assert [frame.energy for frame in frames] == pytest.approx([-7.9, -8.4])
    np.testing.assert_allclose(frames[0].stress, -np.array([10, 20, 30, 3, 2, 1]) * KBAR)
    for frame, atoms in zip(frames, read(tmp_path / "vasprun.xml", ":", format="vasp-xml"), strict=True):
        np.testing.assert_allclose(frame.forces, atoms.calc.results["forces"])
        np.testing.assert_allclose(frame.stress, atoms.calc.results["stress"], rtol=1e-6)
        np.testing.assert_allclose(frame.positions, atoms.positions)
        assert frame.energy == pytest.approx(atoms.calc.results["energy"])
        np.testing.assert_array_equal(frame.numbers, [11, 17])


def test_vasprun_faults(tmp_path):
    path = tmp_path / "vasprun.xml"
    path.write_text(vasprun(nelm=2))
    assert all("NELM = 2" in entry.fault for entry in read_entries_of(path))
    path.write_text(vasprun(force="******"))
    assert all("forces" in entry.fault for entry in read_entries_of(path))
    text = vasprun()
    path.write_text(text[: text.rindex('<varray name="forces">')])
    entries = list(read_entries_of(path))
    assert [entry.frame is None for entry in entries] == [False, True] and "cut short" in entries[1].fault
