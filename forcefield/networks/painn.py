"""PaiNN: scalars and vectors on every atom; vectors tell directions and so carry angles without triplets.

Schütt, Unke, Gastegger, ICML 2021, arXiv:2102.03150, figure 2 and eq. 7 to 10. With filters W(r) linear in a radial
basis and networks phi, a of scalars, all products channel by channel:

    ds_i = sum_j phi_s(s_j) W_s(r_ij)                                                      eq. 7: message
    dv_i = sum_j v_j phi_vv(s_j) W_vv(r_ij) + phi_vs(s_j) W_vs(r_ij) r_ij / |r_ij|         eq. 8
    ds_i = a_ss(s_i, |V v_i|) + a_sv(s_i, |V v_i|) <U v_i, V v_i>                          eq. 9: update
    dv_i = a_vv(s_i, |V v_i|) U v_i                                                        eq. 10

The atomic energy is a network of the last scalars. We depart from the paper in the cutoff function (a polynomial with
two vanishing derivatives instead of a cosine), the length |V v_i|, which is a parabola near zero, scalar products
divided by sqrt(3), and sums divided by the square root of a typical number of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import EquivariantNetwork, Exchange, Sender
from forcefield.nn.dense import MLP, EnergyReadout
from forcefield.nn.invariants import smooth_norm
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis


class PaiNN(EquivariantNetwork):
    """Equivariant message passing with scalars and vectors; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: scalars, and vectors, of an atom.
        n_layers: message and update blocks.
        n_radial: Bessel functions.
        mean_neighbours: typical number of neighbours, normalises the sums.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 96,
        n_layers: int = 3,
        n_radial: int = 20,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial)
        self.tensor_channels = (channels,)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.radial = BesselBasis(cutoff, n_radial)
        scale = 1 / math.sqrt(mean_neighbours)
        self.messages = nn.ModuleList([Message(channels, n_radial, scale) for _ in range(n_layers)])
        self.updates = nn.ModuleList([Update(channels) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, max(channels // 2, 1))

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Scalars s_i (n_local, channels) of the last layer, energies (n_local,), and v_i (n_local, 3, channels)."""
        edges = self.edges(graph, vectors)
        scalars = self.embedding(self.species(graph.numbers))[:, None]
        first = torch.cat([scalars, scalars.new_zeros(scalars.shape[0], 3, scalars.shape[2])], dim=1)
        x, send = first[: graph.n_local], Sender(first, exchange)  # (n_local, 4, channels): s_i, components of v_i
        for message, update in zip(self.messages, self.updates, strict=True):
            x = x + message(send(x), edges)
            x = x + update(x)
        return x[:, 0], self.readout(x[:, 0]), [x[:, 1:]]


class Message(nn.Module):
    """Eq. 7 and 8.

    Args:
        channels: scalars, and vectors, of an atom.
        n_radial: radial functions.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.phi = MLP([channels, channels, 3 * channels], last_scale=0.3)
        self.filter = Linear(n_radial, 3 * channels)

    def forward(self, sent: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: sent (atoms, 4, channels), the edges. Returns: ds_i and dv_i (centres, 4, channels)."""
        weights = edges.of_neighbours(self.phi(sent[:, 0])) * self.filter(edges.basis)
        scalar, along_vector, along_edge = weights[:, None].chunk(3, dim=2)  # phi W of s, vv, vs: (edges, 1, channels)
        vector = edges.of_neighbours(sent[:, 1:]) * along_vector + edges.direction[:, :, None] * along_edge
        return edges.sum(torch.cat([scalar, vector], dim=1)) * self.scale


class Update(nn.Module):
    """Eq. 9 and 10.

    Args:
        channels: scalars, and vectors, of an atom.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = Linear(channels, 2 * channels)
        self.a = MLP([2 * channels, channels, 3 * channels], last_scale=0.1)  # its products grow with every layer

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (atoms, 4, channels). Returns: ds_i and dv_i of the same shape."""
        u, v = self.mix(x[:, 1:]).chunk(2, dim=2)  # U v_i and V v_i, (atoms, 3, channels)
        a_ss, a_sv, a_vv = self.a(torch.cat([x[:, 0], smooth_norm(v, dim=1)], dim=1)).chunk(3, dim=1)
        scalar = a_ss + a_sv * (u * v).sum(1) / math.sqrt(3)
        return torch.cat([scalar[:, None], a_vv[:, None] * u], dim=1)
