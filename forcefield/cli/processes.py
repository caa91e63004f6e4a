"""Structures shared out over several processes, each with its own calculator and one thread for PyTorch."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from forcefield.cli.batch import Item, Items, failure_handler, frames_of, warnings_noted
from forcefield.cli.options import CalculatorChoice
from forcefield.cli.report import ProgressLine
from forcefield.worker_process import prepare_worker

if TYPE_CHECKING:
    from forcefield.cli.structures import Progress

WAITING = 2
"""Structures that wait for each process; more would only fill the memory."""

LOST = "a process died (out of memory, or a crash of the calculator); try again with fewer --workers"

Running = dict[Future[tuple[Any, list[str]]], str]


class Work(Protocol):
    """One structure, complete enough to be computed in another process."""

    def run(self, engine: Any, progress: Progress, memory: dict[str, Any]) -> Any:
        """Compute it with the calculator of the process; `memory` is what tasks of one process have in common."""


class Runner(Protocol):
    """What a command does with its structures."""

    def prepare(self, frame: Any) -> tuple[str, Work | None]:
        """Give the work of a structure, or none and a line about what was done before."""

    def accept(self, label: str, result: Any) -> str:
        """Keep what the work gave, and put it into a line."""

    def refuse(self, label: str, message: str) -> None:
        """Note that a file or structure failed."""


def work_in_processes(
    files: Sequence[Path], index: str, runner: Runner, choice: CalculatorChoice, *, workers: int, debug: bool
) -> bool:
    """Process every frame of every file; an error of one structure does not stop the others.

    Args:
        files: input files.
        index: frames to take from each, in ASE's notation.
        runner: knows what is done, and is told what becomes of each structure.
        choice: the calculator, which each process makes for itself.
        workers: number of processes.
        debug: let errors through.

    Returns:
        Whether Ctrl-C ended it early; processes at work are then ended at once.
    """
    return share_out(frames_of(files, index), len(set(files)), runner, choice, workers=workers, debug=debug)


def share_out(
    items: Items, count: int, runner: Runner, choice: CalculatorChoice | None, *, workers: int, debug: bool
) -> bool:
    """As `work_in_processes`, for items of any kind, ``count`` of them expected; a calculator need not be."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(choice,))
    with ProgressLine(count) as progress:
        failed = failure_handler(progress, runner.refuse, debug=debug)
        running: Running = {}

        def collect(most: int) -> None:
            """Wait until no more than so many jobs are left."""
            while len(running) > most:
                done = wait(running, return_when=FIRST_COMPLETED).done
                for future in [future for future in running if future in done]:  # in the order they were taken
                    label = running[future]
                    try:
                        result, notes = future.result()
                        line = runner.accept(label, result)
                    except BrokenProcessPool:
                        raise  # what still runs is lost, this structure among it
                    except Exception as error:
                        del running[future]
                        failed(label, error)
                        continue
                    del running[future]
                    for note in notes:
                        progress.note(note)
                    progress.done(line)
            progress.detail(f"{len(running)} at work")

        left: Iterator[Item] = items(progress, failed)
        try:
            for item in left:
                try:
                    line, job = runner.prepare(item)
                except (ValueError, OSError) as error:
                    failed(item.label, error)
                    continue
                if job is None:
                    progress.done(line)
                    continue
                try:
                    running[pool.submit(_compute, job, item.label)] = item.label
                except BrokenProcessPool:
                    failed(item.label, ValueError(LOST))
                    raise
                collect(WAITING * workers)
            collect(0)
        except KeyboardInterrupt:
            _end_processes()
            return True
        except BrokenProcessPool:
            for label in running.values():
                failed(label, ValueError(LOST))
            for item in left:
                failed(item.label, ValueError("not begun, because another structure ended the processes."))
        finally:
            pool.shutdown(cancel_futures=True)
    return False


def _end_processes() -> None:
    """End the processes of the pool in the middle of their work; what they wrote stays readable."""
    for process in multiprocessing.active_children():
        process.terminate()


_worker: dict[str, Any] = {}
"""Calculator and memory of a worker process; empty in every other process."""


def _start_worker(choice: CalculatorChoice | None) -> None:
    """Begin a process of the pool, with one thread only."""
    prepare_worker()
    _worker.update(choice=choice, memory={})
    if choice is None:
        return
    import torch

    torch.set_num_threads(1)


class _Notes:
    """The progress of a task in a worker process: lines are kept for the parent, details are dropped."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def detail(self, text: str) -> None:
        """Nothing is shown from here."""

    def note(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


def _compute(work: Work, label: str) -> tuple[Any, list[str]]:
    """Compute a structure in a worker process: what it gave, and the lines to show."""
    if "engine" not in _worker:
        choice = _worker["choice"]
        _worker["engine"] = None if choice is None else choice.load()
    notes = _Notes()
    with warnings_noted(label, notes.note):
        result = work.run(_worker["engine"], notes, _worker["memory"])
    return result, notes.lines
