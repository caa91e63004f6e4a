"""Labelling: exact, in order, whatever is killed or fails on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

import forcefield
from forcefield.data.fingerprint import fingerprint
from forcefield.data.frames import Frame, frame_from_atoms
from forcefield.data.label import label_frames, labelled
from forcefield.data.label_file import scan_labelled
from forcefield.data.readers.entry import Entry

ROOT = str(Path(forcefield.__file__).parents[1])


def crystal(seed: int) -> Frame:
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.symbols[seed % 4] = "Au"
    atoms.rattle(0.1, seed=seed)
    return frame_from_atoms(atoms, kind="rattled alloy", material=f"m {seed}")


def inputs(count: int) -> list[Entry]:
    return [Entry(f"in.extxyz #{k}", crystal(k)) for k in range(count)]


class Fussy(Calculator):
    """Fails for cells with gold in the second place."""

    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if self.atoms.symbols[1] == "Au":
            raise RuntimeError("no\nconvergence")
        self.results = {"energy": 1.0, "forces": np.zeros((len(self.atoms), 3))}


def test_labels_are_those_of_the_calculator():
    frame = crystal(1)
    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
    found = labelled(replace(frame, energy=5.0, magmoms=np.ones(4)), EMT())
    assert found.energy == atoms.get_potential_energy() and found.magmoms is None
    np.testing.assert_array_equal(found.forces, atoms.get_forces())
    np.testing.assert_array_equal(found.stress, atoms.get_stress())
    np.testing.assert_array_equal(found.atomic_energies, atoms.get_potential_energies())
    assert (found.kind, found.material) == ("rattled alloy", "m 1")


def test_what_a_calculator_or_structure_has_not_is_left_out():
    no_stress = labelled(crystal(0), Fussy())
    assert no_stress.stress is None and no_stress.atomic_energies is None
    gas = labelled(frame_from_atoms(molecule("CO")), EMT())
    assert gas.stress is None and gas.atomic_energies is not None
    assert labelled(crystal(0), LennardJones()).stress is not None


def test_a_label_that_is_not_finite_is_refused():
    class Broken(Fussy):
        def calculate(self, *arguments, **options):
            super().calculate(*arguments, **options)
            self.results["forces"][0, 0] = np.nan

    with pytest.raises(ValueError, match="forces that are not finite"):
        labelled(crystal(0), Broken())


@pytest.mark.parametrize("workers", [1, 2])
def test_file_holds_all_frames_in_order_with_their_origin(tmp_path, workers):
    frames = inputs(6)
    tally = label_frames(frames, tmp_path / "out.extxyz", factory=EMT, labelled_by="EMT", workers=workers)
    assert (tally.written, tally.skipped, tally.failures, tally.done) == (6, 0, [], 6)
    for k, (atoms, (_, frame, _)) in enumerate(zip(read(tmp_path / "out.extxyz", ":"), frames, strict=True)):
        expected = labelled(frame, EMT())
        assert atoms.get_potential_energy() == expected.energy
        np.testing.assert_allclose(atoms.positions, frame.positions, atol=1e-8)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-8)
        np.testing.assert_allclose(atoms.get_stress(), expected.stress, atol=1e-12)
        np.testing.assert_allclose(atoms.calc.results["energies"], expected.atomic_energies, atol=1e-8)
        assert (atoms.info["kind"], atoms.info["material"]) == ("rattled alloy", f"m {k}")
        mark = fingerprint(frame.numbers, frame.positions, frame.cell, frame.pbc)
        assert (atoms.info["label_index"], atoms.info["label_hash"]) == (k, f"sha256-{mark}")
    assert not list(tmp_path.glob("*.failures*"))


def test_failures_are_recorded_tried_again_and_stop_nothing(tmp_path):
    output = tmp_path / "out.extxyz"
    tally = label_frames(inputs(6), output, factory=Fussy, labelled_by="mine")
    assert tally.written == 4 and [index for index, _ in tally.failures] == [1, 5]
    lines = [json.loads(line) for line in (tmp_path / "out.extxyz.failures.jsonl").read_text().splitlines()]
    assert lines[0] == {"index": 1, "place": "in.extxyz #1", "reason": "RuntimeError: no convergence"}
    again = label_frames(inputs(6), output, factory=EMT, labelled_by="mine")
    assert (again.written, again.skipped, again.failures) == (2, 4, [])
    assert sorted(atoms.info["label_index"] for atoms in read(output, ":")) == list(range(6))
    assert not list(tmp_path.glob("*.failures*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_entry_that_could_not_be_read_is_a_failure_and_keeps_its_number(tmp_path, workers):
    entries = [Entry("in.extxyz #0", None, "line 1: nonsense"), *inputs(1)]
    tally = label_frames(entries, tmp_path / "out.extxyz", factory=EMT, labelled_by="EMT", workers=workers)
    assert tally.failures == [(0, "in.extxyz #0: line 1: nonsense")] and tally.written == 1
    assert list(scan_labelled(tmp_path / "out.extxyz", "EMT")[0]) == [1]


def test_a_file_cut_anywhere_is_repaired(tmp_path):
    whole, cut = tmp_path / "whole.extxyz", tmp_path / "cut.extxyz"
    label_frames(inputs(3), whole, factory=EMT, labelled_by="EMT")
    content = whole.read_bytes()
    for end in [0, 1, 2, 50, 300, len(content) // 2, len(content) - 40, len(content) - 1, len(content)]:
        cut.write_bytes(content[:end])
        kept = len(scan_labelled(cut, "EMT")[0])
        tally = label_frames(inputs(3), cut, factory=EMT, labelled_by="EMT")
        assert cut.read_bytes() == content, end
        assert (tally.skipped, tally.written) == (kept, 3 - kept)
        assert kept == content[:end].count(b"\n") // 6


def test_labelling_again_does_nothing(tmp_path):
    for _ in range(2):
        tally = label_frames(inputs(3), tmp_path / "out.extxyz", factory=EMT, labelled_by="EMT")
    assert (tally.written, tally.skipped) == (0, 3)
    known, end = scan_labelled(tmp_path / "out.extxyz", "EMT")
    assert sorted(known) == [0, 1, 2] and end == (tmp_path / "out.extxyz").stat().st_size


@pytest.mark.parametrize("content", [b"3\nmine\n" + b"H 0 0 0\n" * 3, b'{"a": 1}', b"text\n"])
def test_other_peoples_files_are_not_touched(tmp_path, content):
    (tmp_path / "out.extxyz").write_bytes(content)
    with pytest.raises(ValueError, match="labelling has not written"):
        label_frames(inputs(1), tmp_path / "out.extxyz", factory=EMT, labelled_by="EMT")
    assert (tmp_path / "out.extxyz").read_bytes() == content


def test_another_input_calculator_or_no_resume_is_refused(tmp_path):
    output = tmp_path / "out.extxyz"
    label_frames(inputs(3), output, factory=EMT, labelled_by='a "special" calculator')
    before = output.read_bytes()
    with pytest.raises(ValueError, match='labels of a "special" calculator, not of EMT'):
        label_frames(inputs(3), output, factory=EMT, labelled_by="EMT")
    with pytest.raises(ValueError, match="made from another input: its frame number 1 is not that of in.extxyz #2"):
        label_frames([inputs(3)[k] for k in (0, 2)], output, factory=EMT, labelled_by='a "special" calculator')
    with pytest.raises(ValueError, match="exists; give another file, or resume"):
        label_frames(inputs(3), output, factory=EMT, labelled_by="EMT", resume=False)
    with pytest.raises(ValueError, match="workers is 0"):
        label_frames(inputs(3), output, factory=EMT, labelled_by="EMT", workers=0)
    assert output.read_bytes() == before


def test_a_calculator_without_stress_says_so():
    atoms = Atoms("Cu", cell=[3, 3, 3], pbc=True, calculator=Fussy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


SCRIPT = """
import sys, time
from ase.calculators.emt import EMT
from ase.build import bulk
from forcefield.data.frames import frame_from_atoms
from forcefield.data.label import label_frames
from forcefield.data.readers.entry import Entry

class Slow(EMT):
    def calculate(self, *arguments, **options):
        time.sleep(0.1)
        super().calculate(*arguments, **options)

def crystal(seed):
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.symbols[seed % 4] = "Au"
    atoms.rattle(0.1, seed=seed)
    return frame_from_atoms(atoms, kind="rattled alloy", material=f"m {seed}")

if __name__ == "__main__":
    frames = [Entry(f"in.extxyz #{k}", crystal(k)) for k in range(16)]
    label_frames(frames, sys.argv[1], factory=Slow, labelled_by="slow", workers=int(sys.argv[2]))
"""


def start(folder: Path, output: str, workers: int) -> subprocess.Popen:
    (folder / "work.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": ROOT}
    command = [sys.executable, "work.py", output, str(workers)]
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.PIPE)


def wait_for_frames(output: Path, count: int) -> None:
    limit = time.monotonic() + 60
    while not output.exists() or output.read_bytes().count(b"label_index") < count:
        assert time.monotonic() < limit
        time.sleep(0.02)


def processes_of(session: int) -> list[str]:
    """Processes that are alive in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = re.sub(r"\(.*\)", "name", stat.read_text()).split()
        except OSError:  # gone meanwhile
            continue
        if int(words[5]) == session and words[2] != "Z":
            found.append(words[0])
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_resumed_it_writes_the_same_file_as_without(tmp_path, workers):
    first = start(tmp_path, "killed.extxyz", workers)
    wait_for_frames(tmp_path / "killed.extxyz", 4)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    written = (tmp_path / "killed.extxyz").read_bytes().count(b"label_index")
    assert 4 <= written < 16
    limit = time.monotonic() + 20
    while processes_of(first.pid):  # no worker survives its parent
        assert time.monotonic() < limit, processes_of(first.pid)
        time.sleep(0.05)
    process = start(tmp_path, "killed.extxyz", workers)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    label_frames(inputs(16), tmp_path / "whole.extxyz", factory=EMT, labelled_by="slow")
    assert (tmp_path / "killed.extxyz").read_bytes() == (tmp_path / "whole.extxyz").read_bytes()


def test_control_c_keeps_what_is_done_and_ends_the_workers(tmp_path):
    process = start(tmp_path, "out.extxyz", 2)
    wait_for_frames(tmp_path / "out.extxyz", 3)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and errors.decode().strip().endswith("KeyboardInterrupt")
    assert errors.count(b"Traceback") == 1, errors.decode()
    frames = read(tmp_path / "out.extxyz", ":")
    assert 3 <= len(frames) < 16 and [atoms.info["label_index"] for atoms in frames] == list(range(len(frames)))


def test_a_worker_that_dies_is_an_error_that_keeps_what_is_done(tmp_path):
    frames = [*inputs(3), Entry("in.extxyz #3", frame_from_atoms(bulk("Al"))), *inputs(40)]
    with pytest.raises(ValueError, match="a worker process died while in.extxyz #"):
        label_frames(frames, tmp_path / "out.extxyz", factory=Deadly, labelled_by="deadly", workers=2)
    known, _ = scan_labelled(tmp_path / "out.extxyz", "deadly")
    assert 3 not in known


def test_a_calculator_that_cannot_be_made_in_a_worker_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="cannot be made in a worker process .RuntimeError: no licence"):
        label_frames(inputs(3), tmp_path / "out.extxyz", factory=no_licence, labelled_by="none", workers=2)
    assert (tmp_path / "out.extxyz").read_bytes() == b""


def no_licence():
    raise RuntimeError("no licence")


class Deadly(EMT):
    """Ends its process at aluminium."""

    def calculate(self, *arguments, **options):
        if "Al" in arguments[0].symbols:
            os._exit(3)
        super().calculate(*arguments, **options)
