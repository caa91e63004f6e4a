"""TensorNet: every atom carries 3 x 3 matrices, and matrix products are the only interaction they need.

Simeon and De Fabritiis, NeurIPS 2023, arXiv:2306.06482, "TensorNet's architecture". A matrix is the sum of a multiple
of the unit matrix, an antisymmetric and a symmetric traceless part, ``X = I + A + S``, which rotate like a scalar, a
vector and a tensor of degree two. With the matrices I, A(r), S(r) made of the direction of an edge, radial functions
f(r) that end smoothly at the cutoff and ``normalised(X) = X / (1 + |X|^2)``, channel by channel:

    X_i  = sum_j w(z_i, z_j) (f_I I + f_A A(r_ij) + f_S S(r_ij))           embedding, then mixed with factors by |X_i|
    X_i  = normalised(X_i),   Y_i = W_I I_i + W_A A_i + W_S S_i            an interaction
    M_i  = sum_j f_I(r_ij) I_j + f_A(r_ij) A_j + f_S(r_ij) S_j             I_j + A_j + S_j = Y_j
    D_i  = W normalised((Y_i M_i + M_i Y_i) / 2)                           the anticommutator respects reflections
    X_i' = X_i + D_i + D_i^2

and the atomic energy is a network of |I_i|^2, |A_i|^2 and |S_i|^2. Features are stored as nine components, one of I,
three of A and five of S, and turned into matrices only to be multiplied. We depart from the paper in that layer
normalisations (which would let features jump where the last neighbour leaves) are replaced by ``log(1 + |X|^2)``, the
cutoff function is a polynomial with two vanishing derivatives, and sums are divided by the square root of a typical
number of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import EquivariantNetwork, Exchange, fill_ghosts
from forcefield.nn.degree_linear import DegreeLinear
from forcefield.nn.dense import MLP, EnergyReadout, scaled_silu
from forcefield.nn.equivariant import register_constant
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import BesselBasis

PARTS = (1, 3, 5)
"""Components of the parts I, A and S."""


class TensorNet(EquivariantNetwork):
    """Message passing with Cartesian tensors of rank two; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: matrices of an atom.
        n_layers: interactions.
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
        channels: int = 48,
        n_layers: int = 2,
        n_radial: int = 16,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial)
        self.tensor_channels = (channels, channels)
        scale = 1 / math.sqrt(mean_neighbours)
        self.radial = BesselBasis(cutoff, n_radial)
        self.matrices = MatrixAlgebra()
        self.embedding = Embedding(self.n_species, channels, n_radial, scale)
        self.interactions = nn.ModuleList([Interaction(channels, n_radial, scale) for _ in range(n_layers)])
        self.readout = EnergyReadout(3 * channels, channels)

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Squared norms of I_i, A_i, S_i (n_local, 3 channels), as logarithms, energies (n_local,), and A_i and S_i."""
        edges = self.edges(graph, vectors)
        x = self.embedding(self.species(graph.numbers), self.matrices.of_directions(edges.direction), edges)
        for interaction in self.interactions:
            x = normalised(x)
            x = x + interaction(x, edges, self.matrices, exchange)
        descriptors = torch.log1p(part_norms(x))
        return descriptors, self.readout(descriptors), self.matrices.harmonic_parts(x)


class MatrixAlgebra(nn.Module):
    """Nine components (of I, A and S in an orthonormal basis) to matrices and back.

    The basis is ``1/sqrt(3)``; three antisymmetric matrices ``epsilon_abc / sqrt(2)``; five symmetric traceless ones.
    """

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        register_constant(self, "basis", (9, 9), self._basis)

    @staticmethod
    def _basis() -> np.ndarray:
        """Rows: components; columns: entries of the matrix, row by row."""
        matrices = np.zeros((9, 3, 3))
        matrices[0] = np.eye(3) / math.sqrt(3)
        for k, (a, b) in enumerate([(1, 2), (2, 0), (0, 1)]):
            matrices[1 + k, a, b], matrices[1 + k, b, a] = math.sqrt(0.5), -math.sqrt(0.5)
            matrices[4 + k, a, b] = matrices[4 + k, b, a] = math.sqrt(0.5)
        matrices[7] = np.diag([1, -1, 0]) / math.sqrt(2)
        matrices[8] = np.diag([-1, -1, 2]) / math.sqrt(6)
        return matrices.reshape(9, 9)

    def of_directions(self, direction: Tensor) -> Tensor:
        """I, A(r), S(r) of unit vectors, each of norm of order one: (edges, 3) -> (edges, 9)."""
        dyad = (direction[:, :, None] * direction[:, None, :]).flatten(1) @ self.basis.T  # (edges, 9); A is zero
        one = torch.ones_like(direction[:, :1])
        return torch.cat([one, direction * math.sqrt(3), dyad[:, 4:] * math.sqrt(7.5)], dim=1)

    def anticommutator(self, x: Tensor, y: Tensor) -> Tensor:
        """``(x y + y x) / 2`` of matrices given by components, (atoms, 9, channels) each."""
        a, b = self._matrices(x), self._matrices(y)  # (atoms, 3, 3, channels)
        return self._components(0.5 * (_product(a, b) + _product(b, a)))

    def square(self, x: Tensor) -> Tensor:
        """``x x``, (atoms, 9, channels)."""
        matrices = self._matrices(x)
        return self._components(_product(matrices, matrices))

    def harmonic_parts(self, x: Tensor) -> list[Tensor]:
        """A and S of (atoms, 9, channels) in the order of e3nn's harmonics: vectors; xz, xy, yy, yz and zz - xx."""
        yz, zx, xy, xx_yy, zz = x[:, 4:].unbind(1)
        yy, zz_xx = -(math.sqrt(3) * xx_yy + zz) / 2, (math.sqrt(3) * zz - xx_yy) / 2
        return [x[:, 1:4], torch.stack([zx, xy, yy, yz, zz_xx], dim=1)]

    def _matrices(self, x: Tensor) -> Tensor:
        return torch.matmul(self.basis.T, x).view(x.shape[0], 3, 3, x.shape[2])

    def _components(self, matrices: Tensor) -> Tensor:
        return torch.matmul(self.basis, matrices.reshape(matrices.shape[0], 9, matrices.shape[3]))


class Embedding(nn.Module):
    """The first matrices of an atom, from its neighbours' directions and elements.

    Args:
        n_species: number of elements.
        channels: matrices of an atom.
        n_radial: radial functions.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, n_species: int, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        self.of_centre = SpeciesEmbedding(n_species, channels)
        self.of_neighbour = SpeciesEmbedding(n_species, channels)
        self.filter = Linear(n_radial, 3 * channels)
        self.mix = DegreeLinear([channels] * 3, [channels] * 3)
        self.factors = MLP([channels, 2 * channels, 3 * channels])

    def forward(self, species: Tensor, directions: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: species (atoms,), directions (edges, 9), the edges. Returns: (centres, 9, channels)."""
        pair = edges.of_pairs(self.of_centre(species), self.of_neighbour(species))
        radial = self.filter(edges.basis).view(-1, 3, self.channels) * pair[:, None]  # f_I, f_A, f_S
        messages = per_component(radial) * directions[:, :, None]
        x = edges.sum(messages) * self.scale
        factors = scaled_silu(self.factors(torch.log1p(x.square().sum(1)))).view(-1, 3, self.channels)
        return mixed(self.mix, x) * per_component(factors)


class Interaction(nn.Module):
    """One interaction without its residual.

    Args:
        channels: matrices of an atom.
        n_radial: radial functions.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        self.filter = MLP([n_radial, channels, 3 * channels])
        self.before = DegreeLinear([channels] * 3, [channels] * 3)
        self.after = DegreeLinear([channels] * 3, [channels] * 3)

    def forward(
        self, x: Tensor, edges: RadialNeighbourhood, matrices: MatrixAlgebra, exchange: Exchange | None
    ) -> Tensor:
        """What is added to the matrices of the centres.

        Args:
            x: (centres, 9, channels), normalised.
            edges: the neighbours.
            matrices: products of matrices.
            exchange: fills the ghosts.

        Returns:
            (centres, 9, channels).
        """
        y = mixed(self.before, x)
        radial = (self.filter(edges.basis) * edges.envelope).view(-1, 3, self.channels)
        messages = edges.of_neighbours(fill_ghosts(y, exchange)) * per_component(radial)
        product = matrices.anticommutator(y, edges.sum(messages) * self.scale)
        change = mixed(self.after, normalised(product))
        return change + matrices.square(change)


def normalised(x: Tensor) -> Tensor:
    """``X / (1 + |X|^2)`` for each channel of (atoms, 9, channels)."""
    return x / (1 + x.square().sum(1, keepdim=True))


def part_norms(x: Tensor) -> Tensor:
    """Squared norms of I, A and S: (atoms, 9, channels) -> (atoms, 3 channels)."""
    return torch.cat([part.square().sum(1) for part in x.split(PARTS, dim=1)], dim=1)


def per_component(factors: Tensor) -> Tensor:
    """One factor for each of I, A, S, repeated for their components: (rows, 3, channels) -> (rows, 9, channels)."""
    parts = [factors[:, k : k + 1].expand(-1, size, -1) for k, size in enumerate(PARTS)]
    return torch.cat(parts, dim=1)


def mixed(linear: DegreeLinear, x: Tensor) -> Tensor:
    """Channels of I, A and S mixed by a matrix each."""
    return torch.cat(linear(x.split(PARTS, dim=1)), dim=1)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Products of 3 x 3 matrices, channel by channel: (atoms, 3, 3, channels) each."""
    return (a[:, :, :, None] * b[:, None]).sum(2)
