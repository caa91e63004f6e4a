"""CGCNN: the crystal graph convolution, a gate decides how much of each neighbour's message passes.

Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301, eq. 5. With atoms v_i, the
Gaussians u_ij of the distance (as in the authors' published code) and ``z_ij = v_i + v_j + u_ij`` (concatenated),

    v_i' = v_i + sum_j sigmoid(z_ij W_f + b_f) * softplus(z_ij W_s + b_s)

channel by channel. Here as a potential. We depart from the paper in that an atom starts from a learned embedding of its
element instead of tabulated properties; messages are multiplied by a smooth cutoff, which also replaces the limit of
twelve neighbours; there is no batch normalisation (an atom's energy must not depend on what else is in the batch), for
which the sum is divided by the square root of a typical number of neighbours; and the energy is the sum of atomic ones
instead of a network of the crystal's mean feature. A matrix acting on z_ij is three matrices acting on atoms and on
the edge, of which the first two are applied before atoms are copied to edges; the result is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange
from forcefield.nn.dense import Dense, EnergyReadout
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import GaussianBasis


class CGCNN(AtomNetwork):
    """Gated graph convolutions; see the module's formula.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom.
        n_layers: convolutions.
        n_radial: Gaussians between zero and the cutoff.
        hidden: width of the network that gives the energy.
        mean_neighbours: typical number of neighbours, normalises the sums.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        n_layers: int = 3,
        n_radial: int = 40,
        hidden: int = 128,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial, hidden=hidden)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.radial = GaussianBasis(cutoff, n_radial)
        scale = 1 / math.sqrt(mean_neighbours)
        self.convolutions = nn.ModuleList([Convolution(channels, n_radial, scale) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, hidden, activation=nn.functional.softplus)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features v_i (n_local, channels) of the last layer and the atomic energies (n_local,)."""
        edges, v, send = self.begin(graph, vectors, exchange)
        for convolution in self.convolutions:
            v = v + convolution(v, send(v), edges)
        return v, self.readout(v)


class Convolution(nn.Module):
    """Eq. 5 without its residual.

    Args:
        channels: features of an atom.
        n_radial: Gaussians.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.from_centre = Dense(channels, 2 * channels)
        self.from_neighbour = Linear(channels, 2 * channels)
        self.from_distance = Linear(n_radial, 2 * channels)

    def forward(self, v: Tensor, sent: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: v (centres, channels), sent (atoms, channels), the edges. Returns: (centres, channels)."""
        z = edges.of_pairs(self.from_centre(v), self.from_neighbour(sent)) + self.from_distance(edges.basis)
        return edges.sum(gated(z) * edges.envelope) * self.scale


def gated(z: Tensor) -> Tensor:
    """``sigmoid(z_f) * softplus(z_s)`` of both halves of z: (edges, 2 channels) -> (edges, channels)."""
    gate, core = z.chunk(2, dim=1)
    return torch.sigmoid(gate) * nn.functional.softplus(core)
