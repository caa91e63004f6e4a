"""The general message-passing network: a message, an aggregation and an update, each of which can be replaced.

Gilmer, Schoenholz, Riley, Vinyals, Dahl, ICML 2017, arXiv:1704.01212, eq. 1 to 3; edges are updated too, as in
Battaglia et al., arXiv:1806.01261, algorithm 1:

    e_ij' = e_ij + MLP(h_i, h_j, e_ij)                        edge update
    m_i   = aggregate_j message(h_i, h_j, e_ij')              eq. 1, aggregate = sum in the paper
    h_i'  = update(h_i, m_i)                                  eq. 2
    E_i   = readout(h_i),  E = sum_i E_i                      eq. 3

`MESSAGES`, `AGGREGATIONS` and `UPDATES` hold the choices; a new one is a class and an entry there. We depart from the
paper in that every edge counts with a smooth cutoff u(r_ij), which all aggregations respect:

    sum:   sum_j u_ij m_ij / sqrt(n)
    mean:  sum_j u_ij m_ij / (1 + sum_j u_ij)
    max:   sum_j u_ij exp(t_ij) m_ij / (1 + sum_j u_ij exp(t_ij)),   t_ij = 4 tanh(m_ij)

The 1 is a neighbour that says nothing, without which a mean would jump as the last neighbour leaves; a hard maximum
would give forces that jump where two messages change places, so ours is a soft one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange
from forcefield.nn.dense import MLP, Dense, EnergyReadout
from forcefield.nn.mlp import SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis


class MPNN(AtomNetwork):
    """Message passing made of three replaceable functions; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom.
        edge_channels: features of an edge.
        n_layers: rounds of message passing.
        n_radial: Bessel functions.
        message: "concatenate" or "edge_network", see `MESSAGES`.
        aggregation: "sum", "mean" or "max", see `AGGREGATIONS`.
        update: "gru" or "residual", see `UPDATES`.
        update_edges: whether edges are updated.
        mean_neighbours: typical number of neighbours, normalises the sum.

    Raises:
        ValueError: a size is below one or a name unknown.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        edge_channels: int = 32,
        n_layers: int = 3,
        n_radial: int = 12,
        message: str = "concatenate",
        aggregation: str = "sum",
        update: str = "gru",
        update_edges: bool = True,
        mean_neighbours: float = 30.0,
    ) -> None:
        sizes = {"channels": channels, "edge_channels": edge_channels, "n_layers": n_layers, "n_radial": n_radial}
        super().__init__(elements, cutoff, **sizes)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.radial = BesselBasis(cutoff, n_radial)
        self.edge_embedding = Dense(n_radial, edge_channels)
        make_message, make_update = choice(MESSAGES, message, "message"), choice(UPDATES, update, "update")
        self.aggregate = choice(AGGREGATIONS, aggregation, "aggregation")(mean_neighbours)
        widths = [2 * channels + edge_channels, edge_channels, edge_channels]
        self.edge_updates = nn.ModuleList(
            [MLP(widths, last_scale=0.3) for _ in range(n_layers if update_edges else 0)]  # they add up
        )
        self.messages = nn.ModuleList([make_message(channels, edge_channels) for _ in range(n_layers)])
        self.updates = nn.ModuleList([make_update(channels) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, channels)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features h_i (n_local, channels) of the last round and the atomic energies (n_local,)."""
        edges, h, send = self.begin(graph, vectors, exchange)
        e = self.edge_embedding(edges.basis)  # (edges, edge_channels)
        for k, (message, update) in enumerate(zip(self.messages, self.updates, strict=True)):
            h_i, h_j = edges.of_centres(h), edges.of_neighbours(send(h))
            if self.edge_updates:
                e = e + self.edge_updates[k](torch.cat([h_i, h_j, e], dim=1))
            h = update(h, self.aggregate(message(h_i, h_j, e), edges))
        return h, self.readout(h)


class ConcatenateMessage(nn.Module):
    """``MLP(h_i, h_j, e_ij)``.

    Args:
        channels: features of an atom.
        edge_channels: features of an edge.
    """

    def __init__(self, channels: int, edge_channels: int) -> None:
        super().__init__()
        self.mlp = MLP([2 * channels + edge_channels, channels, channels])

    def forward(self, h_i: Tensor, h_j: Tensor, e: Tensor) -> Tensor:
        """Args: h_i, h_j (edges, channels), e (edges, edge_channels). Returns: (edges, channels)."""
        return self.mlp(torch.cat([h_i, h_j, e], dim=1))


class EdgeNetworkMessage(nn.Module):
    """``A(e_ij) h_j`` with a matrix A that a network makes of the edge: Gilmer et al., section 5.1.

    Args:
        channels: features of an atom.
        edge_channels: features of an edge.
    """

    def __init__(self, channels: int, edge_channels: int) -> None:
        super().__init__()
        self.matrix = MLP([edge_channels, edge_channels, channels * channels], last_scale=1 / math.sqrt(channels))

    def forward(self, h_i: Tensor, h_j: Tensor, e: Tensor) -> Tensor:
        """Args: h_i (not used), h_j (edges, channels), e (edges, edge_channels). Returns: (edges, channels)."""
        matrices = self.matrix(e).view(-1, h_j.shape[1], h_j.shape[1])
        return (matrices * h_j[:, None, :]).sum(2)


class SumAggregation(nn.Module):
    """Sum over the neighbours, divided by the square root of their typical number.

    Args:
        mean_neighbours: that number.
    """

    def __init__(self, mean_neighbours: float) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(mean_neighbours)

    def forward(self, messages: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: messages (edges, channels), the edges. Returns: (centres, channels)."""
        return edges.sum(messages * edges.envelope) * self.scale


class MeanAggregation(nn.Module):
    """Mean over the neighbours and one silent one.

    Args:
        mean_neighbours: not used.
    """

    def __init__(self, mean_neighbours: float) -> None:
        super().__init__()

    def forward(self, messages: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: messages (edges, channels), the edges. Returns: (centres, channels)."""
        return edges.sum(messages * edges.envelope) / (1 + edges.sum(edges.envelope))


class MaxAggregation(nn.Module):
    """Soft maximum over the neighbours and one silent one, for each channel.

    Args:
        mean_neighbours: not used.
    """

    def __init__(self, mean_neighbours: float) -> None:
        super().__init__()

    def forward(self, messages: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: messages (edges, channels), the edges. Returns: (centres, channels)."""
        weights = edges.envelope * torch.exp(4 * torch.tanh(messages))
        return edges.sum(weights * messages) / (1 + edges.sum(weights))


class GatedRecurrentUpdate(nn.Module):
    """A gated recurrent unit decides how much of the old features stays: Gilmer et al., section 2.

    Args:
        channels: features of an atom.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates, self.new = Dense(2 * channels, 2 * channels), Dense(2 * channels, channels)

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """Args: h, m (centres, channels). Returns: the new h."""
        keep, reset = torch.sigmoid(self.gates(torch.cat([h, m], dim=1))).chunk(2, dim=1)
        return keep * h + (1 - keep) * torch.tanh(self.new(torch.cat([reset * h, m], dim=1)))


class ResidualUpdate(nn.Module):
    """``h + MLP(h, m)``.

    Args:
        channels: features of an atom.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = MLP([2 * channels, channels, channels], last_scale=0.3)  # features grow with every layer

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """Args: h, m (centres, channels). Returns: the new h."""
        return h + self.mlp(torch.cat([h, m], dim=1))


MESSAGES: dict[str, type[nn.Module]] = {"concatenate": ConcatenateMessage, "edge_network": EdgeNetworkMessage}
AGGREGATIONS: dict[str, type[nn.Module]] = {"sum": SumAggregation, "mean": MeanAggregation, "max": MaxAggregation}
UPDATES: dict[str, type[nn.Module]] = {"gru": GatedRecurrentUpdate, "residual": ResidualUpdate}


def choice(table: Mapping[str, type[nn.Module]], name: str, what: str) -> type[nn.Module]:
    """The entry of one of the tables above.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; choose one of {sorted(table)}")
    return table[name]
