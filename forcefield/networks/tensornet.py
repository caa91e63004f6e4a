"""TensorNet: every atom carries 3 x 3 matrices, and matrix products are the only interaction they need.

Simeon and De Fabritiis, NeurIPS 2023, arXiv:2306.06482, eq. 7 to 12. A matrix is the sum of a multiple of the unit
matrix, an antisymmetric and a symmetric traceless part, ``X = I + A + S``, which rotate like a scalar, a vector and a
tensor of degree two. With the matrices I, A(r), S(r) made of the direction of an edge and radial functions f(r) that
end smoothly at the cutoff, channel by channel:

    X_i  = e(z_i) I + sum_j w(z_i, z_j) (f_I I + f_A A(r_ij) + f_S S(r_ij))    eq. 7, 8: embedding
    X_i <- a_I V_I I_i + a_A V_A A_i + a_S V_S S_i,   a = a(n(X_i))            eq. 9, 10: mixed, V and W matrices
    X_i  = normalised(X_i),   Y_i = W_I I_i + W_A A_i + W_S S_i                an interaction
    M_i  = sum_j f_I(r_ij) I_j + f_A(r_ij) A_j + f_S(r_ij) S_j                 f: eq. 11; I_j + A_j + S_j = Y_j
    D_i  = W normalised((Y_i M_i + M_i Y_i) / 2)                               the anticommutator respects reflections
    X_i' = X_i + D_i + D_i^2

with networks a of the invariants ``n(X) = I, log(1 + |A|^2), log(1 + |S|^2)``; another makes the atomic energy of them
(eq. 12). Features are stored as nine components, one of I, three of A, five of S, and turned into matrices only to be
multiplied.

We depart from the paper in what keeps features of order one, and those of different atoms apart. ``normalised(X)`` is
X / (1 + |X|^2) there, channel by channel, which makes large matrices small (a length of 10 becomes 0.1) and none longer
than 1/2, so that products of two of them vanish; here I, A and S are each divided by sqrt(1 + <X^2>), a mean over an
atom's components and channels. The paper's invariants are |I|^2, |A|^2 and |S|^2 with layer normalisation; here I
keeps its sign and starts with the atom's element, and what is normalised are the sums that enter the activation
functions, smoothly where the last neighbour leaves: without that I grew along one direction until all atoms looked
alike. Also, the radial functions are Bessel functions, eight by default, instead of exponentials of the distance; sums
over neighbours are divided by the square root of their typical number; W starts small; and the cutoff function is a
polynomial with two vanishing derivatives instead of a cosine. Where Muon trains the matrices, e and what w has of the
elements are tables with a row for each element and learn by Adam (`forcefield.train.optimizer`).
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
        n_radial: int = 8,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial)
        self.tensor_channels = (channels, channels)
        scale = 1 / math.sqrt(mean_neighbours)
        self.radial = BesselBasis(cutoff, n_radial)
        self.matrices = MatrixAlgebra()
        self.embedding = Embedding(self.n_species, channels, n_radial, scale)
        self.interactions = nn.ModuleList([Interaction(channels, n_radial, scale) for _ in range(n_layers)])
        self.readout = EnergyReadout(3 * channels, channels, activation=activated)

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Invariants n(X_i) (n_local, 3 channels), energies (n_local,), and A_i and S_i."""
        edges = self.edges(graph, vectors)
        x = self.embedding(self.species(graph.numbers), self.matrices.of_directions(edges.direction), edges)
        for interaction in self.interactions:
            x = normalised(x)
            x = x + interaction(x, edges, self.matrices, exchange)
        descriptors = invariants(x)
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
        self.element_embedding = SpeciesEmbedding(n_species, channels)
        self.element_of_centre = SpeciesEmbedding(n_species, channels)
        self.element_of_neighbour = SpeciesEmbedding(n_species, channels)
        self.filter = Linear(n_radial, 3 * channels)
        self.mix = DegreeLinear([channels] * 3, [channels] * 3)
        self.factors = MLP([3 * channels, 2 * channels, 3 * channels], activation=activated)

    def forward(self, species: Tensor, directions: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: species (atoms,), directions (edges, 9), the edges. Returns: (centres, 9, channels)."""
        pair = edges.of_pairs(self.element_of_centre(species), self.element_of_neighbour(species))
        radial = self.filter(edges.basis).view(-1, 3, self.channels) * pair[:, None]  # f_I, f_A, f_S
        messages = per_component(radial) * directions[:, :, None]
        own = self.element_embedding(species[: edges.n_centres])[:, None]
        x = nn.functional.pad(own, (0, 0, 0, 8)) + edges.sum(messages) * self.scale
        factors = activated(self.factors(invariants(x))).view(-1, 3, self.channels)
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
        for linear in self.after.degrees:
            linear.get_parameter("weight").data *= 0.1  # what is added, squares of it too, starts small

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
    """I, A and S of (atoms, 9, channels), each over ``sqrt(1 + <X^2>)``, the mean over its components and channels."""
    return torch.cat([_bounded(part, (1, 2)) for part in x.split(PARTS, dim=1)], dim=1)


def activated(sums: Tensor) -> Tensor:
    """SiLU of the sums (atoms, units) of a layer after a layer normalisation that is smooth where they vanish."""
    return scaled_silu(_bounded(2 * (sums - sums.mean(1, keepdim=True)), 1))


def invariants(x: Tensor) -> Tensor:
    """I, ``log(1 + |A|^2)`` and ``log(1 + |S|^2)``: (atoms, 9, channels) -> (atoms, 3 channels)."""
    one, *others = x.split(PARTS, dim=1)
    return torch.cat([one[:, 0], *[torch.log1p(part.square().sum(1)) for part in others]], dim=1)


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


def _bounded(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """``x / sqrt(1 + mean(x^2))``."""
    return x * torch.rsqrt(1 + x.square().mean(dim, keepdim=True))
