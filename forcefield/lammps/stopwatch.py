"""Seconds spent on named parts of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall-clock time by name; a part inside another one counts for itself only.

    Attributes:
        seconds: time spent on each part so far.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count the time of a ``with`` block."""
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            own = passed - self._inner.pop()
            self._inner[-1] += passed
            self.seconds[part] = self.seconds.get(part, 0.0) + own
