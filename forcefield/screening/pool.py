"""Where structures are computed: this process, processes of our own, or whatever executor the user has."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any

from forcefield.screening.worker import start_worker

WAITING = 2
"""Structures in flight for each process of our own."""
IN_FLIGHT = 256
"""Structures in flight on an executor of the user's, whose size is not known."""


class HereExecutor(Executor):
    """Computes at once, in this process; Ctrl-C ends the computation."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Give a future that is done."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


class Workplace:
    """An executor, and how to replace it when its processes have died.

    Args:
        executor: None for this process, a number of processes, an executor, or a function that makes one.

    Raises:
        ValueError: for a number below 1.
        TypeError: for anything else.
    """

    def __init__(self, executor: Executor | Callable[[], Executor] | int | None) -> None:
        self._before = set(multiprocessing.active_children())
        self.processes = executor if isinstance(executor, int) else None
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"executor is {executor}, but the number of processes must be 1 or more")
        self._make: Callable[[], Executor] | None = None
        if isinstance(executor, Executor):
            self.executor: Executor = executor
            return
        if executor is None:
            self._make = HereExecutor
        elif isinstance(executor, int):
            self._make = self._make_pool
        elif callable(executor):
            self._make = executor
        else:
            raise TypeError(
                f"executor is a {type(executor).__name__}, but must be None, a number of processes, a "
                "concurrent.futures.Executor or a function that makes one"
            )
        self.executor = self._make()

    def _make_pool(self) -> Executor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.processes, mp_context=context, initializer=start_worker)

    @property
    def is_here(self) -> bool:
        """Whether structures are computed in this process."""
        return isinstance(self.executor, HereExecutor)

    @property
    def in_flight(self) -> int:
        """How many structures are to be under way unless the user says so."""
        if self.is_here:
            return 1
        return IN_FLIGHT if self.processes is None else WAITING * self.processes

    def replace(self, reason: BrokenExecutor) -> None:
        """Make a new executor after its processes have died.

        Raises:
            ValueError: if the executor was the user's, so that it cannot be made again.
        """
        if self._make is None:
            raise ValueError(
                f"the executor is broken ({reason}), probably by a process that ran out of memory or crashed. What is "
                "done is kept, and the same call goes on from there; give a number of processes, or a function that "
                "makes the executor, and a broken one is replaced."
            ) from reason
        self.executor.shutdown(wait=True, cancel_futures=True)
        self.executor = self._make()

    def close(self, *, at_once: bool) -> None:
        """Shut an executor of our own down.

        Args:
            at_once: end its processes in the middle of their work.
        """
        if self._make is None:
            return
        if at_once and self.processes is not None:
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()
        self.executor.shutdown(wait=True, cancel_futures=True)
