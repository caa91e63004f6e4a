"""NequIP: messages are tensor products of neighbours' features with spherical harmonics, weighted by a radial MLP.

Batzner et al., Nature Communications 13, 2453 (2022), doi:10.1038/s41467-022-29939-5. A layer (figure 1) is

    R(r) = MLP( sqrt(2) sin(k pi r/r_c) / (r/r_c) * f(r) )      radial functions, eqs. 5 and 6
    m_i  = 1/sqrt(n) sum_j R(r_ij) ((W h_j) (x) Y(r_ij))        convolution, eq. 8, with the filters R Y of eq. 4:
                                                               one radial weight per path and channel
    h_i' = gate( W m_i + W_z h_i )                             linear, self-connection, nonlinearity

and the atomic energy is linear in the scalars of the last layer (the paper's two linear maps in one); the energy is
their sum and the forces are its derivatives, eqs. 1 and 2. Parities multiply along a path, eq. 7. We depart from
the paper in the constant before the radial functions, in that features have natural parity only (degree l has parity
(-1)^l, so no pseudoscalars; forces are vectors and keep the full symmetry under reflections), and in that the radial
basis is fixed unless ``trained_waves`` is set. With ``norm="rms"``, ``self_connection="shared"`` and channels
(128, 64, 32, 32) it is Nequix (Koker et al., arXiv:2508.16067); with ``parity=False``, ``self_connection="shared"``,
``trained_waves=True``, ``cutoff_onset=4.5``, five layers and channels (128, 64, 32) it is SevenNet-0 (Park et al.,
J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.networks.interface import EquivariantNetwork, Exchange, fill_ghosts
from forcefield.nn.degree_linear import DegreeLinear, SpeciesDegreeLinear, side_by_side
from forcefield.nn.gate import Gate, RMSNorm
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.radial import BesselBasis
from forcefield.nn.scatter import NeighbourTable, table_of
from forcefield.nn.tensor_product import Convolution, EdgeGeometry, Path


class NequIP(EquivariantNetwork):
    """Equivariant message passing with learned radial functions; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: channels of the features of degree 0, 1, ...; their number sets the highest degree.
        n_layers: interaction layers.
        n_radial: Bessel functions.
        radial_hidden: widths of the radial MLPs.
        cutoff_exponent: p of the smooth cutoff.
        cutoff_onset: where given, the cutoff is `switched_cutoff` from this distance (Å) on instead.
        trained_waves: whether the wave numbers of the Bessel functions are parameters, as in the paper.
        parity: False for all products of features and harmonics, whatever their parity: more paths, and mirror images
            of a structure need no longer have the same energy.
        species_channels: length of the neighbours' element embedding in the first layer; ``channels[0]`` if None.
        self_connection: "species" for a matrix per element (the paper), "shared" for one matrix.
        norm: None, or "rms" for an equivariant layer norm before the nonlinearity.
        mean_neighbours: typical number of neighbours, normalises the sums.

    Raises:
        ValueError: an option is not among those named here.
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: Sequence[int] = (64, 32, 16),
        n_layers: int = 3,
        n_radial: int = 8,
        radial_hidden: Sequence[int] = (32, 32),
        cutoff_exponent: int = 6,
        cutoff_onset: float | None = None,
        trained_waves: bool = False,
        parity: bool = True,
        species_channels: int | None = None,
        self_connection: str = "species",
        norm: str | None = None,
        mean_neighbours: float = 30.0,
    ) -> None:
        _check_options(channels, self_connection, norm)
        super().__init__(elements, cutoff, n_layers=n_layers)
        lmax, sent = len(channels) - 1, channels[0] if species_channels is None else species_channels
        self.tensor_channels = tuple(channels[1:]) if n_layers > 1 and parity else ()
        self.sender = SpeciesEmbedding(self.n_species, sent)  # W h_j of the first layer, where h_j is the element
        layers, senders = [], []
        for k in range(n_layers):
            first, last = k == 0, k == n_layers - 1
            l_out = range(1 if last else lmax + 1)
            convolution = Convolution(
                [sent] if first else channels,
                lmax,
                l_out,
                n_radial=n_radial,
                radial_hidden=radial_hidden,
                parity=parity,
            )
            convolution.weights.damp(0.3)  # equal neighbours add up, which layer after layer would amplify
            before, after = None if first else channels, [channels[l] for l in l_out]
            shared, normed = self_connection == "shared", norm == "rms"
            layers.append(Interaction(convolution, before, after, n_species=self.n_species, shared=shared, norm=normed))
            if not last:  # W h_j of the next layer
                senders.append(DegreeLinear(channels, channels))
        self.layers, self.senders = nn.ModuleList(layers), nn.ModuleList(senders)
        basis = BesselBasis(cutoff, n_radial, cutoff_exponent, onset=cutoff_onset, trained=trained_waves)
        paths = [path for layer in layers for path in layer.convolution.paths]
        self.geometry = EdgeGeometry(basis, lmax, paths, scale=1 / math.sqrt(mean_neighbours))
        self.readout = Linear(channels[0], 1)
        self.readout.weight.data *= 0.1  # forces of an untrained network stay of the order of 1 per Å

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Scalars (n_local, channels[0]) of the last layer, energies (n_local,), and the tensors the last one took."""
        species, table = self.species(graph.numbers), table_of(graph)
        basis, couplings = self.geometry(vectors.to(self.dtype), table)
        taken: list[Tensor] = []  # the features that the layer before took in
        features: list[Tensor] = []  # h_i: list over l of (n_local, 2l+1, channels)
        messages = self.sender(species)  # (atoms, species_channels)
        for k, layer in enumerate(self.layers):
            if k:
                messages = fill_ghosts(side_by_side(self.senders[k - 1](features)), exchange)  # (atoms, d)
            taken, features = features, layer(messages, features, species[: graph.n_local], basis, couplings, table)
        scalars = features[0][:, 0]
        return scalars, self.readout(scalars)[:, 0], taken[1:]


class Interaction(nn.Module):
    """One layer: convolution, linear, self-connection, optional norm, gate.

    Args:
        convolution: the sum over neighbours.
        channels_in: channels of the atom's own features of degree 0, 1, ...; None in the first layer.
        channels_out: channels of the outgoing ones.
        n_species: number of elements.
        shared: the self-connection is the same for all elements.
        norm: whether features are normalised before the gate.
    """

    def __init__(
        self,
        convolution: Convolution,
        channels_in: Sequence[int] | None,
        channels_out: Sequence[int],
        *,
        n_species: int,
        shared: bool,
        norm: bool,
    ) -> None:
        super().__init__()
        self.first, self.shared = channels_in is None, shared
        self.convolution = convolution
        self.gate = Gate(channels_out)
        wide = self.gate.in_channels
        self.mix = DegreeLinear(convolution.out_channels, wide)
        self.norm = RMSNorm(wide) if norm else None
        self.connect: nn.Module
        if channels_in is None:  # any matrix per element acting on an element's embedding is an embedding
            self.element_embedding = SpeciesEmbedding(n_species, wide[0])
        else:
            self.connect = (
                DegreeLinear(channels_in, wide) if shared else SpeciesDegreeLinear(n_species, channels_in, wide)
            )

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
        new = self.mix(self.convolution(messages, basis, couplings, table))
        for l, kept in enumerate(self._self_connection(features, species)):
            new[l] = new[l] + kept
        return self.gate(new if self.norm is None else self.norm(new))

    def _self_connection(self, features: list[Tensor], species: Tensor) -> list[Tensor]:
        if self.first:
            return [self.element_embedding(species)[:, None]]
        return self.connect(features) if self.shared else self.connect(features, species)


def _check_options(channels: Sequence[int], self_connection: str, norm: str | None) -> None:
    if not channels or min(channels) < 1:
        raise ValueError(f"channels must name at least one channel for each degree from 0 on, got {tuple(channels)}")
    if self_connection not in ("species", "shared"):
        raise ValueError(f"self_connection must be 'species' or 'shared', got {self_connection!r}")
    if norm not in (None, "rms"):
        raise ValueError(f"norm must be None or 'rms', got {norm!r}")
