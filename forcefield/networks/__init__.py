"""The zoo: every architecture maps ``(graph, vectors, exchange) -> atomic energies``."""

from __future__ import annotations

from torch import nn

from forcefield.networks.density import DensityNetwork

NETWORKS: dict[str, type[nn.Module]] = {
    "density": DensityNetwork,
}


def build_network(name: str, elements: list[int], **hyperparameters) -> nn.Module:
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
