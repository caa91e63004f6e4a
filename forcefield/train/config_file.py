"""Configurations in YAML files: read, checked with errors that name the nearest key, and explained."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

import yaml  # type: ignore[import-untyped,unused-ignore]
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from forcefield.suggest import nearest
from forcefield.train.config import TrainConfig

Config = TypeVar("Config", bound=BaseModel)


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration; its relative paths are taken from the folder of the file.

    Args:
        path: YAML file.
        overrides: ``key=value``, with dots for nested keys (``hessian.weight=2``) and numbers for list entries.

    Raises:
        ValueError: the file cannot be read, a key is unknown (says the nearest one), or a value is wrong.
    """
    return at_folder(checked(read_mapping(path, overrides), str(path)), Path(path).parent)


def read_mapping(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The unchecked entries of a configuration, ``key=value`` overrides put in.

    Raises:
        ValueError: the file cannot be read, or holds no mapping.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no configuration; `forcefield train --example` prints one")
    for override in overrides:
        _set(data, override)
    return data


def checked(data: dict[str, Any], source: str) -> TrainConfig:
    """The configuration of a mapping.

    Raises:
        ValueError: says where in ``source`` what is wrong, a line for each error.
    """
    config = checked_as(TrainConfig, data, source)
    check_hyperparameters(config)
    return config


def checked_as(model: type[Config], data: dict[str, Any], source: str) -> Config:
    """A configuration of the given class.

    Raises:
        ValueError: says where in ``source`` what is wrong, a line for each error.
    """
    try:
        return model(**data)
    except ValidationError as error:
        lines = [f"{source}: {_explain(one, model)}" for one in _first_of_unions(error, model)]
        raise ValueError("\n".join(lines)) from error


def _first_of_unions(error: ValidationError, model: type[BaseModel]) -> list[Any]:
    """The errors, without those of the other members of a union."""
    seen: dict[tuple, Any] = {}
    for one in error.errors():
        seen.setdefault(_keys(one["loc"], model), one)
    return list(seen.values())


def _explain(error: Any, model: type[BaseModel]) -> str:
    keys = _keys(error["loc"], model)
    name = ".".join(str(key) for key in keys)
    if error["type"] == "extra_forbidden":
        known = _model_at(keys[:-1], model).model_fields
        return f"unknown key {name!r}{nearest(str(keys[-1]), known)}"
    if error["type"] == "missing":
        return f"the key {name!r} is missing ({field_text(_model_at(keys[:-1], model), str(keys[-1]))})"
    message = error["msg"].removeprefix("Value error, ")
    if len(keys) < len(error["loc"]):  # no member of a union fits
        message = f"expected is: {field_text(_model_at(keys[:-1], model), str(keys[-1]))}"
    return f"{name} is {error['input']!r}: {message}" if keys else message


def _keys(location: Iterable[str | int], root: type[BaseModel]) -> tuple[str | int, ...]:
    """The keys of an error's location, up to the member of a union that was tried."""
    keys: list[str | int] = []
    model: type[BaseModel] | None = root
    for part in location:
        if isinstance(part, str) and model is None:
            break
        keys.append(part)
        if isinstance(part, str) and model is not None:
            model = nested_model(model.model_fields[part]) if part in model.model_fields else None
    return tuple(keys)


def _model_at(keys: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    for key in keys:
        if isinstance(key, str):
            model = nested_model(model.model_fields[key]) or model
    return model


def nested_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model inside an annotation such as ``tuple[Phase, ...]`` or ``HessianLoss | None``."""
    annotations: list[Any] = [field.annotation]
    while annotations:
        one = annotations.pop()
        if inspect.isclass(one) and issubclass(one, BaseModel):
            return one
        annotations += get_args(one)
    return None


class Networked(Protocol):
    """The entries of a configuration that name a network."""

    @property
    def network(self) -> str:
        """Its name."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Its keywords."""


def check_hyperparameters(config: Networked, networks: Mapping[str, Any] | None = None) -> None:
    """Raises: ValueError: unknown network, or a keyword that it does not take (says the nearest one)."""
    from forcefield.networks import NETWORKS

    networks = NETWORKS if networks is None else networks
    if config.network not in networks:
        raise ValueError(f"unknown network {config.network!r}{nearest(config.network, networks)}")
    known = [name for name in inspect.signature(networks[config.network]).parameters if name != "elements"]
    for name in config.hyperparameters:
        if name not in known:
            raise ValueError(f"network {config.network!r} has no hyper-parameter {name!r}{nearest(name, known)}")


def _set(data: dict[str, Any], override: str) -> None:
    """Put one ``key=value`` into the mapping."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ValueError(f"--set got {override!r}, but needs key=value, such as learning_rate=0.001")
    *path, last = name.split(".")
    place: Any = data
    for key in path:
        if isinstance(place, list) and key.isdigit() and int(key) < len(place):
            place = place[int(key)]
        elif isinstance(place, dict):
            place = place.setdefault(key, {})
        else:
            raise ValueError(f"--set {override}: there is no entry {key!r} to go into")
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = yaml.safe_load(text)
    elif isinstance(place, dict):
        place[last] = yaml.safe_load(text)
    else:
        raise ValueError(f"--set {override}: {'.'.join(path)} is no mapping; give its entries by number")


def at_folder(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same configuration with relative paths taken from a folder."""

    def placed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(placed(one) for one in value)
        return folder / value if isinstance(value, Path) else value

    names = ("train", "validation", "output", "isolated_energies", "reference_energies")
    changes = {name: placed(getattr(config, name)) for name in names}
    if config.hessian is not None:
        changes["hessian"] = config.hessian.model_copy(update={"file": placed(config.hessian.file)})
    if config.initial is not None and (folder / config.initial / "config.json").is_file():
        changes["initial"] = str(folder / config.initial)
    return config.model_copy(update=changes)


def field_text(model: type[BaseModel], name: str) -> str:
    """Description of one entry, on one line."""
    return " ".join((model.model_fields[name].description or "").split())
