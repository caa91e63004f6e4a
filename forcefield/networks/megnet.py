"""MEGNet: edges, atoms and a state are updated in turn.

Chen, Ye, Zuo, Zheng, Ong, Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294 (arXiv:1812.05055), eq. 1 to
6 (the update, figure 1) and figure 2 (the network). With networks phi of two hidden layers (eq. 7), a block is

    e_ij' = e_ij + phi_e(v_i, v_j, e_ij, u_i)                        eq. 1: edges
    v_i'  = v_i  + phi_v(v_i, mean_j e_ij', u_i)                     eq. 2 and 3: atoms
    u_i'  = u_i  + phi_u(u_i, mean e', mean v')                      eq. 4 to 6: state

and the energy is a network of atom, edges and state. In the paper the state u is one vector of the whole structure, and
the last step (set2set) pools the whole structure too. Both would make the energy of a potential wrong: far fragments
would feel each other at once, and doubling the cell would not double the energy. We depart from the paper in that the
state is **local**: every atom has its own, made of means over its neighbours' atoms, states and edges, which reach
further with each block; the energy is the sum of atomic ones, and so extensive. The properties that are not extensive,
for which the paper's global state was made, are a matter of heads, not of this body. Means are weighted by a smooth
cutoff and count the atom itself (``(x_i + sum_j u_ij x_j) / (1 + sum_j u_ij)``), so that they stay smooth as the last
neighbour leaves; the activation is a SiLU instead of a softplus, and no dense layers of their own stand before a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange, fill_ghosts
from forcefield.nn.dense import MLP, Dense, EnergyReadout
from forcefield.nn.mlp import SpeciesEmbedding
from forcefield.nn.neighbourhood import Neighbourhood, RadialNeighbourhood
from forcefield.nn.radial import GaussianBasis


class MEGNet(AtomNetwork):
    """Graph network with edges, atoms and a local state; see the module's formulas.

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
        channels: int = 48,
        state_channels: int = 32,
        n_layers: int = 3,
        n_radial: int = 40,
    ) -> None:
        sizes = {"channels": channels, "state_channels": state_channels, "n_layers": n_layers, "n_radial": n_radial}
        super().__init__(elements, cutoff, **sizes)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.state = SpeciesEmbedding(self.n_species, state_channels)
        self.radial = GaussianBasis(cutoff, n_radial)
        self.edge_embedding = Dense(n_radial, channels)
        self.blocks = nn.ModuleList([Block(channels, state_channels) for _ in range(n_layers)])
        self.readout = EnergyReadout(2 * channels + state_channels, channels)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Atom, mean edge and state (n_local, 2 channels + state_channels) and the atomic energies (n_local,)."""
        edges, species = self.edges(graph, vectors), self.species(graph.numbers)
        e, v, u = self.edge_embedding(edges.basis), self.embedding(species), self.state(species)
        mean = WeightedMean(edges)
        for block in self.blocks:
            e, v, u = block(e, v, u, mean, exchange)
        local = torch.cat([v[: graph.n_local], mean.of_edges(e), u[: graph.n_local]], dim=1)
        return local, self.readout(local)


class WeightedMean:
    """Means over the neighbours of an atom, weighted by the cutoff function, the atom itself counting one.

    Args:
        edges: the neighbours.
    """

    def __init__(self, edges: RadialNeighbourhood) -> None:
        self.edges = edges
        self.inverse = 1 / (1 + edges.sum(edges.envelope))

    def of_edges(self, e: Tensor) -> Tensor:
        """Args: e (edges, channels). Returns: (centres, channels); the atom itself counts as an edge of zeros."""
        return self.edges.sum(self.edges.envelope * e) * self.inverse

    def of_atoms(self, x: Tensor) -> Tensor:
        """Args: x (atoms, channels). Returns: (centres, channels)."""
        around = self.edges.sum(self.edges.envelope * self.edges.of_neighbours(x))
        return (x[: self.edges.n_centres] + around) * self.inverse


class Updates(nn.Module):
    """The networks phi of a block, each with its residual; who makes means, and of what, is left to the block.

    Args:
        channels: features of an atom, and of an edge.
        state_channels: features of the state.
        n_means: channels of all means that the state takes in.
    """

    def __init__(self, channels: int, state_channels: int, n_means: int) -> None:
        super().__init__()
        hidden = [2 * channels, channels]
        self.edge = MLP([3 * channels + state_channels, *hidden, channels])
        self.atom = MLP([2 * channels + state_channels, *hidden, channels])
        self.state = MLP([state_channels + n_means, *hidden, state_channels])

    def of_edges(self, e: Tensor, v: Tensor, u: Tensor, edges: Neighbourhood) -> Tensor:
        """Args: e (edges, channels), v (atoms, channels), u (atoms, state_channels). Returns: e'."""
        pair = [edges.of_centres(v), edges.of_neighbours(v), e, edges.of_centres(u)]
        return e + self.edge(torch.cat(pair, dim=1))

    def of_atoms(self, v: Tensor, around: Tensor, u: Tensor) -> Tensor:
        """Args: v and the mean edge (atoms, channels), u (atoms, state_channels). Returns: v'."""
        return v + self.atom(torch.cat([v, around, u], dim=1))

    def of_state(self, u: Tensor, *means: Tensor) -> Tensor:
        """Args: u (rows, state_channels), means (rows, ...). Returns: u'."""
        return u + self.state(torch.cat([u, *means], dim=1))


class Block(Updates):
    """One update of edges, atoms and local states.

    Args:
        channels: features of an atom, and of an edge.
        state_channels: features of the state.
    """

    def __init__(self, channels: int, state_channels: int) -> None:
        super().__init__(channels, state_channels, 2 * channels + state_channels)

    def forward(
        self, e: Tensor, v: Tensor, u: Tensor, mean: WeightedMean, exchange: Exchange | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update all three.

        Args:
            e: (edges, channels).
            v: (atoms, channels), ghosts included.
            u: (atoms, state_channels), ghosts included.
            mean: means over the neighbours.
            exchange: fills the ghosts.

        Returns:
            e, v, u of the same shapes.
        """
        n, widths = mean.edges.n_centres, [v.shape[1], u.shape[1]]
        e = self.of_edges(e, v, u, mean.edges)
        around = mean.of_edges(e)
        local = torch.cat([self.of_atoms(v[:n], around, u[:n]), u[:n]], dim=1)
        v, u = fill_ghosts(local, exchange).split(widths, dim=1)
        state = self.of_state(u[:n], around, mean.of_atoms(v), mean.of_atoms(u))
        return e, v, fill_ghosts(state, exchange)
