"""What `relax_many` reports: a `BatchOutcome` for each structure, and `BatchProgress` while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from forcefield.workflows.relax_result import RelaxResult

FAILED = "failed"


class BatchProgress(NamedTuple):
    """How far a run is.

    Structures finished, in flight and given (None for an iterator), evaluations of the batch so far, neighbour pairs in
    flight.
    """

    finished: int
    running: int
    total: int | None
    evaluations: int
    edges: int


@dataclass(frozen=True)
class BatchOutcome:
    """What became of one structure.

    Attributes:
        index: its number among the structures given.
        result: as from `relax`; None where the structure could not be relaxed at all.
        error: why not, in one line; else None.
        route: "batch", "alone" (by `relax`), "torch-sim", or "stored" (taken from the file of an earlier run).
        exception: the error itself, if it came up in this run.
    """

    index: int
    result: RelaxResult | None
    error: str | None = None
    route: str = "batch"
    exception: Exception | None = field(default=None, compare=False, repr=False)

    @property
    def converged(self) -> bool:
        """Whether the structure was relaxed to the limits."""
        return self.result is not None and self.result.converged

    @property
    def reason(self) -> str:
        """Why the relaxation ended, as in `RelaxResult`; "failed" without a result."""
        return FAILED if self.result is None else self.result.reason

    def to_dict(self) -> dict[str, Any]:
        """Give all but the atoms as plain numbers, strings and lists for JSON."""
        own = {"index": self.index, "route": self.route, "error": self.error}
        if self.result is None:
            return {**own, "converged": False, "reason": FAILED}
        return {**own, **self.result.to_dict()}


def failure(index: int, error: Exception, *, route: str = "batch") -> BatchOutcome:
    """The outcome of a structure that an error ended."""
    message = " ".join(str(error).split())
    if not isinstance(error, ValueError) or not message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return BatchOutcome(index, None, message, route, error)
