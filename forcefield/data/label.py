"""Labels for structures from any ASE calculator, in several processes; killed at any moment, it goes on where it was.

Frames are written in the order they came, each whole, with their number and the `fingerprint` of the structure. A
repeated call reads these, cuts off a frame that a kill left incomplete, and computes the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ase
import numpy as np

from forcefield.data.fingerprint import fingerprint
from forcefield.data.frames import Frame
from forcefield.data.label_file import Job, LabelFile
from forcefield.data.readers.entry import Entry
from forcefield.structures import check_structure
from forcefield.worker_process import prepare_worker

WINDOW = 8
"""Frames in the hands of each worker: computed or waiting, but not yet written."""


def labelled(frame: Frame, calculator: Any) -> Frame:
    """The frame with the calculator's labels instead of its own.

    Energy and forces always; the stress where all axes are periodic and the calculator has one; atomic energies where
    it has ``energies``.

    Args:
        frame: the structure.
        calculator: any ASE calculator.

    Raises:
        ValueError: the structure cannot be computed, or a result is not finite.
    """
    atoms = ase.Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    check_structure(atoms)
    if hasattr(calculator, "reset"):
        calculator.reset()  # a neighbour list of the frame before must not change the last digit
    atoms.calc = calculator
    labels: dict[str, Any] = {"energy": float(atoms.get_potential_energy()), "forces": np.array(atoms.get_forces())}
    if atoms.pbc.all():
        with suppress(NotImplementedError):  # a calculator without stress
            labels["stress"] = np.array(atoms.get_stress())
    if "energies" in getattr(calculator, "implemented_properties", ()):
        labels["atomic_energies"] = np.array(calculator.get_property("energies", atoms))
    for name, value in labels.items():
        if not np.isfinite(value).all():
            raise ValueError(f"the calculator gave {name} that are not finite")
    return replace(frame, **{"stress": None, "atomic_energies": None, "magmoms": None, **labels})


@dataclass
class Tally:
    """How far labelling has come.

    Attributes:
        written: frames labelled by this call.
        skipped: frames labelled by an earlier one.
        failures: frame number and what was said of each frame that could not be labelled.
    """

    written: int = 0
    skipped: int = 0
    failures: list[tuple[int, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames dealt with, one way or another."""
        return self.written + self.skipped + len(self.failures)


def label_frames(
    entries: Iterable[Entry],
    output: str | Path,
    *,
    factory: Callable[[], Any],
    labelled_by: str,
    workers: int = 1,
    resume: bool = True,
    progress: Callable[[Tally], None] | None = None,
) -> Tally:
    """Label frames and append each to an extended XYZ file as soon as it and all before it are done.

    A frame that fails is recorded in ``OUTPUT.failures.jsonl`` with its number, place and reason, and the others go
    on; a repeated call tries it again.

    Args:
        entries: structures with their place in the input (for messages), always in the same order; an entry without
            a frame is a failure.
        output: extended XYZ file.
        factory: makes the ASE calculator; must be picklable for several workers.
        labelled_by: what to call the calculator in the file.
        workers: processes, each with one thread for PyTorch; 1 computes in this process and leaves its settings alone.
        resume: go on with an existing file; otherwise it is refused.
        progress: told after each frame how far it is.

    Raises:
        ValueError: an existing file is no earlier part of this work, a worker process died or could not make the
            calculator, or ``workers`` is below 1.
        OSError: the file cannot be written.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, but at least 1 is needed")
    tally = Tally()
    with LabelFile(Path(output), labelled_by, resume=resume) as file:
        for job, result in _results(_open_jobs(entries, file, tally), factory, workers):
            if isinstance(result, Frame):
                file.append(job, result)
                tally.written += 1
            else:
                file.record(job, result)
                tally.failures.append((job.number, f"{job.place}: {result}"))
            if progress is not None:
                progress(tally)
    return tally


def _open_jobs(entries: Iterable[Entry], file: LabelFile, tally: Tally) -> Iterator[Job]:
    """What is not labelled yet."""
    for number, (place, frame, fault) in enumerate(entries):
        mark = "" if frame is None else fingerprint(frame.numbers, frame.positions, frame.cell, frame.pbc)
        job = Job(number, place, frame, fault, mark)
        if file.has(job):
            tally.skipped += 1
        else:
            yield job


def _results(jobs: Iterator[Job], factory: Callable[[], Any], workers: int) -> Iterator[tuple[Job, Frame | str]]:
    """Labelled frames, or why there is none, in the order of the jobs."""
    if workers == 1:
        calculator = None
        for job in jobs:
            if job.frame is not None and calculator is None:
                calculator = factory()
            yield job, job.fault if job.frame is None else _attempt(job.frame, calculator)
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(factory,)
    )
    waiting: deque[tuple[Job, Future[Frame | str] | None]] = deque()

    def finished() -> tuple[Job, Frame | str]:
        job, future = waiting[0]
        result = job.fault if future is None else future.result()
        waiting.popleft()
        return job, result

    try:
        for job in jobs:
            waiting.append((job, None))
            if job.frame is not None:
                waiting[-1] = (job, executor.submit(_work, job.frame))
            if len(waiting) >= WINDOW * workers:
                yield finished()
        while waiting:
            yield finished()
    except BrokenProcessPool as error:
        raise ValueError(
            f"a worker process died while {waiting[0][0].place} and the frames after it were labelled (out of memory, "
            "or a crash of the calculator); what came before is written. Try again with fewer workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _attempt(frame: Frame, calculator: Any) -> Frame | str:
    """The labelled frame, or in one line why there is none: whatever a calculator raises belongs to its frame."""
    try:
        return labelled(frame, calculator)
    except Exception as error:
        return _one_line(error)


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if isinstance(error, ValueError) and message else f"{type(error).__name__}: {message}"


_worker: dict[str, Any] = {}
"""The calculator of a worker process; empty in every other process."""


def _start_worker(factory: Callable[[], Any]) -> None:
    """Begin a process of the pool, with one thread only."""
    prepare_worker()
    os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")})
    _worker["factory"] = factory


def _work(frame: Frame) -> Frame | str:
    if "calculator" not in _worker:
        try:
            _worker["calculator"] = _worker["factory"]()
        except Exception as error:  # any calculator may be named
            raise ValueError(f"the calculator cannot be made in a worker process ({_one_line(error)})") from error
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
    return _attempt(frame, _worker["calculator"])
