"""SchNet: continuous-filter convolutions, the weight of a neighbour is a learned function of its distance.

Schütt, Sauceda, Kindermans, Tkatchenko, Müller, J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779
(arXiv:1712.06113), section II; first in Schütt, Kindermans, Sauceda, Chmiela, Tkatchenko, Müller, Advances in Neural
Information Processing Systems 30, 991 (2017), arXiv:1706.08566, whose eq. 1 is the convolution and whose figure 2 is
the block. An interaction is

    W(r)  = dense(ssp(dense(exp(-gamma (r - mu_k)^2))))         filter-generating network
    y_i   = sum_j (dense x_j) * W(r_ij)                         continuous-filter convolution, channel by channel
    x_i'  = x_i + dense(ssp(dense(y_i)))                        atom-wise layers

with the shifted softplus ``ssp(x) = ln(1/2 + e^x / 2)``; the atomic energy is an atom-wise network of the last x_i.

We depart from the paper in that the filter's last layer is linear (there a second ssp follows it; the authors' later
code leaves it out, too) and is multiplied by a smooth cutoff, where the Gaussians end, and in that the sum is divided
by the square root of a typical number of neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import AtomNetwork, Exchange
from forcefield.nn.dense import MLP, EnergyReadout
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.neighbourhood import RadialNeighbourhood
from forcefield.nn.radial import GaussianBasis


class SchNet(AtomNetwork):
    """Invariant message passing with learned radial filters; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: features of an atom.
        n_layers: interactions.
        n_radial: Gaussians between zero and the cutoff.
        mean_neighbours: typical number of neighbours, normalises the sums.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 128,
        n_layers: int = 3,
        n_radial: int = 50,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, n_layers=n_layers, n_radial=n_radial)
        self.embedding = SpeciesEmbedding(self.n_species, channels)
        self.radial = GaussianBasis(cutoff, n_radial)
        scale = 1 / math.sqrt(mean_neighbours)
        self.interactions = nn.ModuleList([Interaction(channels, n_radial, scale) for _ in range(n_layers)])
        self.readout = EnergyReadout(channels, max(channels // 2, 1), activation=shifted_softplus)

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Features x_i (n_local, channels) of the last layer and the atomic energies (n_local,)."""
        edges, x, send = self.begin(graph, vectors, exchange)
        for interaction in self.interactions:
            x = x + interaction(send(x), edges)
        return x, self.readout(x)


class Interaction(nn.Module):
    """One interaction block, without its residual.

    Args:
        channels: features of an atom.
        n_radial: Gaussians.
        scale: factor on the sum over neighbours.
    """

    def __init__(self, channels: int, n_radial: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.filter = MLP([n_radial, channels, channels], activation=shifted_softplus)
        self.before = Linear(channels, channels)
        self.after = MLP([channels, channels, channels], activation=shifted_softplus)

    def forward(self, sent: Tensor, edges: RadialNeighbourhood) -> Tensor:
        """Args: sent (atoms, channels), the edges. Returns: (centres, channels)."""
        weights = self.filter(edges.basis) * edges.envelope  # (edges, channels)
        return self.after(edges.sum(edges.of_neighbours(self.before(sent)) * weights) * self.scale)


def shifted_softplus(x: Tensor) -> Tensor:
    """``ln(1/2 + e^x / 2)``: smooth, and zero at zero."""
    return nn.functional.softplus(x) - math.log(2.0)
