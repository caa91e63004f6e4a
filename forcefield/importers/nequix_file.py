"""Reading of Nequix's weights: the files that the authors publish, and the same arrays in an ``.npz``.

A published ``.nqx`` is a line of JSON with the hyperparameters, followed by the arrays one after the other as NumPy
writes them: the elements' energies; of each layer the radial network, the map before the sum over neighbours, the map
behind it, the self-connection and the norm's gains; the readout. Nothing in it is a pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PARTS = ("mlp", "l1", "l2", "skip", "ln")
"""Parts of a layer in the order of an ``.nqx``: radial network, maps before and behind the sum, skip, norm's gains."""


@dataclass(frozen=True)
class NequixFile:
    """The contents of a file.

    Attributes:
        elements: atomic numbers, one for each row of the tables of elements.
        cutoff: neighbour radius (Å).
        channels: of the features of degree 0, 1, ...
        n_layers: interaction layers.
        n_radial: Bessel functions.
        exponent: p of the smooth cutoff.
        mean_neighbours: the sums over neighbours are divided by its square root.
        silu_rms: what activations are divided by.
        energies: (elements,) energy of an atom where the network gives zero (eV).
        scale: energy (eV) that one unit of the network's output stands for.
        arrays: "readout", and "<layer>.<part>.<number>" -> value, float64; parts as in `PARTS`.
    """

    elements: tuple[int, ...]
    cutoff: float
    channels: tuple[int, ...]
    n_layers: int
    n_radial: int
    exponent: int
    mean_neighbours: float
    silu_rms: float
    energies: Tensor
    scale: float
    arrays: Mapping[str, Tensor]

    def part(self, layer: int, name: str) -> list[Tensor]:
        """The arrays of a part of a layer: matrices of the radial network, or one for each degree."""
        start = f"{layer}.{name}."
        found = {int(key.removeprefix(start)): value for key, value in self.arrays.items() if key.startswith(start)}
        return [found[k] for k in sorted(found)]


SILU_RMS = 0.59645772
"""Root mean square of the SiLU as e3nn-jax takes it (`e3nn_jax.normalize_function`)."""


def read_file(file: Path) -> NequixFile:
    """Read weights of Nequix.

    Args:
        file: ``.nqx``, or ``.npz`` with the arrays named as in `NequixFile`.

    Raises:
        ValueError: it is neither, is damaged, or describes a variant that our network does not represent.
    """
    readers = {".nqx": _read_published, ".npz": _read_arrays}
    if file.suffix not in readers:
        raise ValueError(f"{file} ends in {file.suffix!r}; weights of Nequix come as .nqx or .npz")
    try:
        return readers[file.suffix](file)
    except (KeyError, EOFError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} holds no weights of Nequix, or not all of them ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _read_arrays(file: Path) -> NequixFile:
    with np.load(file, allow_pickle=False) as content:
        given = dict(content)
    arrays = {name: _tensor(value) for name, value in given.items() if re.fullmatch(r"\d+\.[a-z]+\w*\.\d+", name)}
    cutoff, n_radial, exponent, shift, scale, silu_rms = given["meta"].tolist()
    n_layers = 1 + max(int(name.partition(".")[0]) for name in arrays)
    mean_neighbours = {float(given[f"{t}.avg"]) for t in range(n_layers)}
    if len(mean_neighbours) > 1:
        raise ValueError(f"its layers divide by different numbers of neighbours, {sorted(mean_neighbours)}")
    return NequixFile(
        elements=tuple(given["atomic_numbers"].tolist()),
        cutoff=cutoff,
        channels=tuple(len(arrays[f"1.l1.{l}"]) for l in range(len(given)) if f"1.l1.{l}" in arrays),
        n_layers=n_layers,
        n_radial=int(n_radial),
        exponent=int(exponent),
        mean_neighbours=mean_neighbours.pop(),
        silu_rms=silu_rms,
        energies=_tensor(given["e0"]) + shift,
        scale=scale,
        arrays=arrays | {"readout": _tensor(given["readout"])},
    )


def _read_published(file: Path) -> NequixFile:
    with file.open("rb") as stream:
        config = json.loads(stream.readline().decode())
        _check_variant(config)
        channels = _channels(config)
        names = list(_array_names(config, len(channels)))
        arrays = {name: _tensor(_next_array(stream)) for name in names}
        if stream.read(1):
            raise ValueError("it holds more arrays than its hyperparameters say")
    return NequixFile(
        elements=tuple(config["atomic_numbers"]),
        cutoff=float(config["cutoff"]),
        channels=channels,
        n_layers=config["n_layers"],
        n_radial=config["radial_basis_size"],
        exponent=int(config["radial_polynomial_p"]),
        mean_neighbours=float(config["avg_n_neighbors"]),
        silu_rms=SILU_RMS,
        energies=arrays.pop("e0") + config["shift"],
        scale=float(config["scale"]),
        arrays=arrays,
    )


def _array_names(config: Mapping[str, Any], n_degrees: int) -> Iterator[str]:
    """Names of the arrays of an ``.nqx`` in their order."""
    yield "e0"
    for t in range(config["n_layers"]):
        into, out = 1 if t == 0 else n_degrees, 1 if t == config["n_layers"] - 1 else n_degrees
        counts = (config["radial_mlp_layers"] + 1, into, out, min(into, out), out)
        for part, count in zip(PARTS, counts, strict=True):
            yield from (f"{t}.{part}.{k}" for k in range(count))
    yield "readout"


def _check_variant(config: Mapping[str, Any]) -> None:
    odd = [
        text
        for text, found in (
            ("a self-connection for each element (index_weights)", config["index_weights"]),
            ("no layer norm", not config["layer_norm"]),
            ("a cutoff exponent that is no whole number", config["radial_polynomial_p"] % 1 != 0),
        )
        if found
    ]
    if odd:
        raise ValueError(f"this variant of Nequix is not supported: it has {', '.join(odd)}")


def _channels(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels of degree 0, 1, ... from text such as ``128x0e + 64x1o + 32x2e``."""
    text = str(config["hidden_irreps"])
    parsed = [(int(n), int(l), parity) for n, l, parity in re.findall(r"(\d+)x(\d+)([eo])", text)]
    if [(l, parity) for _, l, parity in parsed] != [(l, "eo"[l % 2]) for l in range(config["lmax"] + 1)]:
        raise ValueError(f"this variant of Nequix is not supported: features {text}, harmonics to {config['lmax']}")
    return tuple(n for n, _, _ in parsed)


def _next_array(stream: BinaryIO) -> NDArray[Any]:
    return np.lib.format.read_array(stream, allow_pickle=False)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))
