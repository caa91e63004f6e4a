"""SevenNet's checkpoints into `forcefield.networks.nequip.NequIP`.

SevenNet (Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190) is a NequIP
whose features have no parity, with a self-connection shared by the elements and trained wave numbers. In its files

- a linear map is divided by the square root of its inputs when applied, its degrees lie one after the other;
- activations are multiplied by e3nn's constant for the SiLU, where ours are divided by its root mean square;
- the Bessel functions carry 2 / (r_c r) instead of sqrt(2) r_c / r;
- two linear maps follow one another at the end.

All this is folded into the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from torch import Tensor

from forcefield.importers.imported import CRYSTALS, Imported, checksum
from forcefield.importers.sevennet_file import Checkpoint, read_checkpoint
from forcefield.nn.gate import SILU_RMS
from forcefield.nn.tensor_product import Path as Coupling
from forcefield.nn.tensor_product import convolution_paths

SILU_FACTOR = 1.6791767923989418
"""e3nn's factor of the SiLU: 1 / its root mean square over a million random numbers (`e3nn.math.normalize2mom`)."""
GATED = SILU_FACTOR * SILU_RMS
"""How many times larger SevenNet's features are behind a gate than ours."""
ORIGIN = (
    "SevenNet, github.com/MDIL-SNU/SevenNet, package `sevenn` on PyPI; Park, Kim, Hwang, Han, J. Chem. Theory Comput. "
    "20, 4857 (2024), doi:10.1021/acs.jctc.4c00190."
)
LICENCE = "MIT, copyright 2024 Yutack Park"
KNOWN = {
    "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36": "SevenNet-0 (11 July 2024)",
    "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d": "SevenNet-l3i5",
}
"""SHA-256 of the files in version 0.13.0 of the package -> their names; both were trained on MPtrj."""
MPTRJ = (
    "Energies, forces and stresses of MPtrj (Deng et al., Nature Machine Intelligence 5, 1031 (2023), "
    "doi:10.1038/s42256-023-00716-3): PBE and PBE+U, total energies without the Materials Project's corrections."
)
UNKNOWN = "Not known to the importer: the file is none of those it knows by checksum; see the origin."
WITHOUT_PARITY = (
    "The features have no parity: a structure and its mirror image do not have exactly the same energy, and forces "
    "that a mirror plane forbids are not exactly zero."
)


def read_sevennet(file: Path) -> Imported:
    """Translate a checkpoint of SevenNet.

    Args:
        file: ``.pth`` as the package writes it.

    Raises:
        ValueError: it is no such file, or of a variant that our network does not represent.
    """
    checkpoint = read_checkpoint(file)
    name = KNOWN.get(checksum(file))
    try:
        return Imported(
            network="nequip",
            hyperparameters=_hyperparameters(checkpoint),
            weights=_Translation(checkpoint).weights(),
            energies=_energies(checkpoint),
            scale=_scale(checkpoint),
            licence=LICENCE,
            origin=ORIGIN if name is None else f"{name} of {ORIGIN}",
            labels=UNKNOWN if name is None else MPTRJ,
            limits=_limits(checkpoint) if name is None else (CRYSTALS, *_limits(checkpoint)),
        )
    except KeyError as error:
        raise ValueError(f"{file} is no complete checkpoint of SevenNet: it lacks the weights {error}") from error


def _hyperparameters(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "cutoff": checkpoint.cutoff,
        "channels": list(checkpoint.channels),
        "n_layers": checkpoint.n_layers,
        "n_radial": checkpoint.n_radial,
        "radial_hidden": list(checkpoint.radial_hidden),
        "cutoff_exponent": checkpoint.exponent,
        "cutoff_onset": checkpoint.onset,
        "trained_waves": True,
        "parity": False,
        "self_connection": "shared",
        "mean_neighbours": float(checkpoint.weights["0_convolution.denominator"]) ** 2,
    }


def _energies(checkpoint: Checkpoint) -> dict[int, float]:
    shift = checkpoint.weights["rescale_atomic_energy.shift"].expand(len(checkpoint.rows))
    return {z: float(shift[row]) for z, row in sorted(checkpoint.rows.items())}


def _scale(checkpoint: Checkpoint) -> float:
    scale = checkpoint.weights["rescale_atomic_energy.scale"]
    if not torch.equal(scale, scale[:1].expand_as(scale)):
        raise ValueError("this checkpoint of SevenNet has an energy scale for each element, which is not supported")
    return float(scale[0])


def _limits(checkpoint: Checkpoint) -> tuple[str, ...]:
    if checkpoint.onset is None:
        return (WITHOUT_PARITY,)
    return (
        WITHOUT_PARITY,
        "Second derivatives of the energy (phonons, elastic constants) jump where a neighbour passes "
        f"{checkpoint.onset:g} Å or {checkpoint.cutoff:g} Å: the cutoff function has one continuous derivative there.",
    )


class _Translation:
    """The weights of a checkpoint under the names and normalisations of our network."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.given = checkpoint, checkpoint.weights
        self.rows = torch.tensor([row for _, row in sorted(checkpoint.rows.items())])

    def weights(self) -> dict[str, Tensor]:
        """Name of each parameter of our network -> its value."""
        last = self.checkpoint.n_layers - 1
        (embedding,) = self.linear("onehot_to_feature_x", [len(self.rows)])
        embedding = embedding[self.rows]
        (sent,), (kept,) = (self.linear(f"0_{part}", self.channels[:1]) for part in ("self_interaction_1", CONNECTION))
        (to_hidden,) = self.linear("reduce_input_to_hidden", self.channels[:1])
        (to_energy,) = self.linear("reduce_hidden_to_energy", [to_hidden.shape[1]])
        found = {
            "sender.weight": embedding @ sent,
            "layers.0.element_embedding.weight": embedding @ kept,
            "readout.weight": GATED * to_hidden @ to_energy,
            "geometry.radial.waves": self.given["edge_embedding.basis_function.coeffs"] * self.checkpoint.cutoff,
        }
        for t in range(last + 1):
            found |= self.layer(t, last=t == last)
        return found

    def layer(self, t: int, *, last: bool) -> dict[str, Tensor]:
        """The parameters of layer t, and of the map to what it receives."""
        l_out = range(1 if last else len(self.channels))
        paths = convolution_paths(range(len(self.channels) if t else 1), self.lmax, l_out, parity=False)
        widths = [sum(self.channels[a] for a, _, out in paths if out == l) for l in l_out]
        ratio = float(self.given["0_convolution.denominator"] / self.given[f"{t}_convolution.denominator"])
        mixed = [ratio * weight for weight in self.linear(f"{t}_self_interaction_2", widths)]
        found = _numbered(f"layers.{t}.mix.degrees.{{}}.weight", mixed)
        found |= _numbered(f"layers.{t}.convolution.weights.layers.{{}}.weight", self.radial(t, paths))
        if t:
            connected = self.linear(f"{t}_{CONNECTION}", self.channels[: len(l_out)])
            sent = self.linear(f"{t}_self_interaction_1", self.channels)
            found |= _numbered(f"layers.{t}.connect.degrees.{{}}.weight", [GATED * weight for weight in connected])
            found |= _numbered(f"senders.{t - 1}.degrees.{{}}.weight", [GATED * weight for weight in sent])
        return found

    @property
    def channels(self) -> Sequence[int]:
        return self.checkpoint.channels

    @property
    def lmax(self) -> int:
        return len(self.channels) - 1

    def linear(self, name: str, n_in: Sequence[int]) -> list[Tensor]:
        """The matrices of a linear map, one for each degree, as they are applied.

        Args:
            name: of the map.
            n_in: inputs of degree 0, 1, ...
        """
        flat = self.given[f"{name}.linear.weight"]
        n_out = self._outputs(name, n_in, flat.numel())
        parts = flat.split([a * b for a, b in zip(n_in, n_out, strict=True)])
        return [part.view(a, b) / math.sqrt(a) for part, a, b in zip(parts, n_in, n_out, strict=True)]

    def _outputs(self, name: str, n_in: Sequence[int], n_weights: int) -> list[int]:
        """Outputs of degree 0, 1, ...: those of higher degree have as many as our network, scalars what is left."""
        higher = list(self.channels[1 : len(n_in)])
        rest = n_weights - sum(a * b for a, b in zip(n_in[1:], higher, strict=True))
        if rest <= 0 or rest % n_in[0]:
            raise ValueError(f"the weights {name} of the checkpoint have an unexpected size, {n_weights}")
        return [rest // n_in[0], *higher]

    def radial(self, t: int, paths: Sequence[Coupling]) -> list[Tensor]:
        """The radial network of a layer, its last matrix in our order of paths and with our signs."""
        names = [f"{t}_convolution.weight_nn.layer{k}.weight" for k in range(len(self.checkpoint.radial_hidden) + 1)]
        matrices = [self.given[name] / math.sqrt(self.given[name].shape[0]) for name in names]
        widths = [*self.checkpoint.radial_hidden, sum(self.channels[first] for first, _, _ in paths)]
        if [matrix.shape[1] for matrix in matrices] != widths:
            raise ValueError(f"the radial network of layer {t} has matrices of unexpected size, not to {widths}")
        matrices = [matrices[0] * (math.sqrt(2.0) / self.checkpoint.cutoff**2), *matrices[1:]]
        matrices[1:] = [SILU_FACTOR * matrix for matrix in matrices[1:]]
        theirs = list(paths) if self.checkpoint.sorted_paths else sorted(paths)
        parts = matrices[-1].split([self.channels[first] for first, _, _ in theirs], dim=1)
        blocks = dict(zip(theirs, parts, strict=True))
        return [*matrices[:-1], torch.cat([self._sign(t, path) * blocks[path] for path in paths], dim=1)]

    def _sign(self, t: int, path: Coupling) -> float:
        """-1 where the original's coupling coefficients, which old files carry, have the other sign than e3nn's now."""
        name = "{}_convolution.convolution._compiled_main_left_right._w3j_{}_{}_{}".format(t, *path)
        if name not in self.given:
            return 1.0
        ours = o3.wigner_3j(*path, dtype=torch.float64)
        for sign in (1.0, -1.0):
            if torch.allclose(self.given[name], sign * ours, atol=1e-6):
                return sign
        raise ValueError(f"the checkpoint's coupling coefficients of {path} are not Wigner 3j symbols as e3nn has them")


CONNECTION = "self_connection_intro"


def _numbered(pattern: str, values: Sequence[Tensor]) -> dict[str, Tensor]:
    return {pattern.format(k): value for k, value in enumerate(values)}
