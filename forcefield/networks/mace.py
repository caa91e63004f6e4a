"""MACE: few message-passing layers whose messages are products of many neighbours at once.

Batatia et al., NeurIPS 2022, arXiv:2206.07697, section 4; equation numbers are the paper's. A layer is

    A_i  = W sum_j R(r_ij) ((W h_j) (x) Y(r_ij)) / n       density of neighbours, R from an MLP
    m_i  = W_z U (A_i (x) ... (x) A_i)                     eq. 10 and 11: symmetric contraction to body order nu + 1
    h_i' = W m_i + W_z h_i                                 "Update"

and the atomic energy ("Readout") is the sum of a readout of every layer's scalars: linear, an MLP in the last layer. We
depart from the paper in that features have natural parity only (degree l has parity (-1)^l; energies stay exactly
invariant under reflections), and in the cutoff's p = 6 instead of 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import EquivariantNetwork, Exchange, fill_ghosts
from forcefield.nn.degree_linear import DegreeLinear, SpeciesDegreeLinear, side_by_side
from forcefield.nn.gate import SILU_RMS
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.radial import BesselBasis
from forcefield.nn.scatter import NeighbourTable, table_of
from forcefield.nn.symmetric_contraction import SymmetricContraction
from forcefield.nn.tensor_product import Convolution, EdgeGeometry, Path


class MACE(EquivariantNetwork):
    """Message passing with high body order; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: channels of every feature.
        lmax: highest degree of the spherical harmonics and of the density A.
        hidden_lmax: highest degree of the features that neighbours send.
        correlation: highest number nu of densities in a product; the body order is nu + 1.
        n_layers: interaction layers.
        n_radial: Bessel functions.
        radial_hidden: widths of the radial MLPs.
        cutoff_exponent: p of the smooth cutoff.
        readout_hidden: width of the last layer's readout.
        mean_neighbours: typical number of neighbours, divides the sums.

    Raises:
        ValueError: a size is out of range.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 48,
        lmax: int = 2,
        hidden_lmax: int = 1,
        correlation: int = 3,
        n_layers: int = 2,
        n_radial: int = 8,
        radial_hidden: Sequence[int] = (32, 32),
        cutoff_exponent: int = 6,
        readout_hidden: int = 16,
        mean_neighbours: float = 30.0,
    ) -> None:
        super().__init__(elements, cutoff, channels=channels, correlation=correlation, n_layers=n_layers)
        if not 0 <= hidden_lmax <= lmax:
            raise ValueError(f"hidden_lmax must lie between 0 and lmax = {lmax}, got {hidden_lmax}")
        self.tensor_channels = (channels,) * (hidden_lmax if n_layers > 1 else 0)
        self.sender = SpeciesEmbedding(self.n_species, channels)  # W h_j of the first layer, where h_j is the element
        layers, senders = [], []
        readouts: list[nn.Module] = []
        for k in range(n_layers):
            first, last = k == 0, k == n_layers - 1
            sent = [channels] if first else [channels] * (hidden_lmax + 1)
            l_out = range(1 if last else hidden_lmax + 1)
            convolution = Convolution(sent, lmax, range(lmax + 1), n_radial=n_radial, radial_hidden=radial_hidden)
            contraction = SymmetricContraction(self.n_species, channels, lmax, l_out, correlation)
            layers.append(Interaction(convolution, contraction, self.n_species, first=first))
            readouts.append(Readout(channels, readout_hidden) if last else Linear(channels, 1))
            if not last:  # W h_j of the next layer
                senders.append(DegreeLinear([channels] * len(l_out), [channels] * len(l_out)))
        self.layers, self.senders = nn.ModuleList(layers), nn.ModuleList(senders)
        self.readouts = nn.ModuleList(readouts)
        paths = [path for layer in layers for path in layer.convolution.paths]
        basis = BesselBasis(cutoff, n_radial, cutoff_exponent)
        self.geometry = EdgeGeometry(basis, lmax, paths, scale=1 / mean_neighbours)

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Scalars of all layers (n_local, n_layers * channels), energies (n_local,), tensors that the last one took."""
        species, table = self.species(graph.numbers), table_of(graph)
        basis, couplings = self.geometry(vectors.to(self.dtype), table)
        taken: list[Tensor] = []  # the features that the layer before took in
        features: list[Tensor] = []  # h_i: list over l of (n_local, 2l+1, channels)
        scalars, energies = [], []
        messages = self.sender(species)  # (atoms, channels)
        for k, (layer, readout) in enumerate(zip(self.layers, self.readouts, strict=True)):
            if k:
                messages = fill_ghosts(side_by_side(self.senders[k - 1](features)), exchange)  # (atoms, d)
            taken, features = features, layer(messages, features, species[: graph.n_local], basis, couplings, table)
            scalars.append(features[0][:, 0])
            energies.append(readout(scalars[-1])[:, 0])
        return torch.cat(scalars, dim=1), torch.stack(energies).sum(0), taken[1:]


class Interaction(nn.Module):
    """One layer: convolution, linear, symmetric contraction, linear, residual.

    Args:
        convolution: the sum over neighbours.
        contraction: the products of the density.
        n_species: number of elements.
        first: the atom has no features of a layer before, only its element.
    """

    def __init__(
        self, convolution: Convolution, contraction: SymmetricContraction, n_species: int, *, first: bool
    ) -> None:
        super().__init__()
        self.first = first
        self.convolution, self.contraction = convolution, contraction
        density = [contraction.channels] * len(convolution.out_channels)  # channels of each degree
        taken, new = density[: len(convolution.channels)], density[: len(contraction.l_out)]
        self.mix = DegreeLinear(convolution.out_channels, density)
        self.after = DegreeLinear(new, new)
        self.connect: nn.Module
        if first:  # any matrix per element acting on an element's embedding is an embedding
            self.element_embedding = SpeciesEmbedding(n_species, contraction.channels)
        else:
            self.connect = SpeciesDegreeLinear(n_species, taken, new)

    def forward(
        self,
        messages: Tensor,
        features: list[Tensor],
        species: Tensor,
        basis: Tensor,
        couplings: Mapping[Path, Tensor],
        table: NeighbourTable,
    ) -> list[Tensor]:
        """New features of the centres.

        Args:
            messages: (atoms, d) what atoms send, ghosts included, degrees side by side.
            features: list over l of (n_local, 2l+1, channels), ignored in the first layer.
            species: (n_local,) element indices.
            basis, couplings: of every edge, from `EdgeGeometry`.
            table: layout of the edges.

        Returns:
            list over l of (n_local, 2l+1, channels).
        """
        density = torch.cat(self.mix(self.convolution(messages, basis, couplings, table)), dim=1)
        new = self.after(self.contraction(density, species))
        kept = [self.element_embedding(species)[:, None]] if self.first else self.connect(features, species)
        for l, residual in enumerate(kept):
            new[l] = new[l] + residual
        return new


class Readout(nn.Module):
    """MLP with one hidden layer from scalars to an energy.

    Args:
        channels: scalars.
        hidden: width.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.energy = Linear(channels, hidden), Linear(hidden, 1)

    def forward(self, scalars: Tensor) -> Tensor:
        """Args: scalars (atoms, channels). Returns: (atoms, 1)."""
        return self.energy(nn.functional.silu(self.hidden(scalars)) / SILU_RMS)
