"""The file of finished relaxations: what it gives back, and what survives a kill at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from forcefield.calculator import GNNCalculator
from forcefield.workflows.batched import relax_each, relax_many
from forcefield.workflows.batched.store import structure_key

OPTIONS = {"cell": None, "fmax": 0.05, "smax": 1.0, "steps": 15}


@pytest.fixture(scope="module")
def calculator(tiny_model):
    return GNNCalculator(tiny_model, dtype="float64", device="cpu")


def structures():
    held = bulk("Cu", a=3.7, cubic=True)
    held.rattle(0.1, seed=1)
    held.set_constraint(FixAtoms([0]))
    water = molecule("H2O")
    water.rattle(0.1, seed=2)
    return [held, water, bulk("Si", a=5.2), bulk("Au"), Atoms("Cu", cell=[2, 2, 0], pbc=True)]


def test_finished_relaxations_come_back_unchanged(calculator, tmp_path):
    first = relax_many(structures(), calculator, store=tmp_path / "done.jsonl", **OPTIONS)
    again = relax_many(structures()[::-1], calculator, store=tmp_path / "done.jsonl", **OPTIONS)[::-1]
    for before, after in zip(first, again, strict=True):
        assert (before.route, after.route) == ("batch", "stored")
        assert before.error == after.error and before.reason == after.reason
        if before.result is None:
            continue
        assert after.result.to_dict() == before.result.to_dict()
        assert after.result.atoms == before.result.atoms
        np.testing.assert_array_equal(after.result.atoms.get_forces(), before.result.atoms.get_forces())
        assert list(map(repr, after.result.atoms.constraints)) == list(map(repr, before.result.atoms.constraints))
    assert [outcome.result is None for outcome in first] == [False, False, False, True, True]


def test_only_what_is_new_is_computed(calculator, tmp_path):
    relax_many(structures()[:2], calculator, store=tmp_path / "done.jsonl", **OPTIONS)
    outcomes = relax_many(structures(), calculator, store=tmp_path / "done.jsonl", **OPTIONS)
    assert [outcome.route for outcome in outcomes] == ["stored", "stored", "batch", "batch", "batch"]


def test_another_structure_is_not_taken_for_the_same(calculator):
    held, water, *_ = structures()
    moved, free, magnetic = held.copy(), held.copy(), held.copy()
    moved.positions[1, 0] += 1e-9
    free.set_constraint()
    magnetic.set_initial_magnetic_moments([1.0] * len(magnetic))
    keys = [structure_key(atoms) for atoms in (held, water, moved, free, magnetic)]
    assert len(set(keys)) == 5 and structure_key(held.copy()) == keys[0]
    assert structure_key(held, "another calculator") != keys[0]


def test_a_line_cut_short_is_computed_again(calculator, tmp_path):
    path = tmp_path / "done.jsonl"
    relax_many(structures(), calculator, store=path, **OPTIONS)
    whole = path.read_bytes()
    last_line = whole[:-1].rfind(b"\n") + 1
    for cut in (last_line + 5, len(whole) - 1):
        path.write_bytes(whole[:cut])
        outcomes = relax_many(structures(), calculator, store=path, **OPTIONS)
        assert sum(outcome.route == "stored" for outcome in outcomes) == 4
        keys = [
            {json.loads(line).get("structure") for line in text.splitlines()} for text in (path.read_bytes(), whole)
        ]
        assert keys[0] == keys[1] and len(path.read_bytes().splitlines()) == len(whole.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"fmax": 0.1}, "other settings: options"), ({"cell": False}, "other settings: options")],
)
def test_other_options_are_refused(calculator, tmp_path, change, message):
    relax_many(structures()[:1], calculator, store=tmp_path / "done.jsonl", **OPTIONS)
    with pytest.raises(ValueError, match=message):
        relax_each([], calculator, store=tmp_path / "done.jsonl", **{**OPTIONS, **change})
    with pytest.raises(ValueError, match=r"other settings: calculator .*EMT"):
        relax_each([], EMT(), store=tmp_path / "done.jsonl", **OPTIONS)


def test_another_file_is_left_alone(calculator, tmp_path):
    (tmp_path / "notes.txt").write_text("my notes\n")
    with pytest.raises(ValueError, match="holds no relaxations"):
        relax_each([], calculator, store=tmp_path / "notes.txt", **OPTIONS)
    assert (tmp_path / "notes.txt").read_text() == "my notes\n"


def test_interrupted_ones_are_not_kept(calculator, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    options = {**OPTIONS, "fmax": 1e-6}
    outcomes = relax_many(structures()[:2], calculator, store=tmp_path / "done.jsonl", callback=stop, **options)
    assert {outcome.reason for outcome in outcomes} == {"interrupted"}
    assert len((tmp_path / "done.jsonl").read_text().splitlines()) == 1  # the header


KILLED = """
import sys
from ase.build import bulk
from ase.calculators.emt import EMT
from forcefield.workflows.batched import relax_each
copper = [bulk("Cu", a=3.5 + 0.001 * k, cubic=True) for k in range(400)]
for outcome in relax_each(copper, EMT(), store=sys.argv[1], cell=True):
    print(outcome.index, flush=True)
"""


def test_a_killed_process_loses_at_most_what_was_under_way(tmp_path):
    path = tmp_path / "done.jsonl"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(5)]
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        reported += [int(line) for line in process.stdout.read().splitlines() if line]
    copper = [bulk("Cu", a=3.5 + 0.001 * k, cubic=True) for k in range(max(reported) + 1)]
    outcomes = relax_many(copper, EMT(), store=path, cell=True)
    assert {outcome.index for outcome in outcomes if outcome.route == "stored"} >= set(reported)
    assert all(outcome.converged for outcome in outcomes)
