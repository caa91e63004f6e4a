"""Heads: from a body's per-atom features to values of structures, atoms or edges, in units of the labels' spread.

Heads know nothing of the body but the widths of its features h_i, which are invariant, and of its tensors, if it has
any. The part of degree l > 0 of an atom's tensor is

    T_i^l = sum_j w_l(h_i, h_j, r_ij) Y_l(r_ij) + (products of the body's tensors)^l

with a network w, spherical harmonics Y and `BodyTensors`; scalars are a network of h_i. So any body can have any head:
directions come from the edges where the body has invariants only. A value turns with the structure whatever the
weights are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.nn.dense import MLP, Dense, scaled_silu
from forcefield.nn.equivariant import SphericalHarmonics, register_constant
from forcefield.nn.mlp import Linear
from forcefield.nn.neighbourhood import Neighbourhood, neighbourhood
from forcefield.nn.radial import BesselBasis
from forcefield.tasks.body_tensors import BodyTensors
from forcefield.tasks.pooling import Attention, Set2Set, structure_mean, structure_sum
from forcefield.tasks.task import Task
from forcefield.tasks.tensors import SHAPES, cartesian_basis

N_RADIAL = 8
TYPICAL_NEIGHBOURS = 30.0


def build_head(task: Task, channels: int, cutoff: float, tensor_channels: Sequence[int] = ()) -> nn.Module:
    """The head of a task.

    Args:
        task: what to predict.
        channels: width of the body's features.
        cutoff: radius of the edges (Å).
        tensor_channels: channels of the body's tensors of degree 1, 2, ..., which only tensors are made of.

    Returns:
        ``head(graph, vectors, features, tensors)`` -> (structures or atoms or edges, *task.value_shape).
    """
    if task.level == "edge":
        return EdgeHead(channels, task.hidden, cutoff)
    if task.shape != "scalar":
        return TensorHead(task, channels, cutoff, tensor_channels)
    return AtomHead(channels, task.hidden) if task.level == "atom" else GraphHead(task, channels)


class AtomHead(nn.Module):
    """A number for each atom by a network of its features.

    Args:
        channels: features of an atom.
        hidden: width of the network.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = MLP([channels, hidden, 1])

    def forward(self, graph: Graph, vectors: Tensor, features: Tensor, tensors: Sequence[Tensor] = ()) -> Tensor:
        """Args: features (atoms, channels). Returns: (atoms,)."""
        return self.mlp(features)[:, 0]


class GraphHead(nn.Module):
    """A number for each structure: the sum of a network's values, or a network of the pooled features.

    Args:
        task: says how to pool.
        channels: features of an atom.
    """

    def __init__(self, task: Task, channels: int) -> None:
        super().__init__()
        self.pooling = task.pooling
        self.pool: nn.Module | None = None
        if task.pooling == "attention":
            self.pool = Attention(channels, task.hidden)
        elif task.pooling == "set2set":
            self.pool = Set2Set(channels)
        pooled = 2 * channels if task.pooling == "set2set" else channels
        self.mlp = MLP([pooled, task.hidden, 1])

    def forward(self, graph: Graph, vectors: Tensor, features: Tensor, tensors: Sequence[Tensor] = ()) -> Tensor:
        """Args: features (atoms, channels). Returns: (structures,)."""
        if self.pooling == "sum":
            return structure_sum(self.mlp(features)[:, 0], graph.batch, graph.n_structures)
        pool = structure_mean if self.pool is None else self.pool
        return self.mlp(pool(features, graph.batch, graph.n_structures))[:, 0]


class PairNetwork(nn.Module):
    """Numbers for each edge by a network of both atoms' features and the distance, zero at the cutoff or not.

    Args:
        channels: features of an atom.
        hidden: width of the network.
        n_out: numbers for each edge.
        cutoff: radius of the edges (Å).
    """

    def __init__(self, channels: int, hidden: int, n_out: int, cutoff: float) -> None:
        super().__init__()
        self.radial = BesselBasis(cutoff, N_RADIAL)
        self.centre, self.neighbour = Dense(channels, hidden), Linear(channels, hidden)
        self.distance = Linear(N_RADIAL, hidden)
        self.out = MLP([hidden, hidden, n_out])
        self.strength = Linear(N_RADIAL, n_out)

    def forward(self, features: Tensor, edges: Neighbourhood, *, symmetric: bool = False) -> tuple[Tensor, Tensor]:
        """Numbers of the edges, and weights from the distance that vanish at the cutoff.

        Args:
            features: (atoms, channels).
            edges: the neighbours.
            symmetric: the same from i to j as from j to i.

        Returns:
            both (edges, n_out).
        """
        basis = self.radial(edges.distance)
        one, other = self.centre(features), self.neighbour(features)
        hidden = (edges.of_centres(one) + edges.of_neighbours(other)) / math.sqrt(2) + self.distance(basis)
        values = self.out(scaled_silu(hidden))
        if symmetric:
            hidden = (edges.of_neighbours(one) + edges.of_centres(other)) / math.sqrt(2) + self.distance(basis)
            values = (values + self.out(scaled_silu(hidden))) / 2
        return values, self.strength(basis)


class EdgeHead(nn.Module):
    """A number for each edge, the same in both directions.

    Args:
        channels: features of an atom.
        hidden: width of the network.
        cutoff: radius of the edges (Å).
    """

    def __init__(self, channels: int, hidden: int, cutoff: float) -> None:
        super().__init__()
        self.pair = PairNetwork(channels, hidden, 1, cutoff)

    def forward(self, graph: Graph, vectors: Tensor, features: Tensor, tensors: Sequence[Tensor] = ()) -> Tensor:
        """Args: features (atoms, channels). Returns: (edges,)."""
        values, strength = self.pair(features, neighbourhood(graph, vectors.to(features.dtype)), symmetric=True)
        return (values + strength)[:, 0]


class TensorHead(nn.Module):
    """A vector or tensor for each atom, or their sum or mean for the structure; see the module's formula.

    Args:
        task: shape, level and pooling.
        channels: features of an atom.
        cutoff: radius of the edges (Å).
        tensor_channels: channels of the body's tensors of degree 1, 2, ...
    """

    basis: Tensor

    def __init__(self, task: Task, channels: int, cutoff: float, tensor_channels: Sequence[int] = ()) -> None:
        super().__init__()
        shape = SHAPES[task.shape]
        self.task = task
        self.n_scalars = sum(degree == 0 for degree in shape.degrees)
        self.degrees = [degree for degree in shape.degrees if degree > 0]
        self.harmonics = SphericalHarmonics(max(self.degrees))
        size = (shape.n_components, 3**shape.rank)
        register_constant(self, "basis", size, partial(cartesian_basis, task.shape))
        self.pair = PairNetwork(channels, task.hidden, len(self.degrees), cutoff)
        self.scalars = MLP([channels, task.hidden, self.n_scalars]) if self.n_scalars else None
        self.body = BodyTensors(channels, tensor_channels, task.hidden, self.degrees) if tensor_channels else None
        pooled = task.level == "graph" and task.pooling == "attention"
        self.attention = Attention(channels, task.hidden) if pooled else None

    def forward(self, graph: Graph, vectors: Tensor, features: Tensor, tensors: Sequence[Tensor] = ()) -> Tensor:
        """Args: features (atoms, channels), tensors over l. Returns: (structures or atoms, 3, ...)."""
        edges = neighbourhood(graph, vectors.to(features.dtype))
        values, strength = self.pair(features, edges)
        weights = values * strength / math.sqrt(TYPICAL_NEIGHBOURS)  # (edges, parts)
        harmonics = self.harmonics(edges.direction)
        parts = [edges.sum(weights[:, k, None] * harmonics[degree]) for k, degree in enumerate(self.degrees)]
        for k, part in ({} if self.body is None else self.body(features, tensors)).items():
            parts[k] = parts[k] + part
        scalars = [] if self.scalars is None else [self.scalars(features)]
        values = torch.cat([*scalars, *parts], dim=1) @ self.basis.to(features.dtype)  # (atoms, 3^rank)
        return self._pooled(graph, features, values).unflatten(1, self.task.value_shape)

    def _pooled(self, graph: Graph, features: Tensor, tensors: Tensor) -> Tensor:
        if self.task.level == "atom":
            return tensors
        if self.attention is not None:
            weights = self.attention.weights(features, graph.batch, graph.n_structures)
            return structure_sum(weights[:, None] * tensors, graph.batch, graph.n_structures)
        pool = structure_sum if self.task.pooling == "sum" else structure_mean
        return pool(tensors, graph.batch, graph.n_structures)
