"""Equivariant transformer: attention over the neighbours, convolutions in the frame of each edge.

Attention as in Equiformer (Liao and Smidt, ICLR 2023, arXiv:2206.11990, "Equivariant Graph Attention") and EquiformerV2
(Liao et al., ICLR 2024, arXiv:2306.12059, figure 1 and sections 3.2 and 3.5, whose formulas have no numbers), whose
SO(2) convolutions are those of eSCN (Passaro and Zitnick, ICML 2023, arXiv:2302.03655); eSEN (Fu et al.,
arXiv:2502.12147) builds a smooth potential of the same parts. A block is, with features x_i of degree 0 to L, the
rotation D_ij that turns the edge onto the polar axis, and heads h,

    g_ij  = SO2( w(r_ij, z_i, z_j) * D_ij (W_s x_j + W_t x_i) )             convolution in the edge's frame
    a_ij  = u(r_ij) exp(b_ij) / (1 + sum_k u(r_ik) exp(b_ik))               attention, b_ij a network of g_ij's scalars
    x_i   = x_i + W sum_j a_ij D_ij^T SO2( gate(g_ij) )                     every head weighs its share of the channels
    x_i   = x_i + W gate(W x_i)                                             feed-forward

each on features divided by their root mean square (with a floor, so that small ones stay smooth). SO2 mixes
degrees and channels by one matrix for each |m|. The atomic energy is a network of the last scalars.

An atom starts with scalars, and only its last scalars are read. A scalar has m = 0 in any frame, and only m = 0 gives
one, so the first and the last block do without the other orders, at the same result; those between have them all.

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
from forcefield.networks.interface import EquivariantNetwork, Exchange, Sender
from forcefield.nn.degree_linear import DegreeLinear
from forcefield.nn.dense import MLP, EnergyReadout, scaled_silu
from forcefield.nn.gate import Gate, RMSNorm
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis
from forcefield.nn.rotation import Rotations, by_order


class EquivariantTransformer(EquivariantNetwork):
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
        n_layers: int = 3,
        n_radial: int = 8,
        radial_hidden: int = 32,
    ) -> None:
        sizes = {"channels": channels, "lmax": lmax, "n_heads": n_heads, "n_layers": n_layers, "n_radial": n_radial}
        super().__init__(elements, cutoff, **sizes, radial_hidden=radial_hidden)
        if channels % n_heads:
            raise ValueError(f"n_heads must divide channels = {channels}, got {n_heads}")
        self.tensor_channels = (channels,) * (lmax if n_layers > 1 else 0)
        self.radial, self.rotations = BesselBasis(cutoff, n_radial), Rotations(lmax)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.of_centre = SpeciesEmbedding(self.n_species, radial_hidden)
        self.of_neighbour = SpeciesEmbedding(self.n_species, radial_hidden)
        self.of_distance = Linear(n_radial, radial_hidden)
        degrees = [0, *[lmax] * (n_layers - 1), 0]  # of the features before, between and after the blocks
        self.attentions = nn.ModuleList(
            [
                Attention(channels, before, lmax, after, n_heads, radial_hidden)
                for before, after in zip(degrees, degrees[1:], strict=False)
            ]
        )
        self.feed_forwards = nn.ModuleList([FeedForward(channels, after) for after in degrees[1:]])
        self.readout = EnergyReadout(channels, channels)

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Scalars (n_local, channels) of the last block, energies (n_local,), and tensors that the last one took."""
        edges, species = self.edges(graph, vectors), self.species(graph.numbers)
        frames = Frames(self.rotations(edges.direction))
        pair = edges.of_pairs(self.of_centre(species), self.of_neighbour(species)) + self.of_distance(edges.basis)
        edge = scaled_silu(pair)  # (edges, radial_hidden)
        first = self.embedding(species)[:, None]  # (atoms, 1, channels)
        x, send = first[: graph.n_local], Sender(first, exchange)  # x (n_local, (l+1)^2, channels) between the blocks
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            taken, change = x, attention(send(x), edge, frames, edges)
            missing = max(change.shape[1] - x.shape[1], 0)
            x = nn.functional.pad(x, (0, 0, 0, missing))[:, : change.shape[1]] + change
            x = x + feed_forward(x)
        return x[:, 0], self.readout(x[:, 0]), split(taken, len(self.tensor_channels))[1:]


class Frames:
    """Rotations into the edges' frames, each kind made once.

    Args:
        rotations: list over l of (edges, 2l+1, 2l+1).
    """

    def __init__(self, rotations: list[Tensor]) -> None:
        self.rotations = rotations
        self.made: dict[tuple[int, int], Tensor] = {}

    def into(self, lmax: int, m_max: int) -> Tensor:
        """(edges, rows, (lmax+1)^2): features of degree 0 to lmax to their components up to m_max, sorted by |m|."""
        if (lmax, m_max) not in self.made:
            self.made[lmax, m_max] = by_order(self.rotations[: lmax + 1], m_max)
        return self.made[lmax, m_max]


class Attention(nn.Module):
    """Attention over the neighbours, without its residual.

    Args:
        channels: features of an atom, of each degree.
        before: highest degree of the features it takes.
        lmax: highest degree on the edges.
        after: highest degree of the features it gives.
        n_heads: heads.
        n_edge: features of an edge.
    """

    def __init__(self, channels: int, before: int, lmax: int, after: int, n_heads: int, n_edge: int) -> None:
        super().__init__()
        self.channels, self.n_heads = channels, n_heads
        self.before, self.lmax, self.after, self.m_max = before, lmax, after, min(before, after)
        taken = [channels] * (before + 1)
        self.norm = RMSNorm(taken, floor=0.1)
        self.source, self.target = DegreeLinear(taken, taken), DegreeLinear(taken, taken)
        self.weights = MLP([n_edge, n_edge, (before + 1) * channels], last_scale=0.3)
        self.first = OrderMixing(before, lmax, self.m_max, channels)
        self.second = OrderMixing(lmax, after, self.m_max, channels)
        self.gates = Linear(channels, lmax * channels)
        self.logits = MLP([channels, channels, n_heads], last_scale=0.3)
        given = [channels] * (after + 1)
        self.out = DegreeLinear(given, given)

    def forward(self, sent: Tensor, edge: Tensor, frames: Frames, edges: RadialNeighbourhood) -> Tensor:
        """What the neighbours add.

        Args:
            sent: (atoms, (before+1)^2, channels), ghosts included.
            edge: (edges, n_edge) features of the edges.
            frames: rotations into the edges' frames.
            edges: the neighbours.

        Returns:
            (centres, (after+1)^2, channels).
        """
        x = self.norm(split(sent, self.before))
        source, target = torch.cat(self.source(x), dim=1), torch.cat(self.target(x), dim=1)
        pair = frames.into(self.before, self.m_max).bmm(edges.of_pairs(target, source))
        g = self.first(pair * self._rows(self.weights(edge), self.before))  # (edges, rows, channels)
        value = self.second(self._gated(g)) * self._attention(g[:, 0], edges)[:, None]
        summed = edges.sum(frames.into(self.after, self.m_max).transpose(1, 2).bmm(value))
        return torch.cat(self.out(split(summed, self.after)), dim=1)

    def _attention(self, scalars: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Weights a_ij of the heads, repeated for their channels: (edges, channels)."""
        logits = 6 * torch.tanh(self.logits(scalars) / 6)
        weights = edges.envelope * torch.exp(logits)  # (edges, heads)
        attention = weights / edges.of_centres(1 + edges.sum(weights))
        return attention.repeat_interleave(self.channels // self.n_heads, dim=1)

    def _gated(self, g: Tensor) -> Tensor:
        """SiLU of the scalars; the other rows times the SiLU of a scalar for their degree, as in `Gate`."""
        scalars, others = g[:, 0], g[:, 1:]
        active = scaled_silu(torch.cat([scalars, self.gates(scalars)], dim=1))
        factors = self._rows(active, self.lmax)
        return torch.cat([factors[:, :1], others * factors[:, 1:]], dim=1)

    def _rows(self, factors: Tensor, lmax: int) -> Tensor:
        """One factor for each degree repeated for its rows: (edges, (lmax+1) channels) -> (edges, rows, channels)."""
        degrees = factors.view(-1, lmax + 1, self.channels)
        higher = [degrees[:, m:] for m in range(1, self.m_max + 1) for _ in (m, -m)]
        return torch.cat([degrees, *higher], dim=1) if higher else degrees


class OrderMixing(nn.Module):
    """The SO(2) convolution: degrees and channels of the components m and -m are mixed by one matrix for each |m|.

    Args:
        before: highest degree of what it takes.
        after: highest degree of what it gives.
        m_max: highest order.
        channels: features of each degree, before and after.
    """

    def __init__(self, before: int, after: int, m_max: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        orders = range(m_max + 1)
        self.rows = [(before + 1 - m) * (2 if m else 1) for m in orders]
        self.rows_after = [(after + 1 - m) * (2 if m else 1) for m in orders]
        self.orders = nn.ModuleList([Linear((before + 1 - m) * channels, (after + 1 - m) * channels) for m in orders])

    def forward(self, features: Tensor) -> Tensor:
        """Args: features (edges, rows, channels) in the edges' frames, as `by_order` sorts them. Returns: the like."""
        mixed = []
        for part, rows, linear in zip(features.split(self.rows, dim=1), self.rows_after, self.orders, strict=True):
            n_in = linear.get_parameter("weight").shape[0]
            mixed.append(linear(part.reshape(-1, n_in)).view(-1, rows, self.channels))
        return torch.cat(mixed, dim=1) if len(mixed) > 1 else mixed[0]


class FeedForward(nn.Module):
    """``W gate(W x)`` on normalised features, without its residual.

    Args:
        channels: features of an atom, of each degree.
        lmax: highest degree.
    """

    def __init__(self, channels: int, lmax: int) -> None:
        super().__init__()
        same = [channels] * (lmax + 1)
        self.lmax = lmax
        self.norm, self.gate = RMSNorm(same, floor=0.1), Gate(same)
        self.first, self.second = DegreeLinear(same, self.gate.in_channels), DegreeLinear(same, same)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (atoms, (lmax+1)^2, channels). Returns: the same shape."""
        hidden = self.gate(self.first(self.norm(split(x, self.lmax))))
        return torch.cat(self.second(hidden), dim=1)


def split(x: Tensor, lmax: int) -> list[Tensor]:
    """Features (atoms, (lmax+1)^2, channels) as a list over l of (atoms, 2l+1, channels)."""
    return list(x.split([2 * l + 1 for l in range(lmax + 1)], dim=1))
