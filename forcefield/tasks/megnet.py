"""MEGNet for properties of crystals, as in the paper: edges, atoms and one state of the whole structure in turn.

Chen, Ye, Zuo, Zheng, Ong, Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294, eq. 1 to 7, figures 1
and 2. With networks phi of two hidden layers and u the state of the structure that atom i belongs to,

    e_ij' = e_ij + phi_e(v_i, v_j, e_ij, u)             eq. 1: edges
    v_i'  = v_i  + phi_v(v_i, mean_j e_ij', u)          eq. 2 and 3: atoms
    u'    = u    + phi_u(u, mean_ij e_ij', mean_i v_i') eq. 4 to 6: state of the structure

The head pools atoms, each with the mean of its edges and the state beside it; ``pooling: set2set`` is the paper's. We
depart from the paper in that set2set runs over atoms with their edges' means instead of over atoms and edges apart, and
the mean over all edges is the mean over atoms of the mean over their edges, so that a supercell has the state of its
cell; in SiLUs instead of softplus; and in that no dense layers of their own stand before a block. The state starts at a
learned vector. No potential: every atom feels every other at once (`networks.megnet`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.megnet import Updates
from forcefield.nn.dense import Dense
from forcefield.nn.mlp import SpeciesEmbedding, normal_parameter
from forcefield.nn.neighbourhood import Neighbourhood
from forcefield.nn.radial import GaussianBasis
from forcefield.tasks.crystal import CrystalNetwork
from forcefield.tasks.pooling import structure_mean


class CrystalMEGNet(CrystalNetwork):
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
        sizes = {"channels": channels, "state_channels": state_channels, "n_layers": n_layers, "n_radial": n_radial}
        super().__init__(elements, cutoff, **sizes)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.start = normal_parameter(state_channels, deviation=1.0)
        self.radial = GaussianBasis(cutoff, n_radial)
        self.edge_embedding = Dense(n_radial, channels)
        self.blocks = nn.ModuleList([GlobalBlock(channels, state_channels) for _ in range(n_layers)])

    def descriptors(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Atom, mean edge and state (atoms, 2 channels + state_channels)."""
        edges, v = self.edges(graph, vectors), self.embedding(self.species(graph.numbers))
        e, u = self.edge_embedding(edges.basis), self.start.expand(graph.n_structures, -1)
        around = edge_mean(e, edges)
        for block in self.blocks:
            e, v, u, around = block(e, v, u, edges, graph)
        return torch.cat([v, around, u.index_select(0, graph.batch)], dim=1)


def edge_mean(e: Tensor, edges: Neighbourhood) -> Tensor:
    """Mean over the edges of each atom, zero without any: (edges, channels) -> (atoms, channels)."""
    count = edges.sum(torch.ones_like(e[:, :1])).clamp(min=1)
    return edges.sum(e) / count


class GlobalBlock(Updates):
    """One update of edges, atoms and the structures' states.

    Args:
        channels: features of an atom, and of an edge.
        state_channels: features of the state.
    """

    def __init__(self, channels: int, state_channels: int) -> None:
        super().__init__(channels, state_channels, 2 * channels)

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
        e = self.of_edges(e, v, state, edges)
        around = edge_mean(e, edges)
        v = self.of_atoms(v, around, state)
        return e, v, self.of_state(u, structure_mean(around, batch, n), structure_mean(v, batch, n)), around
