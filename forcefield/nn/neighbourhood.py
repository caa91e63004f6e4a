"""Edges as the formulas of the papers write them: distances, directions, and sums over the neighbours j of atom i."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forcefield.nn.radial import smooth_cutoff
from forcefield.nn.scatter import scatter_sum


@dataclass(frozen=True)
class Neighbourhood:
    """The edges of a graph.

    Attributes:
        i: (edges,) centre of each edge, which receives.
        j: (edges,) its neighbour, which sends.
        distance: (edges,) length r_ij (Å).
        direction: (edges, 3) unit vector from i to j.
        n_centres: number of atoms that receive.
    """

    i: Tensor
    j: Tensor
    distance: Tensor
    direction: Tensor
    n_centres: int

    def of_centres(self, features: Tensor) -> Tensor:
        """Features of atom i for every edge: (atoms, ...) -> (edges, ...)."""
        return features.index_select(0, self.i)

    def of_neighbours(self, features: Tensor) -> Tensor:
        """Features of atom j for every edge: (atoms, ...) -> (edges, ...)."""
        return features.index_select(0, self.j)

    def of_pairs(self, centres: Tensor, neighbours: Tensor) -> Tensor:
        """``centres_i + neighbours_j`` for every edge: (n_centres or atoms, ...) and (atoms, ...) -> (edges, ...)."""
        return self.of_centres(centres) + self.of_neighbours(neighbours)

    def sum(self, messages: Tensor) -> Tensor:
        """Sum over the neighbours: (edges, ...) -> (n_centres, ...)."""
        return scatter_sum(messages, self.i, self.n_centres)


@dataclass(frozen=True)
class RadialNeighbourhood(Neighbourhood):
    """The edges with functions of their lengths.

    Attributes:
        basis: (edges, n_radial) radial basis B(r_ij).
        envelope: (edges, 1) smooth cutoff u(r_ij).
    """

    basis: Tensor
    envelope: Tensor


def neighbourhood(graph: Any, vectors: Tensor) -> Neighbourhood:
    """The edges of a graph with the given vectors.

    Args:
        graph: only ``edge_index`` and ``n_local`` are read.
        vectors: (edges, 3) from centre to neighbour (Å).
    """
    i, j = graph.edge_index
    distance = torch.linalg.vector_norm(vectors, dim=1)
    return Neighbourhood(i, j, distance, vectors / distance[:, None], graph.n_local)


def radial_neighbourhood(
    graph: Any, vectors: Tensor, radial: Callable[[Tensor], Tensor], cutoff: float
) -> RadialNeighbourhood:
    """The edges of a graph with a radial basis and the smooth cutoff of their lengths.

    Args:
        graph: only ``edge_index`` and ``n_local`` are read.
        vectors: (edges, 3) from centre to neighbour (Å).
        radial: the basis, distances (Å) of any shape -> (..., n_radial).
        cutoff: radius where the cutoff function ends (Å).
    """
    edges = neighbourhood(graph, vectors)
    envelope = smooth_cutoff(edges.distance, cutoff)[:, None]
    return RadialNeighbourhood(**vars(edges), basis=radial(edges.distance), envelope=envelope)
