"""What happens where a structure is computed: in a worker process, or in this one.

A worker makes its calculator once, at its first structure, and keeps it. Nothing that a structure does reaches the
executor as an exception: an error is a record too, so that one whose class cannot be sent does no harm.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

from ase import Atoms

from forcefield.structures import check_structure
from forcefield.worker_process import prepare_worker
from forcefield.workflows.batched.outcome import failure
from forcefield.workflows.outcome import plain

MakeCalculator = Callable[[], Any]
ARRAYS = ("energy", "forces", "stress")

_kept = threading.local()
"""Of each thread: the calculator made last, and what it was made from."""
_own_process = False
"""Whether this is a process of a pool that `screen` made."""


@dataclass(frozen=True)
class Work:
    """What to do with a structure, the same for all of them; it can be sent to other processes.

    Attributes:
        function: (atoms, calculator, **options) -> mapping, or (atoms, **options) without a calculator.
        options: of the function.
        make_calculator: makes the ASE calculator; None where the function takes none.
    """

    function: Callable[..., Any]
    options: Mapping[str, Any]
    make_calculator: MakeCalculator | None


def start_worker() -> None:
    """Prepare a process of our own pool: it ends with its parent, which Ctrl-C is for, and PyTorch has one thread."""
    global _own_process
    _own_process = True
    prepare_worker()


def compute(work: Work, atoms: Atoms) -> dict[str, Any]:
    """Compute one structure.

    Returns:
        A record that JSON knows: "ok", "verdict", "error" (None, or a line), "values", "atoms", "warnings" (lines),
        "seconds".
    """
    start = time.perf_counter()
    with _warnings_kept() as lines:
        try:
            check_structure(atoms)
            calculator = () if work.make_calculator is None else (_calculator(work.make_calculator),)
            record = _record(work.function(atoms, *calculator, **work.options))
        except Exception as error:  # whatever a task or a calculator raises belongs to this structure
            record = failed_record(error)
    record["warnings"] = lines
    record["seconds"] = round(time.perf_counter() - start, 4)
    return record


@contextmanager
def _warnings_kept() -> Iterator[list[str]]:
    """Keep the warnings about a structure as lines, each once; those of a thread beside others stay warnings."""
    lines: list[str] = []
    if threading.current_thread() is not threading.main_thread():  # the filters of Python belong to all threads
        yield lines
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    lines += dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught)


def failed_record(error: Exception) -> dict[str, Any]:
    """The record of a structure that an error ended."""
    reason = failure(0, error).error
    return {"ok": False, "verdict": "failed", "error": reason, "values": {}, "atoms": None, "seconds": None}


def _record(given: Any) -> dict[str, Any]:
    """Turn what a task gave into a record.

    Raises:
        TypeError: if it is no mapping, or holds what cannot be written as JSON.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"the task gave a {type(given).__name__}, but must give a mapping of values")
    values = dict(given)
    atoms = values.pop("atoms", None)
    ok, verdict = bool(values.pop("ok", True)), str(values.pop("verdict", "done"))
    kept = None if atoms is None else describe_atoms(atoms)
    return {"ok": ok, "verdict": verdict, "error": None, "values": plain(values), "atoms": kept}


def describe_atoms(atoms: Atoms) -> dict[str, Any]:
    """Give a structure and the energy, forces and stress attached to it for JSON, to the last digit."""
    results = getattr(atoms.calc, "results", {})
    computed = {name: plain(results[name]) for name in ARRAYS if name in results}
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "computed": computed,
    }


def _calculator(make: MakeCalculator) -> Any:
    key = _description(make)
    if getattr(_kept, "key", None) != key:
        _kept.calculator = make()
        _kept.key = key
        if _own_process and "torch" in sys.modules:
            import torch

            torch.set_num_threads(1)
    return _kept.calculator


def _description(make: MakeCalculator) -> Any:
    """What is the same for a function and its copy from another process, and different for different functions."""
    if isinstance(make, partial):
        return _description(make.func), make.args, make.keywords
    if isinstance(make, type):
        return make
    if isinstance(make, FunctionType):
        enclosed = [cell.cell_contents for cell in make.__closure__ or ()]
        return make.__module__, make.__qualname__, make.__code__, make.__defaults__, enclosed
    return pickle.dumps(make)
