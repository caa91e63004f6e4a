"""Equivariant transformer: attention over the neighbours, convolutions in the frame of each edge.

Attention as in Equiformer (Liao and Smidt, ICLR 2023, arXiv:2206.11990, section 3) and EquiformerV2 (Liao et al., ICLR
2024, arXiv:2306.12059, figure 1), whose SO(2) convolutions are those of eSCN (Passaro and Zitnick, ICML 2023,
arXiv:2302.03655); eSEN (Fu et al., arXiv:2502.12147) builds a smooth potential of the same parts. A block is, with
features x_i of degree 0 to L, the rotation D_ij that turns the edge onto the polar axis, and heads h,

    g_ij  = SO2( w(r_ij, z_i, z_j) * D_ij (W_s x_j + W_t x_i) )             convolution in the edge's frame
    a_ij  = u(r_ij) exp(b_ij) / (1 + sum_k u(r_ik) exp(b_ik))               attention, b_ij a network of g_ij's scalars
    x_i   = x_i + W sum_j a_ij D_ij^T SO2( gate(g_ij) )                     every head weighs its share of the channels
    x_i   = x_i + W gate(W x_i)                                             feed-forward

each on features divided by their root mean square (with a floor, so that small ones stay smooth). SO2 mixes
degrees and channels by one matrix for each |m|. The atomic energy is a network of the last scalars.

We depart from the papers in that SO2 uses one matrix for m and -m instead of a complex pair: the imaginary one would
mix both, which reflections forbid for features of natural parity (degree l has parity (-1)^l); in that the attention is
smooth at the cutoff (by u, and by the 1, a neighbour that says nothing), its logarithms b being kept within 6; in
gates instead of grid-based activations; and in that there is no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange, check_sizes, fill_ghosts
from forcefield.nn.degree_linear import DegreeLinear
from forcefield.nn.dense import MLP, EnergyReadout, scaled_silu
from forcefield.nn.gate import Gate, RMSNorm
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import Neighbourhood, neighbourhood
from forcefield.nn.radial import BesselBasis, smooth_cutoff
from forcefield.nn.rotation import Rotations, rotate, rotate_back


class EquivariantTransformer(AtomNetwork):
    """Attention with SO(2) convolutions; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom, of each degree.
        lmax: highest degree L.
        n_heads: heads of the attention; they share the channels evenly.
        n_layers: blocks.
        n_radial: Bessel functions.
        radial_hidden: width of the network of an edge's length and elements.

    Raises:
        ValueError: a size is below one, or the heads do not divide the channels.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 24,
        lmax: int = 2,
        n_heads: int = 4,
        n_layers: int = 2,
        n_radial: int = 8,
        radial_hidden: int = 32,
    ) -> None:
        check_sizes(channels=channels, lmax=lmax, n_heads=n_heads, n_layers=n_layers, n_radial=n_radial)
        if channels % n_heads:
            raise ValueError(f"n_heads must divide channels = {channels}, got {n_heads}")
        super().__init__(elements, cutoff)
        self.components = [2 * l + 1 for l in range(lmax + 1)]
        self.radial, self.rotations = BesselBasis(cutoff, n_radial), Rotations(lmax)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.of_centre = SpeciesEmbedding(self.n_species, radial_hidden)
        self.of_neighbour = SpeciesEmbedding(self.n_species, radial_hidden)
        self.of_distance = Linear(n_radial, radial_hidden)
        self.attentions = nn.ModuleList([Attention(channels, lmax, n_heads, radial_hidden) for _ in range(n_layers)])
        self.feed_forwards = nn.ModuleList([FeedForward(channels, lmax) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, channels)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Scalars (n_local, channels) of the last block and the atomic energies (n_local,)."""
        edges = neighbourhood(graph, vectors.to(self.dtype))
        envelope = smooth_cutoff(edges.distance, self.cutoff)[:, None]
        rotations = self.rotations(edges.direction)
        species = self.species(graph.numbers)
        pair = edges.of_centres(self.of_centre(species)) + edges.of_neighbours(self.of_neighbour(species))
        edge = scaled_silu(pair + self.of_distance(self.radial(edges.distance)))  # (edges, radial_hidden)
        scalars = self.embedding(species)[:, None]  # (atoms, 1, channels)
        sent = torch.cat([scalars, scalars.new_zeros(len(scalars), sum(self.components) - 1, scalars.shape[2])], dim=1)
        x = sent[: graph.n_local]  # (n_local, (lmax+1)^2, channels)
        for k, (attention, feed_forward) in enumerate(zip(self.attentions, self.feed_forwards, strict=True)):
            if k:
                sent = fill_ghosts(x, exchange)
            x = x + attention(sent, edge, envelope, rotations, edges)
            x = x + feed_forward(x)
        return x[:, 0], self.readout(x[:, 0])


class Attention(nn.Module):
    """Attention over the neighbours, without its residual.

    Args:
        channels: features of an atom, of each degree.
        lmax: highest degree.
        n_heads: heads.
        n_edge: features of an edge.
    """

    def __init__(self, channels: int, lmax: int, n_heads: int, n_edge: int) -> None:
        super().__init__()
        self.components, self.n_heads = [2 * l + 1 for l in range(lmax + 1)], n_heads
        same = [channels] * (lmax + 1)
        self.norm, self.gate = RMSNorm(same, floor=0.1), Gate(same)
        self.source, self.target = DegreeLinear(same, same), DegreeLinear(same, same)
        self.weights = MLP([n_edge, n_edge, (lmax + 1) * channels], last_scale=0.3)
        self.first, self.second = OrderMixing(lmax, channels), OrderMixing(lmax, channels)
        self.gates = Linear(channels, lmax * channels)
        self.logits = MLP([channels, channels, n_heads], last_scale=0.3)
        self.out = DegreeLinear(same, same)

    def forward(
        self, sent: Tensor, edge: Tensor, envelope: Tensor, rotations: list[Tensor], edges: Neighbourhood
    ) -> Tensor:
        """What the neighbours add.

        Args:
            sent: (atoms, (lmax+1)^2, channels), ghosts included.
            edge: (edges, n_edge) features of the edges.
            envelope: (edges, 1) cutoff function.
            rotations: into the edges' frames.
            edges: the neighbours.

        Returns:
            (centres, (lmax+1)^2, channels).
        """
        x = self.norm(list(sent.split(self.components, dim=1)))
        source, target = torch.cat(self.source(x), dim=1), torch.cat(self.target(x), dim=1)
        pair = rotate(rotations, edges.of_neighbours(source) + edges.of_centres(target))
        g = self.first(pair * self._per_component(self.weights(edge)))
        weights = self._attention(g[:, 0], envelope, edges)  # (edges, channels)
        parts = list(g.split(self.components, dim=1))
        parts[0] = torch.cat([parts[0], self.gates(parts[0])], dim=2)
        value = self.second(torch.cat(self.gate(parts), dim=1)) * weights[:, None]
        summed = edges.sum(rotate_back(rotations, value))
        return torch.cat(self.out(summed.split(self.components, dim=1)), dim=1)

    def _attention(self, scalars: Tensor, envelope: Tensor, edges: Neighbourhood) -> Tensor:
        """Weights a_ij of the heads, repeated for their channels: (edges, channels)."""
        logits = 6 * torch.tanh(self.logits(scalars) / 6)
        weights = envelope * torch.exp(logits)  # (edges, heads)
        attention = weights / edges.of_centres(1 + edges.sum(weights))
        return attention.repeat_interleave(scalars.shape[1] // self.n_heads, dim=1)

    def _per_component(self, weights: Tensor) -> Tensor:
        """(edges, (lmax+1) channels) -> (edges, (lmax+1)^2, channels)."""
        parts = weights[:, None].chunk(len(self.components), dim=2)
        return torch.cat([part.expand(-1, n, -1) for part, n in zip(parts, self.components, strict=True)], dim=1)


class OrderMixing(nn.Module):
    """The SO(2) convolution: degrees and channels of the components m and -m are mixed by one matrix for each |m|.

    Args:
        lmax: highest degree.
        channels: features of each degree, before and after.
    """

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__()
        self.lmax, self.channels = lmax, channels
        widths = [(lmax + 1 - m) * channels for m in range(lmax + 1)]
        self.orders = nn.ModuleList([Linear(width, width) for width in widths])

    def forward(self, features: Tensor) -> Tensor:
        """Args: features (edges, (lmax+1)^2, channels) in the edges' frames. Returns: the same shape."""
        columns = list(features.unbind(1))  # component l^2 + l + m is column m of degree l
        for m, linear in enumerate(self.orders):
            degrees = range(m, self.lmax + 1)
            for sign in (1,) if m == 0 else (1, -1):
                places = [l * l + l + sign * m for l in degrees]
                mixed = linear(torch.cat([columns[place] for place in places], dim=1))
                for k, place in enumerate(places):
                    columns[place] = mixed[:, k * self.channels : (k + 1) * self.channels]
        return torch.stack(columns, dim=1)


class FeedForward(nn.Module):
    """``W gate(W x)`` on normalised features, without its residual.

    Args:
        channels: features of an atom, of each degree.
        lmax: highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        same = [channels] * (lmax + 1)
        self.components = [2 * l + 1 for l in range(lmax + 1)]
        self.norm, self.gate = RMSNorm(same, floor=0.1), Gate(same)
        self.first, self.second = DegreeLinear(same, self.gate.in_channels), DegreeLinear(same, same)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (atoms, (lmax+1)^2, channels). Returns: the same shape."""
        hidden = self.gate(self.first(self.norm(list(x.split(self.components, dim=1)))))
        return torch.cat(self.second(hidden), dim=1)
