"""The zoo: every architecture maps ``(graph, vectors, exchange) -> atomic energies``."""

from __future__ import annotations

from typing import Any

from torch import nn

from forcefield.networks.density import DensityNetwork
from forcefield.networks.mace import MACE
from forcefield.networks.nequip import NequIP

NETWORKS: dict[str, type[nn.Module]] = {
    "density": DensityNetwork,
    "nequip": NequIP,
    "mace": MACE,
}


def build_network(name: str, elements: list[int], **hyperparameters: Any) -> nn.Module:
    """Construct a network by name.

    Args:
        name: key of `NETWORKS`.
        elements: atomic numbers it shall know.
        hyperparameters: keywords of its constructor.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; choose one of {sorted(NETWORKS)}")
    return NETWORKS[name](elements, **hyperparameters)
