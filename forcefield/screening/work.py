"""From the user's words, task, options and calculator, to the `Work` that is sent to workers, and its description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from forcefield.screening.tasks import find_task
from forcefield.screening.worker import Work
from forcefield.version import __version__
from forcefield.workflows.outcome import plain


def prepare_work(task: str | Callable[..., Any], options: Mapping[str, Any], calculator: Any, *, here: bool) -> Work:
    """Settle function, options and calculator.

    Args:
        task: name or function.
        options: of the task.
        calculator: as `screen` takes it.
        here: structures are computed in this process.

    Raises:
        ValueError: for what cannot be.
    """
    if isinstance(task, str):
        named = find_task(task)
        named.check(options)
        function, precision = named.function, named.precision
        if calculator is None:
            calculator = partial(_default_calculator, precision)
    else:
        function = task
    if calculator is not None and not callable(calculator):
        if not here:
            kind = type(calculator).__name__
            raise ValueError(
                f"calculator is a {kind} that was made already, but workers make their own: give a function that does, "
                f"such as functools.partial({kind}, ...)"
            )
        calculator = partial(_same, calculator)
    return Work(function, dict(options), calculator)


def _default_calculator(precision: Any) -> Any:
    from forcefield.calculator import GNNCalculator  # loads torch, in the workers only

    return GNNCalculator(dtype=precision)


def _same(calculator: Any) -> Any:
    return calculator


def describe_work(task: str | Callable[..., Any], work: Work, calculator_name: str | None) -> dict[str, Any]:
    """What the records depend on beside the structure, for the head of the journal."""
    return {
        "task": task if isinstance(task, str) else _name(task),
        "options": plain(work.options),
        "calculator": calculator_name or (work.make_calculator and _name(work.make_calculator)),
        "version": __version__,
    }


def _name(function: Any) -> str:
    """Module, name and bound arguments of a function, without anything that changes from run to run."""
    if isinstance(function, partial):
        bound = [*map(_text, function.args), *(f"{name}={_text(value)}" for name, value in function.keywords.items())]
        return f"{_name(function.func)}({', '.join(bound)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float, bool, Path, type(None))) else type(value).__name__
