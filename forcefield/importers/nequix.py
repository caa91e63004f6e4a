"""Nequix's weights into `forcefield.networks.nequip.NequIP`.

Nequix (Koker, Kotak, Smidt, arXiv:2508.16067) is a NequIP with an equivariant layer norm and a self-connection shared
by the elements. In its files

- a linear map is divided by the square root of its inputs when applied;
- the norm of its activations is e3nn-jax's, which differs from ours in the fifth digit;
- the Bessel functions carry 2 / (r_c r) instead of sqrt(2) r_c / r.

All this is folded into the weights.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor

from forcefield.importers.imported import CRYSTALS, Imported
from forcefield.importers.nequix_file import NequixFile, read_file
from forcefield.nn.gate import SILU_RMS

ORIGIN = (
    "Nequix, github.com/atomicarchitects/nequix, package `nequix` on PyPI; Koker, Kotak, Smidt, arXiv:2508.16067; "
    "fine-tuning on phonons: arXiv:2601.07742."
)
LICENCE = "MIT, copyright 2025 Teddy Koker"
OAM = (
    "OMat24, sAlex and MPtrj (PBE and PBE+U, on the energy scale of the last two), then fine-tuned on phonons (PFT); "
    "arXiv:2508.16067 and arXiv:2601.07742."
)
KNOWN = {"74abdb00299b1924a9a880f658407658b3883a507ccc3a24e3e19d49adb04c1b": ("Nequix-OAM-1-PFT", OAM)}
"""`fingerprint` -> name, and what it was trained on."""
UNKNOWN = "Not known to the importer: the weights are none of those it recognises; see the origin."


def read_nequix(file: Path) -> Imported:
    """Translate weights of Nequix.

    Args:
        file: ``.nqx`` as the authors publish it, or ``.npz`` with its arrays.

    Raises:
        ValueError: it is no such file, or of a variant that our network does not represent.
    """
    given = read_file(file)
    name, labels = KNOWN.get(fingerprint(given), (None, UNKNOWN))
    order = sorted(range(len(given.elements)), key=lambda row: given.elements[row])
    return Imported(
        network="nequip",
        hyperparameters={
            "cutoff": given.cutoff,
            "channels": list(given.channels),
            "n_layers": given.n_layers,
            "n_radial": given.n_radial,
            "radial_hidden": [matrix.shape[1] for matrix in given.part(0, "mlp")[:-1]],
            "cutoff_exponent": given.exponent,
            "species_channels": len(given.elements),
            "self_connection": "shared",
            "norm": "rms",
            "mean_neighbours": given.mean_neighbours,
        },
        weights=_weights(given, torch.tensor(order)),
        energies={given.elements[row]: float(given.energies[row]) for row in order},
        scale=given.scale,
        licence=LICENCE,
        origin=ORIGIN if name is None else f"{name} of {ORIGIN}",
        labels=labels,
        limits=() if name is None else (CRYSTALS,),
    )


def fingerprint(given: NequixFile) -> str:
    """SHA-256 of the arrays, the same for both forms of a file."""
    digest = hashlib.sha256()
    for name, value in sorted(given.arrays.items()):
        digest.update(name.encode() + value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _weights(given: NequixFile, rows: Tensor) -> dict[str, Tensor]:
    """Name of each parameter of our network -> its value.

    Args:
        given: the file.
        rows: where the elements, by atomic number, stand in its tables.
    """
    gated = SILU_RMS / given.silu_rms  # how many times larger Nequix's features are behind a gate than ours
    found = {
        "sender.weight": _applied(given.part(0, "l1"))[0][rows],
        "layers.0.element_embedding.weight": _applied(given.part(0, "skip"))[0][rows],
        "readout.weight": gated * _applied([given.arrays["readout"]])[0],
    }
    for t in range(given.n_layers):
        first, *others = given.part(t, "mlp")
        radial = [first * (math.sqrt(2.0) / given.cutoff**2), *others]
        found |= _numbered(f"layers.{t}.convolution.weights.layers.{{}}.weight", radial)
        found |= _numbered(f"layers.{t}.mix.degrees.{{}}.weight", _applied(given.part(t, "l2")))
        found |= _numbered(f"layers.{t}.norm.gains.{{}}", given.part(t, "ln"))
        if t:
            connected = [gated * matrix for matrix in _applied(given.part(t, "skip"))]
            sent = [gated * matrix for matrix in _applied(given.part(t, "l1"))]
            found |= _numbered(f"layers.{t}.connect.degrees.{{}}.weight", connected)
            found |= _numbered(f"senders.{t - 1}.degrees.{{}}.weight", sent)
    return found


def _applied(matrices: list[Tensor]) -> list[Tensor]:
    """Linear maps as they act on features."""
    return [matrix / math.sqrt(matrix.shape[0]) for matrix in matrices]


def _numbered(pattern: str, values: list[Tensor]) -> dict[str, Tensor]:
    return {pattern.format(k): value for k, value in enumerate(values)}
