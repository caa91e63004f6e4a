"""Model files: a folder with ``weights.safetensors``, ``config.json`` and a card ``README.md``; no pickle anywhere.

``config.json`` says all that is needed to rebuild the potential and to judge it: network and hyper-parameters,
elements, reference energies, cutoff, units, training data and errors, licence, package and format version, and the
SHA-256 of the weights. Older formats are brought up to date by small functions at load.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers, chemical_symbols
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from forcefield.networks import NETWORKS, build_network
from forcefield.potential import Potential
from forcefield.version import __version__

FORMAT = 3
CONFIG, WEIGHTS, CARD = "config.json", "weights.safetensors", "README.md"
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å^3", "mass": "amu"}
NEEDED = (
    "network",
    "hyperparameters",
    "cutoff",
    "elements",
    "isolated_energies",
    "bound_energies",
    "scale",
    "repulsion",
    "saturation_rate",
    "sha256",
)
"""What a config must have for the potential to be rebuilt."""
NEEDED_PROPERTY = (
    "property",
    "network",
    "hyperparameters",
    "cutoff",
    "max_neighbours",
    "channels",
    "elements",
    "sha256",
)
"""What the config of a property model (`forcefield.tasks`) must have; its ``task`` is "property"."""


def _without_layer_norm(config: dict[str, Any]) -> dict[str, Any]:
    """Format 1 -> 2: the flagship had no layer normalisation."""
    if config.get("network") != "density":
        return config
    return {**config, "hyperparameters": {"layer_norm": False, **config.get("hyperparameters", {})}}


def _slow_saturation(config: dict[str, Any]) -> dict[str, Any]:
    """Format 2 -> 3: potentials saturated at the rate 1."""
    return {"saturation_rate": 1.0, **config}


UPDATES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _without_layer_norm, 2: _slow_saturation}
"""Format version -> function that turns a config of that version into one of the next."""


class ModelError(ValueError):
    """A model file is missing, damaged, or made for something else."""


@dataclass(frozen=True)
class Model:
    """A potential with what is known about it.

    Attributes:
        name: folder name.
        potential: ready to evaluate.
        config: the contents of ``config.json``.
    """

    name: str
    potential: Potential
    config: Mapping[str, Any] = field(repr=False)


def models_folder() -> Path:
    """Where the shipped models lie: inside the installed package, or at the top of a source checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_models"
    return installed if installed.is_dir() else package.parent / "models"


def list_models() -> list[dict[str, Any]]:
    """The ``config.json`` of every shipped model, with its ``name`` and ``default``, the default first."""
    found = [{"default": False, **read_config(folder), "name": folder.name} for folder in _installed()]
    return sorted(found, key=lambda model: not model["default"])


def default_name() -> str:
    """Name of the model that ``GNNCalculator()`` uses.

    Raises:
        ModelError: no model is installed.
    """
    names = [folder.name for folder in _installed() if read_config(folder).get("default", False)]
    if not names:
        raise ModelError(f"no default model in {models_folder()}; reinstall the package or give the path of a model")
    return names[0]


def _installed() -> list[Path]:
    return sorted(path.parent for path in models_folder().glob(f"*/{CONFIG}"))


def model_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """Folder of a shipped model or of a path; ``"default"`` is the shipped default.

    Raises:
        ModelError: there is no such model.
    """
    name = str(name_or_path)
    candidates = [models_folder() / (default_name() if name == "default" else name), Path(name_or_path)]
    for folder in candidates if os.sep not in name else candidates[::-1]:
        if (folder / CONFIG).is_file():
            return folder
    installed = [folder.name for folder in _installed()]
    raise ModelError(
        f"there is no model {name!r}: neither a shipped one ({', '.join(installed) or 'none installed'}) "
        f"nor a folder with {CONFIG} and {WEIGHTS}"
    )


def save_model(
    folder: str | os.PathLike[str],
    potential: Potential,
    *,
    network: str,
    hyperparameters: Mapping[str, Any],
    **about: Any,
) -> Path:
    """Write a model folder; an existing one is replaced file by file, each atomically.

    Constants of the rotation group are written in float64 as computed anew, whatever precision training used.

    Args:
        folder: where.
        potential: trained potential.
        network: its key in `forcefield.networks.NETWORKS`.
        hyperparameters: keywords its network was built with; defaults are written out as they are now.
        about: further JSON-serialisable entries (training, errors, licence, labels, ...).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in potential.network.state_dict().items()}
    with torch.random.fork_rng(devices=[]):  # random weights are made and dropped
        exact = build_network(network, list(potential.elements), **hyperparameters)
    state |= {name: value.to(torch.float64).contiguous() for name, value in exact.named_buffers() if name in state}
    weights = save_safetensors(state, metadata={"format": "pt"})
    config = {
        "format": FORMAT,
        "package_version": __version__,
        "task": "potential",
        "network": network,
        "hyperparameters": {**_defaults(network), **hyperparameters},
        "cutoff": potential.cutoff,
        "elements": [chemical_symbols[z] for z in potential.elements],
        "isolated_energies": _by_symbol(potential, "isolated"),
        "bound_energies": _by_symbol(potential, "bound"),
        "scale": potential.get_buffer("scale").item(),
        "repulsion": potential.repulsion is not None,
        "saturates": potential.saturates,
        "saturation_rate": potential.saturation_rate,
        "units": UNITS,
        "parameters": sum(p.numel() for p in potential.network.parameters()),
        "sha256": hashlib.sha256(weights).hexdigest(),
        **about,
    }
    write_file(folder / WEIGHTS, weights)
    write_config(folder, config)
    return folder


@torch.inference_mode(False)
def load_model(
    name_or_path: str | os.PathLike[str] = "default",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Model:
    """Load a shipped model by name, or one from a folder.

    Args:
        name_or_path: "default", a shipped model's name, or the path of a model folder.
        device: where the potential shall live.
        dtype: precision of the network, float32 or float64.

    Raises:
        ModelError: the model is missing, damaged (the checksum does not fit), or of a newer format.
    """
    folder = model_folder(name_or_path)
    config = read_config(folder)
    if config.get("task", "potential") != "potential":
        raise ModelError(
            f"{folder} is a model of {config['property'].get('key')!r}, not a potential; give it to "
            "forcefield.predict(structures, model=...) or GNNCalculator(properties=[...])"
        )
    weights = read_weights(folder, config)
    try:
        potential = _potential_without_weights(config)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # whatever a network says of odd parameters
        raise ModelError(f"{folder / CONFIG} describes no model of this version of the package: {error}") from error
    network = potential.network
    for name, buffer in list(network.named_buffers()):
        if buffer.is_meta and name not in weights:
            raise ModelError(f"{folder / WEIGHTS} lacks {name}; the file does not fit this version of the network")
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS} does not fit the network {config['network']!r}: {error}") from error
    potential.requires_grad_(False)
    return Model(folder.name, potential.with_dtype(dtype).to(device).eval(), config)


def _potential_without_weights(config: Mapping[str, Any]) -> Potential:
    """The potential that a config describes; the network's parameters are still on the meta device.

    Raises:
        ValueError: an element, energy or hyper-parameter is impossible.
        TypeError: the network has no such hyper-parameter.
    """
    isolated, bound = _by_number(config["isolated_energies"]), _by_number(config["bound_energies"])
    if not all(math.isfinite(energy) for energy in (*isolated.values(), *bound.values(), float(config["scale"]))):
        raise ValueError("a reference energy or the scale is not a finite number")
    with torch.device("meta"):
        network = build_network(config["network"], _numbers(config["elements"]), **config["hyperparameters"])
    return Potential(
        network,
        isolated_energies=isolated,
        bound_energies=bound,
        scale=config["scale"],
        repulsion=config["repulsion"],
        saturates=config.get("saturates", True),
        saturation_rate=config["saturation_rate"],
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The checked ``config.json`` of a model folder, brought up to date.

    Raises:
        ModelError: it cannot be read, is of a newer format, or lacks something.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version = config["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG} cannot be read as a model configuration: {error}") from error
    if type(version) is not int:  # 1.5 would be taken for a later format, and miss an update
        raise ModelError(f"{folder / CONFIG} cannot be read as a model configuration: its format is {version!r}")
    if version > FORMAT:
        raise ModelError(
            f"{folder} has model format {version}, this version of the package reads up to {FORMAT}; "
            "upgrade with: pip install --upgrade gnn-forcefield"
        )
    for old in range(version, FORMAT):
        if old not in UPDATES:
            raise ModelError(f"{folder} has model format {old}, which this version of the package no longer reads")
        config = UPDATES[old](config)
    task = config.get("task", "potential")
    if task not in ("potential", "property"):
        raise ModelError(f"{folder / CONFIG} has the task {task!r}, but must have potential or property")
    needed = NEEDED if task == "potential" else NEEDED_PROPERTY
    missing = [name for name in needed if name not in config]
    if missing:
        raise ModelError(f"{folder / CONFIG} lacks {', '.join(missing)}; it is no complete model configuration")
    return config


def read_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of a model folder, their checksum compared with the config's.

    Raises:
        ModelError: they are missing or damaged.
    """
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != config["sha256"]:
        raise ModelError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one in {CONFIG}; install it again")
    try:
        return load_safetensors(content)
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS} is not a safetensors file: {error}") from error


def _defaults(network: str) -> dict[str, Any]:
    """Hyper-parameters that the network takes if they are not given."""
    parameters = inspect.signature(NETWORKS[network]).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _by_symbol(potential: Potential, table: str) -> dict[str, float]:
    energies = potential.get_buffer(table).tolist()
    return {chemical_symbols[z]: energies[z] for z in potential.elements}


def _by_number(energies: Mapping[str, float]) -> dict[int, float]:
    return dict(zip(_numbers(energies), map(float, energies.values()), strict=True))


def _numbers(symbols: Iterable[str]) -> list[int]:
    """Atomic numbers of elements.

    Raises:
        ValueError: there is no such element.
    """
    unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
    if unknown:
        raise ValueError(f"there are no elements {', '.join(map(str, unknown))}")
    return [atomic_numbers[symbol] for symbol in symbols]


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` atomically."""
    write_file(folder / CONFIG, (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode())


def write_file(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
