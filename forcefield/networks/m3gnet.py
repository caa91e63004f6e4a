"""M3GNet: graph network with edge features that also know the angles to the other neighbours.

Chen and Ong, Nature Computational Science 2, 718 (2022), doi:10.1038/s43588-022-00349-3 (arXiv:2202.02450), eq. 2 to 5.
With features v_i of atoms, e_ij of edges, and smooth cutoff u (which is in B, too), a layer is a three-body update of
the edges followed by a graph convolution,

    t_ij[n l] = sum_{k != j} B_n(r_ik) P_l(cos theta_jik) sigmoid(v_k W)[n l] u(r_ij)     eq. 2: three bodies
    e_ij  <- e_ij + silu(t_ij W) * sigmoid(t_ij W)                                         eq. 3: gated
    e_ij' = e_ij + phi_e(v_i, v_j, e_ij) * (B(r_ij) W)                                     eq. 4: edges,
    v_i'  = v_i + sum_j phi_v(v_i, v_j, e_ij') * (B(r_ij) W)                               eq. 5: then atoms

with gated networks phi (a network times a sigmoid of another one). The sum over k is no sum over triplets here:
`angular_sum` makes it from one density per atom, with the same value. We depart from the paper in that B, everywhere,
are Bessel functions of order zero times a polynomial cutoff (there other combinations of Bessel functions for pairs,
and those of order l for triplets); there is no separate, smaller radius for triplets; the optional state of the whole
structure (eq. 6) is left out; and sums are divided by the square root of a typical number of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange
from forcefield.nn.dense import MLP, Dense, scaled_silu
from forcefield.nn.equivariant import SphericalHarmonics
from forcefield.nn.invariants import angular_sum
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis


class M3GNet(AtomNetwork):
    """Invariant message passing with three-body updates of the edges; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom, and of an edge.
        n_layers: three-body updates and convolutions.
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
        n_layers: int = 3,
        n_radial: int = 5,
        lmax: int = 3,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial, lmax=lmax)
        scale = 1 / math.sqrt(mean_neighbours)
        self.radial, self.angular = BesselBasis(cutoff, n_radial), SphericalHarmonics(lmax)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.edge_embedding = Linear(n_radial, channels)
        self.three_body = nn.ModuleList([ThreeBody(channels, n_radial, lmax, scale) for _ in range(n_layers)])
        self.convolutions = nn.ModuleList([Convolution(channels, n_radial, scale) for _ in range(n_layers)])
        self.readout = GatedMLP(channels, channels, 1)
        self.readout.last.linear.weight.data *= 0.1

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features v_i (n_local, channels) of the last layer and the atomic energies (n_local,)."""
        edges, v, send = self.begin(graph, vectors, exchange)
        e, harmonics = scaled_silu(self.edge_embedding(edges.basis)), self.angular(edges.direction)
        for three_body, convolution in zip(self.three_body, self.convolutions, strict=True):
            sent = send(v)
            e = e + three_body(sent, harmonics, edges)
            v, e = convolution(v, sent, e, edges)
        return v, self.readout(v)[:, 0]


class GatedMLP(nn.Module):
    """A network with one hidden layer, times the sigmoid of another one.

    Args:
        n_in: input channels.
        hidden: width of the hidden layers.
        n_out: output channels.
    """

    def __init__(self, n_in: int, hidden: int, n_out: int) -> None:
        super().__init__()
        self.first, self.last = Dense(n_in, hidden), Dense(hidden, n_out)
        self.gate = MLP([n_in, hidden, n_out])

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (rows, n_in). Returns: (rows, n_out)."""
        return self.last(scaled_silu(self.first(x))) * torch.sigmoid(self.gate(x))


class ThreeBody(nn.Module):
    """What the other neighbours add to an edge.

    Args:
        channels: features of an atom, and of an edge.
        n_radial: Bessel functions.
        lmax: highest degree of the Legendre polynomials.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, lmax: int, scale: float) -> None:
        super().__init__()
        self.lmax, self.scale = lmax, scale
        terms = (lmax + 1) * n_radial
        self.weights = Dense(channels, terms)
        self.value, self.gate = Linear(terms, channels), Dense(terms, channels)
        for linear in (self.value, self.gate.linear):  # sums over angles are large
            linear.weight.data *= 0.1

    def forward(self, sent: Tensor, harmonics: list[Tensor], edges: RadialNeighbourhood) -> Tensor:
        """Args: sent (atoms, channels), harmonics over l of (edges, 2l+1), the edges. Returns: (edges, channels)."""
        weights = torch.sigmoid(edges.of_neighbours(self.weights(sent))).chunk(self.lmax + 1, dim=1)
        terms = angular_sum(edges, harmonics, [weight * edges.basis for weight in weights])
        t = torch.cat(terms, dim=1) * edges.envelope * self.scale  # (edges, terms)
        return scaled_silu(self.value(t)) * torch.sigmoid(self.gate(t))


class Convolution(nn.Module):
    """Update of the edges, then of the atoms.

    Args:
        channels: features of an atom, and of an edge.
        n_radial: Bessel functions.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.edge = GatedMLP(3 * channels, channels, channels)
        self.atom = GatedMLP(3 * channels, channels, channels)
        self.edge_filter, self.atom_filter = Linear(n_radial, channels), Linear(n_radial, channels)
        for linear in (self.edge_filter, self.atom_filter):  # features grow with every layer
            linear.weight.data *= 0.2

    def forward(self, v: Tensor, sent: Tensor, e: Tensor, edges: RadialNeighbourhood) -> tuple[Tensor, Tensor]:
        """Args: v (centres, channels), sent (atoms, channels), e (edges, channels). Returns: new v and e."""
        pair = torch.cat([edges.of_centres(v), edges.of_neighbours(sent)], dim=1)
        e = e + self.edge(torch.cat([pair, e], dim=1)) * self.edge_filter(edges.basis)
        messages = self.atom(torch.cat([pair, e], dim=1)) * self.atom_filter(edges.basis)
        return v + edges.sum(messages) * self.scale, e
