"""What the networks of the ladder have in common: an interface, and the exchange of features with other processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.nn.species import SpeciesIndex

Exchange = Callable[[Tensor], Tensor]
"""Fills ghost features between layers, (n_local, d) -> (atoms, d)."""


class AtomNetwork(nn.Module):
    """A network gives atomic energies; a subclass has one more method, `features`.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
    """

    def __init__(self, elements: Sequence[int], cutoff: float) -> None:
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
