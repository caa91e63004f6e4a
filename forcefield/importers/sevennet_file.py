"""Reading of SevenNet's checkpoints: what they say of the network, and its weights under one set of names.

A checkpoint is a pickle. It is read with PyTorch's restricted reader, which makes tensors and plain containers and
refuses all else. The NumPy arrays that the configuration carries beside the weights are not wanted; an inert object
takes the place of each, so nothing that the file names is ever called.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FIXED: dict[str, Any] = {
    "is_parity": False,
    "act_radial": "silu",
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "_normalize_sph": True,  # where it is missing, harmonics grow with the distance
}
"""Settings of the original that our network has no option for, with the value that it stands for."""
SORTED_SINCE = (0, 11)
"""First version whose radial networks give their weights in the order of the results' degrees."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a supported variant.

    Attributes:
        weights: name as in recent versions -> value, float64.
        rows: atomic number -> row in tables of elements.
        cutoff: neighbour radius (Å).
        channels: of the features of degree 0, 1, ...
        n_layers: interaction layers.
        n_radial: Bessel functions.
        radial_hidden: widths of the radial networks.
        exponent: of the polynomial cutoff, where that is used.
        onset: of the switched cutoff (Å), None for the polynomial.
        sorted_paths: whether the weights of the paths are in the order of the results' degrees.
    """

    weights: Mapping[str, Tensor]
    rows: Mapping[int, int]
    cutoff: float
    channels: tuple[int, ...]
    n_layers: int
    n_radial: int
    radial_hidden: tuple[int, ...]
    exponent: int
    onset: float | None
    sorted_paths: bool


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint and check that our network can represent it.

    Args:
        file: ``.pth`` as the package writes it.

    Raises:
        ValueError: it is no such file, or a variant with parts that are not supported.
    """
    content = _load(file)
    if not isinstance(content, dict) or not {"config", "model_state_dict"} <= content.keys():
        raise ValueError(f"{file} is no checkpoint of SevenNet: it has no config and model_state_dict")
    config = content["config"]
    try:
        _check_variant(config)
        envelope = config["cutoff_function"]
        switched = envelope["cutoff_function_name"] == "XPLOR"
        return Checkpoint(
            weights={_name(key): value.double() for key, value in content["model_state_dict"].items()},
            rows={int(z): int(row) for z, row in config["_type_map"].items()},
            cutoff=float(config["cutoff"]),
            channels=_channels(config),
            n_layers=int(config["num_convolution_layer"]),
            n_radial=int(config["radial_basis"]["bessel_basis_num"]),
            radial_hidden=tuple(config["weight_nn_hidden_neurons"]),
            exponent=6 if switched else int(envelope.get("poly_cut_p_value", 6)),
            onset=float(envelope["cutoff_on"]) if switched else None,
            sorted_paths=tuple(int(part) for part in config["version"].split(".")[:2]) >= SORTED_SINCE,
        )
    except KeyError as error:
        raise ValueError(f"{file} is no checkpoint of SevenNet, or of an unknown version: it lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


class _Ignored:
    """Stands in the place of a NumPy array or type."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _load(file: Path) -> Any:
    if not hasattr(torch.serialization, "safe_globals"):
        raise ValueError(f"reading SevenNet's files safely needs torch 2.5 or newer, this is {torch.__version__}")
    modules = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    names = ("ndarray", "dtype", "scalar", "_reconstruct")
    ignored: list[Any] = [type(name, (_Ignored,), {"__module__": module}) for module in modules for name in names]
    try:
        with torch.serialization.safe_globals(ignored):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), "it ends too early")
        raise ValueError(f"{file} cannot be read as a checkpoint of weights and plain values: {reason}") from error


def _check_variant(config: Mapping[str, Any]) -> None:
    found = {name: config.get(name) for name in FIXED}
    kinds = config.get("self_connection_type", "nequip")
    found["self_connection_type"] = sorted({kinds} if isinstance(kinds, str) else set(kinds))
    found["activations"] = [config["act_scalar"]["e"], config["act_gate"]["e"]]
    found["interaction_type"] = config.get("interaction_type", "nequip")
    found["radial_basis"] = config["radial_basis"]["radial_basis_name"]
    found["use_modality"] = bool(config.get("use_modality", False))
    found["lmax of the harmonics"] = config.get("lmax_edge", -1)
    wanted = {
        **FIXED,
        "self_connection_type": ["linear"],
        "activations": ["silu", "silu"],
        "interaction_type": "nequip",
        "radial_basis": "bessel",
        "use_modality": False,
        "lmax of the harmonics": -1,
    }
    odd = [f"{name} is {found[name]!r}, not {value!r}" for name, value in wanted.items() if found[name] != value]
    cutoff = config["cutoff_function"]["cutoff_function_name"]
    if cutoff not in ("XPLOR", "poly_cut"):
        odd.append(f"the cutoff function is {cutoff!r}, not 'XPLOR' or 'poly_cut'")
    if odd:
        raise ValueError(
            f"this variant of SevenNet is not supported: {'; '.join(odd)}. SevenNet-0 (11 July 2024) and "
            "SevenNet-l3i5 are"
        )


def _channels(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of the hidden features, from lists such as ``128x0e+64x1e+32x2e`` for each layer."""
    layers = config["irreps_manual"]
    if not layers:
        raise ValueError("this variant of SevenNet is not supported: it does not list its features (irreps_manual)")
    parsed = [[(int(n), int(l), p) for n, l, p in re.findall(r"(\d+)x(\d+)([eo])", str(text))] for text in layers]
    first, *hidden, last = parsed
    channels = tuple(n for n, _, _ in hidden[0]) if hidden else (first[0][0],)
    expected = [(n, l, "e") for l, n in enumerate(channels)]
    if any(layer != expected for layer in hidden) or first != expected[:1] or last != expected[:1]:
        raise ValueError(f"this variant of SevenNet is not supported: its layers have the features {list(layers)}")
    if config["lmax"] != len(channels) - 1:
        raise ValueError(f"its harmonics go to degree {config['lmax']}, its features to {len(channels) - 1}")
    return channels


def _name(key: str) -> str:
    """Name of a weight in recent versions; the first ones had spaces in theirs."""
    module, _, rest = key.partition(".")
    old = {"EdgeEmbedding": "edge_embedding", "reducing nn input to hidden": "reduce_input_to_hidden"}
    old |= {"reducing nn hidden to energy": "reduce_hidden_to_energy", "rescale atomic energy": "rescale_atomic_energy"}
    return f"{old.get(module, module.replace(' ', '_'))}.{rest.replace('denumerator', 'denominator')}"
