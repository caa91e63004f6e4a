"""The commented example and the reference table, both made from the descriptions in the configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forcefield.train.config import FORMAT, TrainConfig
from forcefield.train.config_file import field_text, nested_model

EXAMPLE_PATHS = {"train": "train.extxyz", "validation": "validation.extxyz", "output": "run"}
EXAMPLE_VALUES: dict[str, Any] = {
    **{"minutes": 60.0, "optimizer": "adam", "isolated_energies": {"Cu": 0.0, "O": 0.0}, "network": "density"},
    **{"learning_rate": 0.003, "slots": 6000, "dtype": "float32", "device": "auto"},
}
INDENT = 2


def example() -> str:
    """A configuration in YAML with every entry explained; entries at their default are commented out."""
    lines = [
        "# A training run: forcefield train config.yaml. Relative paths are taken from the folder of this file.",
        "",
    ]
    for name, field in TrainConfig.model_fields.items():
        lines.append(f"# {field_text(TrainConfig, name)}")
        shown = {"format": FORMAT, **EXAMPLE_PATHS, **EXAMPLE_VALUES}
        if name in shown:
            lines.append(f"{name}: {_yaml(shown[name])}")
        elif (model := nested_model(field)) is not None and name != "weights":
            lines += [f"# {name}:", *(f"#   {text}" for text in _entries(model))]
        else:
            lines.append(f"# {name}: {_yaml(field.get_default(call_default_factory=True))}")
        lines.append("")
    return "\n".join(lines)


def _entries(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = "hessian.npz" if field.is_required() else _yaml(field.get_default())
        yield f"{name}: {value}  # {field_text(model, name)}"


def _yaml(value: Any) -> str:
    """A value as JSON, which is YAML on one line; plain words without quotes."""
    if isinstance(value, str) and value.replace(".", "").replace("-", "").isalnum():
        return value
    return json.dumps(value, default=lambda one: one.model_dump(mode="json"), ensure_ascii=False)


def reference_table() -> str:
    """Markdown tables of all entries: name, default, meaning."""
    parts = [_table(TrainConfig)]
    for name, field in TrainConfig.model_fields.items():
        model = nested_model(field)
        if model is not None:
            parts += [f"### `{name}`", (model.__doc__ or "").strip(), _table(model)]
    return "\n\n".join(parts)


def _table(model: type[BaseModel]) -> str:
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_default(name, field)} | {field_text(model, name).replace('|', '/')} |")
    return "\n".join(lines)


def _default(name: str, field: FieldInfo) -> str:
    """A default as shown in a table; nested entries have a table of their own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"[below](#{name})"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        value = [one.model_dump(exclude_defaults=True) for one in value]
    return f"`{_yaml(value)}`"
