"""Options declared once for many commands: a parameter whose type is a dataclass becomes the dataclass's fields.

    @dataclass(frozen=True)
    class Common:
        index: Index = ":"
        debug: Debug = False

    @expand_groups
    def elastic(files: Files, strain: Strain = 0.005, *, common: Common) -> None: ...

The command line then shows --strain, --index and --debug, and the function gets a `Common`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints


def expand_groups(function: Callable[..., None]) -> Callable[..., None]:
    """Give typer a signature in which the groups' fields stand in place of the groups.

    Raises:
        TypeError: where two groups, or a group and the function, have a name in common.
    """
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = list(_parameters(function, hints, groups))
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise TypeError(f"{function.__name__} has an option twice among {', '.join(names)}.")

    @functools.wraps(function)
    def command(**values: Any) -> None:
        built: dict[str, Any] = {}
        for name, group in groups.items():
            built[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        function(**values, **built)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parameters(
    function: Callable[..., None], hints: dict[str, Any], groups: dict[str, Any]
) -> Iterator[inspect.Parameter]:
    """Parameters with their types, those of a group in its place."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in groups:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        types = get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
            )
