"""The zoo: every architecture maps ``(graph, vectors, exchange) -> atomic energies``."""

from __future__ import annotations

from typing import Any

from torch import nn

from forcefield.networks.allegro import Allegro
from forcefield.networks.cgcnn import CGCNN
from forcefield.networks.density import DensityNetwork
from forcefield.networks.dimenet import DimeNet
from forcefield.networks.gcn import GCN
from forcefield.networks.m3gnet import M3GNet
from forcefield.networks.mace import MACE
from forcefield.networks.megnet import MEGNet
from forcefield.networks.mpnn import MPNN
from forcefield.networks.nequip import NequIP
from forcefield.networks.painn import PaiNN
from forcefield.networks.schnet import SchNet
from forcefield.networks.tensornet import TensorNet
from forcefield.networks.transformer import EquivariantTransformer

NETWORKS: dict[str, type[nn.Module]] = {
    "density": DensityNetwork,
    "gcn": GCN,
    "mpnn": MPNN,
    "cgcnn": CGCNN,
    "schnet": SchNet,
    "megnet": MEGNet,
    "dimenet": DimeNet,
    "painn": PaiNN,
    "m3gnet": M3GNet,
    "tensornet": TensorNet,
    "allegro": Allegro,
    "transformer": EquivariantTransformer,
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
