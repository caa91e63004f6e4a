"""GCN: the graph convolution, neighbours averaged by a fixed weight and mixed by one matrix.

Kipf and Welling, ICLR 2017, arXiv:1609.02907, eq. 2:

    H' = sigma( D^(-1/2) (A + 1) D^(-1/2) H W ),      D_ii = 1 + sum_j A_ij

The first step of the ladder, here as a potential. We depart from the paper in that the adjacency matrix is weighted by
the distance, ``A_ij = u(r_ij)`` with the smooth cutoff u (a crystal under periodic boundaries has no adjacency matrix
of zeros and ones that would change smoothly with the positions), the activation is a SiLU instead of a ReLU (whose
forces would jump), layers are residual if asked for, and the features are summed over the atoms as atomic energies.

All that geometry can say is the one number u(r_ij) for a pair: no learned function of the distance, no angle. Distances
up to a common radius are told apart only through sums of u, so a GCN cannot fit general forces; that is its place here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange, Sender, fill_ghosts
from forcefield.nn.dense import Dense, EnergyReadout, scaled_silu
from forcefield.nn.mlp import SpeciesEmbedding
from forcefield.nn.neighbourhood import neighbourhood
from forcefield.nn.radial import smooth_cutoff


class GCN(AtomNetwork):
    """Graph convolutions with a distance-weighted, normalised adjacency matrix; see the module's formula.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom.
        n_layers: convolutions.
        residual: add a layer's input to its output; deep networks make atoms alike either way (lecture notebook 2).
        cutoff_exponent: p of the cutoff function u; small values let it fall from short distances on.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 3,
        residual: bool = True,
        cutoff_exponent: int = 2,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, cutoff_exponent=cutoff_exponent)
        self.residual, self.cutoff_exponent = residual, cutoff_exponent
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.layers = nn.ModuleList([Dense(channels, channels) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, channels)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features (n_local, channels) of the last layer and the atomic energies (n_local,)."""
        edges = neighbourhood(graph, vectors.to(self.dtype))
        adjacency = smooth_cutoff(edges.distance, self.cutoff, self.cutoff_exponent)[:, None]  # (edges, 1)
        inverse = (1 + edges.sum(adjacency)).rsqrt()  # D^(-1/2), (n_local, 1)
        weight = edges.of_centres(inverse) * adjacency * edges.of_neighbours(fill_ghosts(inverse, exchange))
        embedded = self.embedding(self.species(graph.numbers))  # (atoms, channels)
        h, send = embedded[: graph.n_local], Sender(embedded, exchange)
        for layer in self.layers:
            mean = edges.sum(weight * edges.of_neighbours(send(h))) + inverse.square() * h
            new = scaled_silu(layer(mean))
            h = h + new if self.residual else new
        return h, self.readout(h)
