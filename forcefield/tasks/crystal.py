"""What bodies that need the whole structure at once have in common: no ghosts, and no energies."""

from __future__ import annotations

from torch import Tensor

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange


class CrystalNetwork(AtomNetwork):
    """A body for properties only; a subclass has one more method, `descriptors`. Arguments as of `AtomNetwork`."""

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Descriptors (atoms, channels), and zeros (atoms,): there are no energies.

        Raises:
            ValueError: atoms are missing, which another process has.
        """
        if exchange is not None or graph.n_local != graph.n_atoms:
            name = type(self).__name__
            raise ValueError(
                f"{name} needs the whole structure in one process; use the network {name[7:].lower()} instead"
            )
        descriptors = self.descriptors(graph, vectors)
        return descriptors, descriptors.new_zeros(descriptors.shape[0])

    def descriptors(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Invariant descriptors of the atoms (atoms, channels)."""
        raise NotImplementedError(f"{type(self).__name__} must define descriptors(graph, vectors)")
