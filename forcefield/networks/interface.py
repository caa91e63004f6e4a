"""What the networks of the ladder have in common: their interface, how they start, and what passes between processes.

A network is an embedding of the elements, a radial basis of the edges, layers, and a readout of atomic energies. The
first two are used alike by all, so they are evaluated here; layers and readout are the paper's, in a file of their own:

    edges, x, send = self.begin(graph, vectors, exchange)
    for layer in self.layers:
        x = x + layer(send(x), edges)
    return x, self.readout(x)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.nn.neighbourhood import RadialNeighbourhood, radial_neighbourhood
from forcefield.nn.species import SpeciesIndex

Exchange = Callable[[Tensor], Tensor]
"""Fills ghost features between layers, (n_local, d) -> (atoms, d)."""


class AtomNetwork(nn.Module):
    """A network gives atomic energies; a subclass has one more method, `features`.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        sizes: those hyper-parameters that must be at least one.

    Raises:
        ValueError: a size is below one.
    """

    embedding: nn.Module
    """of the elements, which is what atoms send first; made by subclasses that call `begin`"""
    radial: nn.Module
    """basis of the distances; made by subclasses that call `edges` or `begin`"""

    def __init__(self, elements: Sequence[int], cutoff: float, **sizes: int) -> None:
        check_sizes(**sizes)
        super().__init__()
        self.cutoff = float(cutoff)
        self.elements = tuple(int(z) for z in elements)
        self.species = SpeciesIndex(elements)

    @property
    def n_species(self) -> int:
        """Number of elements."""
        return len(self.elements)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

    def forward(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> Tensor:
        """Atomic energies in units of the potential's scale.

        Args:
            graph: edges sorted by centre; only ``numbers``, ``edge_index`` and ``n_local`` are read.
            vectors: (edges, 3) from centre to neighbour (Å).
            exchange: see `Exchange`; None where there are no ghosts.

        Returns:
            (n_local,) in the network's dtype.
        """
        return self.features(graph, vectors, exchange)[1]

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Invariant per-atom descriptors (n_local, channels) and the atomic energies (n_local,); see `forward`."""
        raise NotImplementedError(f"{type(self).__name__} must define features(graph, vectors, exchange)")

    def edges(self, graph: Graph, vectors: Tensor) -> RadialNeighbourhood:
        """The edges with their radial basis and cutoff function, in the network's dtype; see `forward`."""
        return radial_neighbourhood(graph, vectors.to(self.dtype), self.radial, self.cutoff)

    def begin(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None
    ) -> tuple[RadialNeighbourhood, Tensor, Sender]:
        """Edges, embeddings of the centres' elements (n_local, channels), and what sends features; see `forward`."""
        embedded = self.embedding(self.species(graph.numbers))  # (atoms, channels)
        return self.edges(graph, vectors), embedded[: graph.n_local], Sender(embedded, exchange)


class EquivariantNetwork(AtomNetwork):
    """A network whose atoms also carry features that turn with the structure; a subclass has `tensor_features`.

    Attributes:
        tensor_channels: channels of the features of degree 1, 2, ...; empty where a choice of sizes leaves none.
    """

    tensor_channels: tuple[int, ...]

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Invariant per-atom descriptors (n_local, channels) and the atomic energies (n_local,); see `forward`."""
        return self.tensor_features(graph, vectors, exchange)[:2]

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `features` gives, and a list over l = 1, 2, ... of equivariant features of parity (-1)^l.

        Returns:
            descriptors, energies, and (n_local, 2l+1, tensor_channels[l-1]) for each l, in e3nn's order.
        """
        raise NotImplementedError(f"{type(self).__name__} must define tensor_features(graph, vectors, exchange)")


class Sender:
    """What atoms send to each layer in turn: first what is known of ghosts too, then the features of the layer before.

    Args:
        first: (atoms, ...) for the first layer, ghosts included.
        exchange: fills the ghosts for all later layers.
    """

    def __init__(self, first: Tensor, exchange: Exchange | None) -> None:
        self.first: Tensor | None = first
        self.exchange = exchange

    def __call__(self, features: Tensor) -> Tensor:
        """Args: features (n_local, ...) as they are now. Returns: (atoms, ...) of all atoms."""
        if self.first is None:
            return fill_ghosts(features, self.exchange)
        first, self.first = self.first, None
        return first


def fill_ghosts(features: Tensor, exchange: Exchange | None) -> Tensor:
    """Features (n_local, ...) of all atoms, (atoms, ...): those of ghosts come through the exchange."""
    if exchange is None:
        return features
    return exchange(features.flatten(1)).view(-1, *features.shape[1:])


def check_sizes(**sizes: int) -> None:
    """Every size must be at least one.

    Raises:
        ValueError: one is not.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
