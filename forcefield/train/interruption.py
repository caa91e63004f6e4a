"""Ctrl-C and the end of a batch job's time: the step that is being done is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, the first interrupt or termination signal is noted, and the second acts as it used to.

    Signals that are ignored (as those of a shell's background jobs are) stay so. Python hands signals to the main
    thread, so that in any other nothing is changed.

    Args:
        enabled: otherwise nothing is changed; several processes would not stop at the same step.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.asked = False
        self._enabled = enabled
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if self._enabled and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


class Stoppable(Protocol):
    """A run that can be saved after any step."""

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""

    def save(self) -> None:
        """Write a checkpoint."""


def to_the_end(run: Stoppable, steps: Callable[[Interruption], None], *, enabled: bool = True) -> None:
    """Let a run do its steps and save it, at its end or where it was interrupted.

    Args:
        run: the run.
        steps: does steps until the run is done or the interruption was asked for.
        enabled: as of `Interruption`.

    Raises:
        KeyboardInterrupt: after Ctrl-C or a termination signal, with everything saved.
    """
    with Interruption(enabled=enabled) as interruption:
        steps(interruption)
        run.save()
        if run.progress < 1:
            raise KeyboardInterrupt
