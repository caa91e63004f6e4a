"""CGCNN for properties of crystals, as in the paper: gated convolutions with batch normalisation on the nearest atoms.

Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301, eq. 5 and figure 1, with the
normalisations of the authors' published code:

    v_i' = softplus( v_i + BN( sum_j sigmoid(BN(z_ij W_f + b_f)) * softplus(BN(z_ij W_s + b_s)) ) )

The features v_i of the last layer are averaged over the crystal by the head. We depart from the paper in that an atom
starts from a learned embedding of its element instead of tabulated properties, and the head's network has SiLUs. Use it
with ``max_neighbours: 12``; the graph, and with it the output, then jumps as atoms change places in the order of
distances, and batch normalisation makes training depend on the batch: good for properties of relaxed crystals, no
potential (`forcefield.networks.cgcnn`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.cgcnn import gated
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import GaussianBasis
from forcefield.tasks.crystal import CrystalNetwork


class CrystalCGCNN(CrystalNetwork):
    """Gated graph convolutions with batch normalisation; see the module's formula.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom.
        n_layers: convolutions.
        n_radial: Gaussians between zero and the cutoff.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 8.0,
        channels: int = 64,
        n_layers: int = 3,
        n_radial: int = 41,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.radial = GaussianBasis(cutoff, n_radial)
        self.convolutions = nn.ModuleList([CrystalConvolution(channels, n_radial) for _ in range(n_layers)])

    def descriptors(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Features v_i (atoms, channels) of the last layer."""
        edges, v, _ = self.begin(graph, vectors, None)
        for convolution in self.convolutions:
            v = convolution(v, edges)
        return v


class CrystalConvolution(nn.Module):
    """One convolution.

    Args:
        channels: features of an atom.
        n_radial: Gaussians.
    """

    def __init__(self, channels: int, n_radial: int) -> None:
        super().__init__()
        self.from_centre = Linear(channels, 2 * channels)
        self.from_neighbour = Linear(channels, 2 * channels)
        self.from_distance = Linear(n_radial, 2 * channels)
        self.message_norm = BatchNorm(2 * channels)
        self.sum_norm = BatchNorm(channels)

    def forward(self, v: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: v (atoms, channels), the edges. Returns: (atoms, channels)."""
        z = edges.of_pairs(self.from_centre(v), self.from_neighbour(v)) + self.from_distance(edges.basis)
        return nn.functional.softplus(v + self.sum_norm(edges.sum(gated(self.message_norm(z)))))


class BatchNorm(nn.Module):
    """Batch normalisation of (rows, channels) that also takes a batch of one row or none (running statistics then).

    Args:
        channels: number of columns.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (rows, channels). Returns: of the same shape."""
        if self.training and x.shape[0] > 1:
            return self.norm(x)
        norm = self.norm
        return nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
