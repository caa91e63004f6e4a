"""MEGNet for properties of crystals, as in the paper: edges, atoms and one state of the whole structure in turn.

Chen, Ye, Zuo, Zheng, Ong, Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294, figure 1. With networks phi
of two hidden layers and u the state of the structure that atom i belongs to,

    e_ij' = e_ij + phi_e(v_i, v_j, e_ij, u)             edges
    v_i'  = v_i  + phi_v(v_i, mean_j e_ij', u)          atoms
    u'    = u    + phi_u(u, mean_ij e_ij', mean_i v_i') state of the structure

The head pools atoms, each with the mean of its edges and the state beside it; ``pooling: set2set`` is the paper's. We
depart from the paper in that set2set runs over atoms with their edges' means instead of over atoms and edges apart, and
the mean over all edges is the mean over atoms of the mean over their edges, so that a supercell has the state of its
cell. The state starts at a learned vector. No potential: every atom feels every other at once (`networks.megnet`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange, check_sizes
from forcefield.nn.dense import MLP, Dense
from forcefield.nn.mlp import SpeciesEmbedding, normal_parameter
from forcefield.nn.neighbourhood import Neighbourhood, neighbourhood
from forcefield.nn.radial import GaussianBasis
from forcefield.tasks.pooling import structure_mean


class CrystalMEGNet(AtomNetwork):
    """Graph network with edges, atoms and a global state; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom, and of an edge.
        state_channels: features of the state.
        n_layers: blocks.
        n_radial: Gaussians between zero and the cutoff.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 32,
        state_channels: int = 32,
        n_layers: int = 3,
        n_radial: int = 40,
    ) -> None:
        check_sizes(channels=channels, state_channels=state_channels, n_layers=n_layers, n_radial=n_radial)
        super().__init__(elements, cutoff)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.start = normal_parameter(state_channels, deviation=1.0)
        self.radial = GaussianBasis(cutoff, n_radial)
        self.edge_embedding = Dense(n_radial, channels)
        self.blocks = nn.ModuleList([GlobalBlock(channels, state_channels) for _ in range(n_layers)])

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Atom, mean edge and state (atoms, 2 channels + state_channels), and zeros (atoms,): no energies here."""
        if exchange is not None or graph.n_local != graph.n_atoms:
            raise ValueError("CrystalMEGNet needs the whole structure in one process; use the network megnet instead")
        edges = neighbourhood(graph, vectors.to(self.dtype))
        v = self.embedding(self.species(graph.numbers))
        e = self.edge_embedding(self.radial(edges.distance))
        u = self.start.expand(graph.n_structures, -1)
        around = edge_mean(e, edges)
        for block in self.blocks:
            e, v, u, around = block(e, v, u, edges, graph)
        return torch.cat([v, around, u.index_select(0, graph.batch)], dim=1), v.new_zeros(v.shape[0])


def edge_mean(e: Tensor, edges: Neighbourhood) -> Tensor:
    """Mean over the edges of each atom, zero without any: (edges, channels) -> (atoms, channels)."""
    count = edges.sum(torch.ones_like(e[:, :1])).clamp(min=1)
    return edges.sum(e) / count


class GlobalBlock(nn.Module):
    """One update of edges, atoms and state.

    Args:
        channels: features of an atom, and of an edge.
        state_channels: features of the state.
    """

    def __init__(self, channels: int, state_channels: int) -> None:
        super().__init__()
        hidden = [2 * channels, channels]
        self.edge = MLP([3 * channels + state_channels, *hidden, channels])
        self.atom = MLP([2 * channels + state_channels, *hidden, channels])
        self.state = MLP([2 * channels + state_channels, *hidden, state_channels])

    def forward(
        self, e: Tensor, v: Tensor, u: Tensor, edges: Neighbourhood, graph: Graph
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Update all three.

        Args:
            e: (edges, channels).
            v: (atoms, channels).
            u: (structures, state_channels).
            edges: the neighbours.
            graph: says which structure an atom belongs to.

        Returns:
            e, v, u of the same shapes, and the mean edge of each atom (atoms, channels).
        """
        batch, n = graph.batch, graph.n_structures
        state = u.index_select(0, batch)  # (atoms, state_channels)
        e = e + self.edge(torch.cat([edges.of_centres(v), edges.of_neighbours(v), e, edges.of_centres(state)], dim=1))
        around = edge_mean(e, edges)
        v = v + self.atom(torch.cat([v, around, state], dim=1))
        means = [structure_mean(around, batch, n), structure_mean(v, batch, n)]
        return e, v, u + self.state(torch.cat([u, *means], dim=1)), around
