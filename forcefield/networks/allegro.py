"""Allegro: equivariant features of edges, strictly local: no message ever leaves an atom's neighbourhood.

Musaelian et al., Nature Communications 14, 579 (2023), doi:10.1038/s41467-023-36329-y, figure 1 and eq. 5 to 16.
Each edge ij of centre i has scalars x_ij and tensors V_ij, and layers couple it with the centre's other edges:

    x_ij = u(r_ij) MLP(z_i, z_j, B(r_ij)),   V_ij = w(x_ij) Y(r_ij)     two-body features
    G_i  = sum_k w(x_ik) Y(r_ik)                                        environment of the centre, and
    T_ij = V_ij (x) G_i                                                 eq. 11 to 14: product, channel by channel
    x_ij' = c x_ij + s u(r_ij) MLP(x_ij, scalars of T_ij)               eq. 15, with c = 2/sqrt(5), s = 1/sqrt(5)
    V_ij' = W T_ij                                                      eq. 16
    E_i  = sum_j MLP(x_ij)                                              eq. 5 and 6

After L layers an edge has seen products of L + 1 neighbours, but nothing beyond the cutoff around its centre: there is
no exchange, and the network scales over processes like a pair potential. The sum over k is done before the product, so
the cost grows with the number of edges and not of pairs of edges.

We depart from the paper in that features have natural parity only (degree l has parity (-1)^l; energies stay exactly
invariant under reflections), and each edge's energy is multiplied by the cutoff function once more, so that biases do
no harm. The network works on features of edges; its descriptor of an atom is the sum of their scalars, and its tensors
are the sums of those V_ij that the last layer takes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import EquivariantNetwork, Exchange
from forcefield.nn.dense import MLP
from forcefield.nn.equivariant import SphericalHarmonics
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.products import ChannelProduct
from forcefield.nn.radial import BesselBasis

KEEP, CHANGE = 2 / math.sqrt(5), 1 / math.sqrt(5)
"""Shares of old and new scalars, whose squares add up to one."""


class Allegro(EquivariantNetwork):
    """Strictly local equivariant network; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: scalars of an edge.
        tensor_channels: tensors of an edge, of each degree.
        lmax: highest degree of the tensors.
        n_layers: tensor products.
        n_radial: Bessel functions.
        hidden: width of the networks of scalars.
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
        tensor_channels: int = 8,
        lmax: int = 2,
        n_layers: int = 2,
        n_radial: int = 8,
        hidden: int = 64,
        mean_neighbours: float = 30.0,
    ) -> None:
        sizes = {"channels": channels, "tensor_channels": tensor_channels, "lmax": lmax, "n_layers": n_layers}
        super().__init__(elements, cutoff, **sizes, n_radial=n_radial, hidden=hidden)
        self.scale = 1 / math.sqrt(mean_neighbours)
        self.tensor_channels = (tensor_channels,) * lmax
        self.radial, self.angular = BesselBasis(cutoff, n_radial), SphericalHarmonics(lmax)
        self.of_centre = SpeciesEmbedding(self.n_species, hidden)
        self.of_neighbour = SpeciesEmbedding(self.n_species, hidden)
        self.of_distance = Linear(n_radial, hidden)
        self.two_body = MLP([hidden, hidden, channels])
        self.first = Weighted(channels, tensor_channels, lmax)
        self.layers = nn.ModuleList(
            [
                Layer(channels, tensor_channels, lmax, hidden, self.scale, last=k == n_layers - 1)
                for k in range(n_layers)
            ]
        )
        self.readout = MLP([channels, hidden, 1], last_scale=0.1)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Sums of the edges' scalars (n_local, channels) and the atomic energies (n_local,); nothing is exchanged."""
        edges, x, _ = self.edge_features(graph, vectors)
        return self._summed(edges, x)

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `features` gives, and sums of the edges' tensors: (n_local, 2l+1, tensors) for each l = 1, 2, ..."""
        edges, x, taken = self.edge_features(graph, vectors)
        tensors = edges.sum(taken.transpose(0, 1)) * self.scale  # (n_local, (lmax+1)^2, tensor_channels)
        _, *parts = tensors.split([2 * l + 1 for l in range(len(self.tensor_channels) + 1)], dim=1)
        return *self._summed(edges, x), parts

    def edge_features(self, graph: Graph, vectors: Tensor) -> tuple[RadialNeighbourhood, Tensor, Tensor]:
        """Edges, x_ij (edges, channels) after the last layer, and V_ij ((lmax+1)^2, edges, tensors) before it."""
        edges, species = self.edges(graph, vectors), self.species(graph.numbers)
        pair = edges.of_pairs(self.of_centre(species), self.of_neighbour(species)) + self.of_distance(edges.basis)
        x = edges.envelope * self.two_body(pair)  # (edges, channels)
        harmonics = self.angular(edges.direction)
        tensors = taken = self.first(x, harmonics)  # ((lmax+1)^2, edges, tensor_channels)
        for layer in self.layers:
            taken = tensors
            x, tensors = layer(x, tensors, harmonics, edges)
        return edges, x, taken

    def _summed(self, edges: RadialNeighbourhood, x: Tensor) -> tuple[Tensor, Tensor]:
        energies = edges.sum(edges.envelope * self.readout(x)) * self.scale
        return edges.sum(x * edges.envelope) * self.scale, energies[:, 0]


class Weighted(nn.Module):
    """``w(x_ij) Y(r_ij)`` with weights linear in the scalars, one for each degree and channel.

    Args:
        channels: scalars of an edge.
        tensor_channels: channels of the result.
        lmax: highest degree.
    """

    def __init__(self, channels: int, tensor_channels: int, lmax: int) -> None:
        super().__init__()
        self.tensor_channels = tensor_channels
        self.weights = Linear(channels, (lmax + 1) * tensor_channels)

    def forward(self, x: Tensor, harmonics: list[Tensor]) -> Tensor:
        """Args: x (edges, channels), harmonics list over l. Returns: ((lmax+1)^2, edges, tensor_channels)."""
        weights = self.weights(x).split(self.tensor_channels, dim=1)
        return torch.cat([y.T[:, :, None] * w[None] for y, w in zip(harmonics, weights, strict=True)])


class Layer(nn.Module):
    """One tensor product with the environment.

    Args:
        channels: scalars of an edge.
        tensor_channels: tensors of an edge, of each degree.
        lmax: highest degree.
        hidden: width of the network of scalars.
        scale: factor on the sum over neighbours.
        last: only scalars are needed afterwards.
    """

    def __init__(
        self, channels: int, tensor_channels: int, lmax: int, hidden: int, scale: float, *, last: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.environment = Weighted(channels, tensor_channels, lmax)
        self.product = ChannelProduct(lmax, [0] if last else list(range(lmax + 1)))
        n_paths = {out: len(paths) for out, paths in self.product.paths.items()}
        self.scalars = MLP([channels + n_paths[0] * tensor_channels, hidden, channels])
        self.mix = nn.ModuleList(
            [] if last else [Linear(n * tensor_channels, tensor_channels) for n in n_paths.values()]
        )

    def forward(
        self, x: Tensor, tensors: Tensor, harmonics: list[Tensor], edges: RadialNeighbourhood
    ) -> tuple[Tensor, Tensor]:
        """New features of the edges.

        Args:
            x: (edges, channels).
            tensors: ((lmax+1)^2, edges, tensor_channels).
            harmonics: list over l of (edges, 2l+1).
            edges: the neighbours.

        Returns:
            x and tensors of the same shapes; no tensors from the last layer.
        """
        weighted = self.environment(x, harmonics).transpose(0, 1)  # (edges, components, tensor_channels)
        around = edges.of_centres(edges.sum(weighted) * self.scale).transpose(0, 1)
        products = {out: torch.cat(paths, dim=2) for out, paths in self.product(tensors, around).items()}
        change = edges.envelope * self.scalars(torch.cat([x, products[0][0]], dim=1))
        mixed = [mix(products[out]) for out, mix in enumerate(self.mix)]
        return KEEP * x + CHANGE * change, torch.cat(mixed) if mixed else tensors[:0]
