"""Bodies: every network of the zoo gives its features to a head, and a few networks are made for properties only."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import ase
import torch
from torch import Tensor, nn

from forcefield.graph import graph_from_atoms
from forcefield.networks import NETWORKS
from forcefield.nn.dense import EnergyReadout
from forcefield.suggest import nearest
from forcefield.tasks.cgcnn import CrystalCGCNN
from forcefield.tasks.megnet import CrystalMEGNet

BODIES: dict[str, type[nn.Module]] = {
    **NETWORKS,
    "crystal_cgcnn": CrystalCGCNN,
    "crystal_megnet": CrystalMEGNet,
}


class NoEnergy(nn.Module):
    """Stands where a potential's energy readout would, without weights."""

    def forward(self, scalars: Tensor) -> Tensor:
        """Args: scalars (atoms, channels). Returns: zeros (atoms,)."""
        return scalars.new_zeros(scalars.shape[0])


def build_body(name: str, elements: Sequence[int], **hyperparameters: Any) -> nn.Module:
    """Construct a body by name.

    Args:
        name: key of `BODIES`.
        elements: atomic numbers it shall know.
        hyperparameters: keywords of its constructor.

    Raises:
        ValueError: the name is unknown; says the nearest one.
    """
    if name not in BODIES:
        raise ValueError(f"unknown network {name!r}{nearest(name, BODIES)}")
    body = BODIES[name](list(elements), **hyperparameters)
    if isinstance(getattr(body, "readout", None), EnergyReadout):
        body.readout = NoEnergy()
    return body


def feature_width(body: nn.Module) -> int:
    """Channels of a body's features, seen on a dimer.

    A copy is asked, in float64: constants of a body are float64 until its precision is set, and to set it and set it
    back would cost them digits.
    """
    body = copy.deepcopy(body).to(torch.float64)
    z = body.elements[0]  # type: ignore[index]
    graph = graph_from_atoms(ase.Atoms([z, z], positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.5]]), 2.0)
    with torch.no_grad():
        return int(body.features(graph, graph.edge_vectors())[0].shape[1])  # type: ignore[operator]
