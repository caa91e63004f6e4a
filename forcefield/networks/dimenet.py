"""DimeNet++: messages live on edges and meet under angles.

Gasteiger, Giri, Margraf, Günnemann, arXiv:2011.14115, the fast form of Gasteiger, Groß, Günnemann, ICLR 2020,
arXiv:2003.03123 (section "Directional message passing"; the basis is eq. 7 with the envelope of eq. 8). With a radial
basis B and networks of one layer sigma, an edge starts as ``m_ij = sigma(W sigma(z_i + z_j + W B))``; an interaction is

    d_ik  = sigma(W sigma(W m_ik) * (W B(r_ik)))                             down-projection of the other edges
    a_ij  = sum_{k != j} d_ik * sum_{l n} W_{l n} B_n(r_ik) P_l(cos theta)    directional message passing
    m_ij' = m_ij + residual layers( sigma(W m_ij) + sigma(W a_ij) )

and every block adds ``E_i += network( sum_j (W B(r_ij)) * m_ij )``. `angular_sum` replaces the loop over triplets and
gives the same value, since the basis enters linearly (DimeNet++'s Hadamard product).

The one departure that matters: in the paper the message from j to i takes in those that arrive at j, the angle being
the one at j. Here a network holds edges of its own centres only (an engine hands ghosts to it without their edges), so
the angle is the one at i, between the edges i receives along, and what happened around j comes as features of atom j:
``m_ij += W h_j`` with ``h_j = sum_k (W B(r_jk)) * m_jk`` after each block. Both reach one shell further with each
block. Also, the radial part of the angular basis is the Bessel function of order zero for all l, one residual layer
stands before the skip connection and one after it, and sums are divided by the square root of a typical number of
neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange, fill_ghosts
from forcefield.nn.dense import Dense, EnergyReadout, scaled_silu
from forcefield.nn.equivariant import SphericalHarmonics
from forcefield.nn.invariants import angular_sum
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis


class DimeNet(AtomNetwork):
    """Directional message passing between edges; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an edge.
        angular_channels: channels of the directional messages.
        n_layers: interactions.
        n_radial: Bessel functions.
        lmax: highest degree of the Legendre polynomials.
        mean_neighbours: typical number of neighbours, normalises the sums.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 48,
        angular_channels: int = 16,
        n_layers: int = 2,
        n_radial: int = 6,
        lmax: int = 3,
        mean_neighbours: float = 30.0,
    ) -> None:
        sizes = {"channels": channels, "angular_channels": angular_channels, "n_layers": n_layers, "n_radial": n_radial}
        super().__init__(elements, cutoff, **sizes)
        scale = 1 / math.sqrt(mean_neighbours)
        self.radial, self.angular = BesselBasis(cutoff, n_radial), SphericalHarmonics(lmax)
        self.of_centre = SpeciesEmbedding(self.n_species, channels)
        self.of_neighbour = SpeciesEmbedding(self.n_species, channels)
        self.of_distance = Linear(n_radial, channels)
        self.embedding = Dense(channels, channels)
        self.interactions = nn.ModuleList(
            [Interaction(channels, angular_channels, n_radial, lmax, scale) for _ in range(n_layers)]
        )
        self.outputs = nn.ModuleList([Output(channels, n_radial, scale) for _ in range(n_layers + 1)])
        senders = [Linear(channels, channels) for _ in range(n_layers)]
        for sender in senders:
            sender.weight.data *= 0.03  # products grow with every block
        self.senders = nn.ModuleList(senders)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features h_i (n_local, channels) of the last block and the atomic energies (n_local,)."""
        edges, species = self.edges(graph, vectors), self.species(graph.numbers)
        harmonics = self.angular(edges.direction)
        pair = edges.of_pairs(self.of_centre(species), self.of_neighbour(species)) + self.of_distance(edges.basis)
        m = scaled_silu(self.embedding(scaled_silu(pair)))  # (edges, channels)
        h, energies = self.outputs[0](m, edges)
        for interaction, output, sender in zip(self.interactions, self.outputs[1:], self.senders, strict=True):
            m = m + edges.of_neighbours(sender(fill_ghosts(h, exchange)))
            m = interaction(m, harmonics, edges)
            h, more = output(m, edges)
            energies = energies + more
        return h, energies


class Interaction(nn.Module):
    """Directional message passing among the edges of a centre.

    Args:
        channels: features of an edge.
        angular_channels: channels of the directional messages.
        n_radial: Bessel functions.
        lmax: highest degree of the Legendre polynomials.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, angular_channels: int, n_radial: int, lmax: int, scale: float) -> None:
        super().__init__()
        self.scale, self.lmax = scale, lmax
        self.own, self.other = Dense(channels, channels), Dense(channels, channels)
        self.filter = Linear(n_radial, channels)
        self.down, self.up = Linear(channels, angular_channels), Linear(angular_channels, channels)
        self.angles = Linear(n_radial, (lmax + 1) * angular_channels)  # W_{l n}
        self.before, self.after = Residual(channels), Residual(channels)
        self.skip = Dense(channels, channels)
        self.up.weight.data *= 0.03
        self.skip.linear.weight.data *= 0.3

    def forward(self, m: Tensor, harmonics: list[Tensor], edges: RadialNeighbourhood) -> Tensor:
        """Args: m (edges, channels), harmonics over l of (edges, 2l+1), the edges. Returns: new m."""
        down = scaled_silu(self.down(scaled_silu(self.other(m)) * self.filter(edges.basis)))
        weights = [angle * down for angle in self.angles(edges.basis).chunk(self.lmax + 1, dim=1)]
        around = torch.stack(angular_sum(edges, harmonics, weights)).sum(0) * self.scale
        new = scaled_silu(self.own(m)) + scaled_silu(self.up(around))
        return self.after(m + scaled_silu(self.skip(self.before(new))))


class Residual(nn.Module):
    """``x + sigma(W sigma(W x))``.

    Args:
        channels: channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = Dense(channels, channels), Dense(channels, channels)
        self.second.linear.weight.data *= 0.3

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (rows, channels). Returns: the same shape."""
        return x + scaled_silu(self.second(scaled_silu(self.first(x))))


class Output(nn.Module):
    """Features and energy of an atom from its edges; zero weight at the cutoff.

    Args:
        channels: features of an edge.
        n_radial: Bessel functions.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.filter = Linear(n_radial, channels)
        self.filter.weight.data *= 0.3
        self.readout = EnergyReadout(channels, channels)

    def forward(self, m: Tensor, edges: RadialNeighbourhood) -> tuple[Tensor, Tensor]:
        """Args: m (edges, channels), the edges. Returns: (centres, channels) and (centres,)."""
        h = edges.sum(self.filter(edges.basis) * m) * self.scale
        return h, self.readout(h)
