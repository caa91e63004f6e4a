"""`forcefield.screen` on this process and on executors of all kinds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

import forcefield
from forcefield import GNNCalculator, screen
from forcefield.screening import run as module
from forcefield.screening import table
from forcefield.screening.run import JOURNAL
from forcefield.workflows import elastic_constants, equation_of_state, relax

EMT_RELAX = {"calculator": EMT, "options": {"fmax": 0.05, "smax": 0.5, "steps": 12}}


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def without_seconds(result):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in result.rows()]


def test_relaxations_are_those_of_the_workflow(crystals, tmp_path):
    result = screen(crystals, "relax", output=tmp_path, **EMT_RELAX)
    assert (result.n_structures, result.n_done, result.n_failed) == (6, 6, 0)
    for (label, atoms), row, found in zip(crystals, rows_of(result.table), result.structures(), strict=True):
        expected = relax(atoms, EMT(), cell=True, **EMT_RELAX["options"])
        assert row["structure"] == label == found.info["label"]
        assert row["verdict"] == expected.reason and row["ok"] == str(expected.converged)
        assert float(row["energy"]) == expected.energy == found.get_potential_energy()
        np.testing.assert_array_equal(found.positions, expected.atoms.positions)
        np.testing.assert_array_equal(found.get_forces(), expected.atoms.get_forces())


def test_other_tasks_are_those_of_the_workflows(tmp_path):
    copper = bulk("Cu", a=3.6)
    options = {"relaxation": "none", "n_volumes": 5}
    row = next(screen([copper], "eos", options=options, calculator=EMT, output=tmp_path / "eos").rows())
    assert row["bulk_modulus"] == equation_of_state(copper, EMT(), **options).bulk_modulus
    row = next(screen([copper], "elastic", calculator=EMT, output=tmp_path / "elastic").rows())
    assert row["moduli.bulk"] == elastic_constants(copper, EMT()).moduli.bulk
    row = next(screen([copper], "predict", calculator=EMT(), output=tmp_path / "predict").rows())
    copper.calc = EMT()
    assert row["energy"] == copper.get_potential_energy() and row["verdict"] == "computed"


def test_default_calculator_is_the_shipped_model(tmp_path):
    copper = bulk("Cu")
    row = next(screen([copper], "predict", output=tmp_path).rows())
    copper.calc = GNNCalculator()
    assert row["energy"] == pytest.approx(copper.get_potential_energy(), abs=1e-6)


def test_processes_give_what_this_process_gives(crystals, tmp_path):
    structures = [*crystals, ("W", bulk("W")), ("broken", ValueError("no such file.")), ("nothing", Atoms())]
    here = screen(structures, "relax", output=tmp_path / "here", **EMT_RELAX)
    there = screen(structures, "relax", 2, output=tmp_path / "there", **EMT_RELAX)
    assert without_seconds(here) == without_seconds(there)
    reasons = dict(there.failures())
    assert set(reasons) == {"W", "broken", "nothing"} and reasons["broken"] == "no such file."


def test_calculator_is_made_once_in_each_worker(tasks, crystals, tmp_path):
    result = screen(crystals, tasks.energy_of, 2, calculator=tasks.CountedEMT, output=tmp_path)
    rows = list(result.rows())
    assert {row["made"] for row in rows} == {1} and len({row["process"] for row in rows}) <= 2
    assert os.getpid() not in {row["process"] for row in rows}


@pytest.mark.parametrize("kind", ["threads", "processes", "function"])
def test_any_executor_of_the_standard_library(tasks, crystals, tmp_path, kind):
    make = {
        "threads": lambda: ThreadPoolExecutor(2),
        "processes": lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")),
        "function": lambda: partial(ThreadPoolExecutor, 2),
    }[kind]()
    result = screen(crystals, tasks.volume_of, make, options={"factor": 2.0}, output=tmp_path)
    assert [row["volume"] for row in result.rows()] == [2.0 * atoms.get_volume() for _, atoms in crystals]
    if isinstance(make, Executor):
        assert make.submit(len, "abc").result() == 3  # the user's executor is left open
        make.shutdown()


def test_dask(tasks, crystals, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor(pure=False) as executor,
    ):
        result = screen(crystals, tasks.energy_of, executor, calculator=tasks.CountedEMT, output=tmp_path)
    assert result.n_ok == 6 and {row["made"] for row in result.rows()} == {1}


def test_parsl(tasks, crystals, tmp_path, monkeypatch):
    pytest.importorskip("parsl")
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    monkeypatch.setenv("PATH", os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"])
    workers = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=1, provider=LocalProvider(init_blocks=1, max_blocks=1)
    )
    config = Config(executors=[workers], run_dir=str(tmp_path / "parsl"), usage_tracking=0)
    with ParslPoolExecutor(config) as executor:
        result = screen(crystals, tasks.energy_of, executor, calculator=tasks.CountedEMT, output=tmp_path / "out")
    assert result.n_ok == 6 and {row["made"] for row in result.rows()} == {1}


def test_structures_are_taken_as_room_comes_up(tasks, tmp_path):
    taken = []

    class Counting(Executor):
        """Finishes a structure only when the next cannot be taken."""

        most = 0

        def submit(self, function, /, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

    def structures():
        for number in range(50):
            taken.append(number)
            yield bulk("Cu", a=3.5 + 0.001 * number)

    seen = []
    screen(
        *(structures(), tasks.volume_of, Counting()),
        in_flight=3,
        output=tmp_path,
        callback=lambda state: seen.append((len(taken) - state.done, state.running)),
    )
    assert len(seen) == 50 and max(ahead for ahead, _ in seen) <= 3 and max(running for _, running in seen) <= 3


def test_again_does_only_what_is_missing(tasks, crystals, tmp_path):
    screen(crystals[:4], tasks.volume_of, output=tmp_path)
    again = screen(crystals[::-1], tasks.volume_of, output=tmp_path)
    assert again.n_known == 4 and [row["structure"] for row in again.rows()] == [name for name, _ in crystals[::-1]]
    assert again.n_done == 6
    with pytest.raises(ValueError, match="options .* Name another folder"):
        screen(crystals, tasks.volume_of, options={"factor": 3.0}, output=tmp_path)
    (tmp_path / "other" / JOURNAL).parent.mkdir()
    (tmp_path / "other" / JOURNAL).write_text("something else\n")
    with pytest.raises(ValueError, match="no file of a screening"):
        screen(crystals, tasks.volume_of, output=tmp_path / "other")


def test_line_cut_short_by_a_kill_is_done_again(tasks, crystals, tmp_path):
    whole = list(screen(crystals, tasks.volume_of, output=tmp_path).rows())
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])
    again = screen(crystals, tasks.volume_of, output=tmp_path)
    assert again.n_known == 5 and [row["volume"] for row in again.rows()] == [row["volume"] for row in whole]


@pytest.mark.parametrize("executor", [None, 1])
def test_warnings_are_lines_of_their_structure(tasks, crystals, tmp_path, executor):
    told = []
    result = screen(
        crystals[:2], tasks.warn_twice, calculator=EMT, output=tmp_path, executor=executor, callback=told.append
    )
    assert [record["warnings"] for record in result.records()] == [["strange atoms, Cu4"], ["strange atoms, Ag4"]]
    assert [state.warnings for state in told] == [("strange atoms, Cu4",), ("strange atoms, Ag4",)]


def test_failures_are_kept_until_asked_to_try_again(crystals, tmp_path):
    structures = [*crystals[:1], ("W", bulk("W"))]
    screen(structures, "predict", calculator=EMT, output=tmp_path)
    kept = screen(structures, "predict", calculator=EMT, output=tmp_path)
    assert kept.n_known == 2 and kept.n_failed == 1
    tried = screen(structures, "predict", calculator=EMT, output=tmp_path, retry_failed=True)
    assert tried.n_known == 1 and tried.n_failed == 1
    assert screen(structures, "predict", calculator=EMT, output=tmp_path).n_known == 2


def test_dying_process_costs_only_its_structure(tasks, crystals, tmp_path):
    structures = [*crystals[:3], ("Al", bulk("Al")), *crystals[3:]]
    result = screen(structures, tasks.die_of_aluminium, 2, output=tmp_path)
    assert result.n_ok == 6 and [label for label, _ in result.failures()] == ["Al"]
    assert "worker process died" in next(result.failures())[1]


def test_broken_executor_of_the_user_keeps_what_is_done(tasks, crystals, tmp_path):
    structures = [*crystals, ("Al", bulk("Al"))]
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
        pytest.raises(ValueError, match="executor is broken .* replaced"),
    ):
        screen(structures, tasks.die_of_aluminium, executor, in_flight=1, output=tmp_path)
    assert screen(structures, tasks.die_of_aluminium, 1, output=tmp_path).n_known == 6


def test_error_that_cannot_be_sent_is_a_failure_like_others(tasks, crystals, tmp_path):
    result = screen(crystals[:2], tasks.raise_unsendable, 1, output=tmp_path)
    assert [reason for _, reason in result.failures()] == ["UnsendableError: one and two"] * 2


def test_error_of_the_executor_is_not_remembered(tasks, crystals, tmp_path):
    class Away(Executor):
        def submit(self, function, /, *arguments):
            future = Future()
            future.set_exception(OSError("no connection"))
            return future

    lost = screen(crystals, tasks.volume_of, Away(), output=tmp_path)
    assert lost.n_failed == 6 and next(lost.failures())[1] == "OSError: no connection"
    assert screen(crystals, tasks.volume_of, output=tmp_path).n_known == 0


def test_interruption_keeps_what_is_done(tasks, crystals, tmp_path):
    def structures():
        yield from crystals[:4]
        raise KeyboardInterrupt

    result = screen(structures(), tasks.volume_of, output=tmp_path)
    assert result.interrupted and len(rows_of(result.table)) == 4
    assert not screen(crystals, tasks.volume_of, output=tmp_path).interrupted


def test_ctrl_c_ends_processes_at_once(tasks, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom ase.build import bulk\nfrom forcefield import screen\nfrom screening_tasks import sleep\n"
        "if __name__ == '__main__':\n"
        "    done = lambda state: print(state.verdict, flush=True)\n"
        "    items = [bulk('Cu'), *(bulk('Cu', a=3 + k / 10) for k in range(4))]\n"
        "    screen([items[0]], sleep, 1, options={'seconds': 0.0}, output='first', callback=done)\n"
        "    result = screen(items, sleep, 1, options={'seconds': 600.0}, output='out', callback=done)\n"
        "    print(result.interrupted, result.n_done)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "done\n"
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / JOURNAL).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "True 0\n" and process.returncode == 0


def test_processes_end_with_a_parent_that_was_killed(tasks, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from ase.build import bulk\nfrom forcefield import screen\nfrom screening_tasks import say_and_sleep\n"
        "if __name__ == '__main__':\n"
        "    screen([bulk('Cu')], say_and_sleep, 1, output='out')\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    process.kill()
    process.communicate(timeout=60)  # ends when nobody can write any more, the worker included


def test_parquet_holds_the_same_table(tasks, crystals, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    structures = [*crystals, ("broken", ValueError("no such file."))]
    result = screen(structures, tasks.volume_of, output=tmp_path)
    found = parquet.read_table(result.parquet).to_pylist()
    assert [row["volume"] for row in found[:6]] == [atoms.get_volume() for _, atoms in crystals]
    assert found[6]["volume"] is None and found[6]["error"] == "no such file."
    assert found[0]["ok"] is True and found[0]["nested.pbc"] == "[true, true, true]" and found[0]["values.index"] == 7


def test_without_pyarrow_there_is_one_clear_line(tasks, crystals, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    result = screen(crystals, tasks.volume_of, output=tmp_path)
    assert result.parquet is None and result.table.exists()
    assert result.notes == (table.NO_PARQUET,) and "gnn-forcefield[screening]" in result.notes[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "relaxx"}, "did you mean 'relax'"),
        ({"options": {"fmx": 0.1}}, "no option 'fmx'; did you mean 'fmax'"),
        ({"options": {"fmax": -1.0}}, "fmax is -1.0"),
        ({"options": {"fmax": "small"}}, "cannot be used"),
        ({"executor": 0}, "must be 1 or more"),
        ({"in_flight": 0}, "in_flight is 0"),
        ({"executor": 1, "calculator": EMT()}, "functools.partial"),
    ],
)
def test_wrong_use_is_refused_before_any_structure(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        screen(iter([]), **{"output": tmp_path, "calculator": EMT, **arguments})


def test_single_structure_and_strange_executor_are_refused(tmp_path):
    with pytest.raises(TypeError, match="many structures"):
        screen(bulk("Cu"), output=tmp_path)
    with pytest.raises(TypeError, match="executor is a str"):
        screen([], "predict", "dask", output=tmp_path)


def test_a_path_or_a_structure_of_pymatgen_alone_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"path 'folder' came, .* ase.io.iread"):
        screen("folder", "relax", output=tmp_path / "new")
    core = pytest.importorskip("pymatgen.core")
    with pytest.raises(TypeError, match="single Structure came, but many structures"):
        screen(core.Structure(core.Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]]), "relax", output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_many_relaxations_in_bounded_memory(tmp_path):
    import tracemalloc

    def structures(number):
        for k in range(number):
            yield Atoms("Ar2", [[0, 0, 0], [0, 0, 3.6 + 0.0005 * k]])

    def peak(number):
        tracemalloc.start()
        result = screen(structures(number), "relax", output=tmp_path / str(number), **argon)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert result.n_ok == number
        return top

    argon = {"calculator": partial(_lennard_jones), "options": {"fmax": 0.05}}
    small, large = peak(20), peak(300)
    assert large - small < 280 * 2000  # bytes: a key and a place for each, and no structures or records
    assert len(json.loads((tmp_path / "20" / JOURNAL).read_text().splitlines()[-1])["atoms"]["positions"]) == 2


def _lennard_jones():
    from ase.calculators.lj import LennardJones

    return LennardJones(sigma=3.4, epsilon=0.0104, rc=8.5, smooth=True)


def test_screen_is_part_of_the_package():
    assert forcefield.screen is module.screen
