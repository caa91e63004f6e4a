"""The flagship: neighbour density first, weights and products afterwards.

With radial functions linear in a fixed basis, the sum over neighbours needs no weight:

    M_i[b, lm, c] = 1/sqrt(n) sum_j B_b(r_ij) Y_lm(r_ij) h_j[c]                 one dense product per atom and degree
    A_i[lm, c']   = sum_{b, c} W_l[b c, c'] s_i[b c] M_i[b, lm, c]              weights act on atoms, not on edges
    B2_i = W (A_i (x) A_i),  B3_i = A_i (x) B2_i                                channel-wise couplings
    h_i' = h_i + MLP(A_0, (A (x) A)_0, (A (x) B2)_0),  v_i' = W (A_1, (A (x) A)_1) * gate

and the next layer gathers scalars h_j and vectors v_j. The MLP's sums pass a layer normalisation (Ba et al.,
arXiv:1607.06450, eq. 3; no parameters, 1 under the root) before their SiLU, so that no unit ends on its flat side. The
density is that of the atomic cluster expansion (Drautz, Phys. Rev. B 99, 014104 (2019),
doi:10.1103/PhysRevB.99.014104), message passing on it follows MACE (Batatia et al., NeurIPS 2022, arXiv:2206.07697,
section 4). We depart from MACE in that radial functions are linear, products of order three are built recursively with
channel mixing in between, element-dependent weights scale M (s_i), A and the invariants instead of each product, half
of the radial functions B measure the distance against the pair's covalent radii, and A and the scalars that a later
layer takes up are divided by sqrt(1 + mean of their squares), which keeps products bounded and is smooth where the last
neighbour leaves. Where Muon trains the matrices, s_i and the other tables with a row for each element learn by Adam,
but for the one that scales the invariants (`forcefield.train.optimizer.is_hidden_matrix`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from forcefield.graph import Graph
from forcefield.nn.equivariant import SphericalHarmonics, clebsch_gordan, coupling_paths, register_constant
from forcefield.nn.mlp import Linear, SpeciesEmbedding
from forcefield.nn.products import ChannelProduct
from forcefield.nn.radial import BesselBasis, WarpedBesselBasis
from forcefield.nn.scatter import NeighbourTable, table_of
from forcefield.nn.species import SpeciesIndex

Exchange = Callable[[Tensor], Tensor]

LARGEST_BLOCK = 1 << 17
"""Slots of the neighbour table handled at once; more of them are worked through in blocks to bound the memory."""
BLOCK = 1 << 15
"""Slots of such a block: few enough for a processor's cache, which nearly doubles the speed of 10,000 atoms."""


class DensityNetwork(nn.Module):
    """Equivariant message passing that aggregates before it multiplies; see the module's formulas.

    Args:
        elements: atomic numbers that the network knows.
        cutoff: neighbour radius (Å).
        channels: channels of the density A and of the scalars.
        n_radial: Bessel functions of the distance.
        n_warped: Bessel functions of the distance measured against the pair's covalent radii.
        lmax: highest degree of the density.
        n_layers: interaction layers.
        species_channels: channels of the neighbours' element embedding in the first layer.
        message_scalars: scalar channels that neighbours send in later layers.
        message_vectors: vector channels that neighbours send in later layers.
        hidden: width of the scalar MLPs.
        mean_neighbours: typical number of neighbours, normalises the density.
        layer_norm: normalise what enters the activation functions; False for models of format 1.

    Attributes:
        tensor_channels: channels of what `tensor_features` gives of degree 1, 2, ...
    """

    def __init__(
        self,
        elements: Sequence[int],
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        n_radial: int = 5,
        n_warped: int = 5,
        lmax: int = 2,
        n_layers: int = 2,
        species_channels: int = 32,
        message_scalars: int = 32,
        message_vectors: int = 16,
        hidden: int = 128,
        mean_neighbours: float = 30.0,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.elements = tuple(int(z) for z in elements)
        self.species = SpeciesIndex(elements)
        self.tensor_channels = (channels,) * lmax
        self.edges = EdgeBasis(self.elements, cutoff, n_radial, n_warped, lmax, scale=1 / math.sqrt(mean_neighbours))
        self.sender = SpeciesEmbedding(len(elements), species_channels)
        self.densities = nn.ModuleList()
        self.updates = nn.ModuleList()
        self.messages = nn.ModuleList()
        for k in range(n_layers):
            first, last = k == 0, k == n_layers - 1
            scalars, vectors = (species_channels, 0) if first else (message_scalars, message_vectors)
            n_basis = n_radial + n_warped
            self.densities.append(NeighbourDensity(len(elements), lmax, n_basis, scalars, vectors, channels))
            n_vectors = 0 if last else message_vectors
            self.updates.append(
                AtomUpdate(len(elements), lmax, channels, n_vectors, hidden, first=first, layer_norm=layer_norm)
            )
            if not last:
                self.messages.append(Linear(channels, message_scalars))

    def forward(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> Tensor:
        """Atomic energies in units of the potential's scale.

        Args:
            graph: edges sorted by centre; only ``numbers``, ``edge_index`` and ``n_local`` are read.
            vectors: (edges, 3) from centre to neighbour (Å).
            exchange: fills ghost features between layers, (n_local, d) -> (atoms, d).

        Returns:
            (n_local,) in the network's dtype.
        """
        return self.features(graph, vectors, exchange)[1]

    def features(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Scalar features (n_local, channels) of the last layer, a per-atom descriptor, and the atomic energies."""
        return self._evaluate(graph, vectors, exchange, tensors=False)[:2]

    def tensor_features(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `features` gives, and the last layer's A_i as a list over l = 1, 2, ... of features of parity (-1)^l.

        Returns:
            descriptors, energies, and (n_local, 2l+1, tensor_channels[l-1]) for each l, in e3nn's order.
        """
        scalars, energies, density = self._evaluate(graph, vectors, exchange, tensors=True)
        sizes = [2 * l + 1 for l in range(1, len(self.tensor_channels) + 1)]
        return scalars, energies, list(density.view(graph.n_local, sum(sizes), scalars.shape[1]).split(sizes, dim=1))

    def _evaluate(
        self, graph: Graph, vectors: Tensor, exchange: Exchange | None, *, tensors: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scalars (n_local, channels), energies (n_local,), and the last layer's density (n_local, d) if asked for."""
        species = self.species(graph.numbers)  # (atoms,)
        table = table_of(graph)
        environment = self.edges.environment(vectors.to(self.sender.weight.dtype), table, species)
        basis = self.edges(environment) if table.n_centres * table.n_slots <= LARGEST_BLOCK else None
        message = self.sender(species)  # (atoms, d)
        energies = message.new_zeros(graph.n_local)
        scalars: Tensor | None = None
        for k in range(len(self.updates)):
            if k and exchange is not None:
                message = exchange(message)
            centre = species[: graph.n_local]
            if basis is not None:
                received = table.gather(message)
                scalars, message, energy = self._interact(k, basis, received, scalars, centre, tensors)
            else:
                scalars, message, energy = self._interact_in_blocks(
                    k, environment, table, message, scalars, centre, tensors
                )
            energies = energies + energy
        assert scalars is not None
        return scalars, energies, message

    def _interact_in_blocks(
        self,
        k: int,
        environment: Environment,
        table: NeighbourTable,
        message: Tensor,
        scalars: Tensor | None,
        centre: Tensor,
        tensors: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One interaction of all centres block by block, the blocks computed anew for the gradient instead of kept.

        Args:
            k: number of the layer.
            environment: where the neighbours are.
            table: the neighbours.
            message: (atoms, d) what each atom sends.
            scalars: (centres, channels) of the layer before, or None.
            centre: (centres,) species.
            tensors: whether the last layer, which sends nothing, gives its density instead.

        Returns:
            scalars (centres, channels), message to send (centres, d'), energies (centres,).
        """
        slots = table.n_slots
        neighbour = table.neighbour.view(-1, slots)
        step = max(min(BLOCK, LARGEST_BLOCK) // slots, 1)
        parts = []
        for start in range(0, table.n_centres, step):
            block = slice(start, start + step)

            def interact(block: slice = block) -> tuple[Tensor, Tensor, Tensor]:
                received = message.index_select(0, neighbour[block].reshape(-1)).view(-1, slots, message.shape[1])
                before = None if scalars is None else scalars[block]
                return self._interact(k, self.edges(environment.of(block)), received, before, centre[block], tensors)

            parts.append(checkpoint(interact, use_reentrant=False, preserve_rng_state=False))
        return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]

    def _interact(
        self, k: int, basis: Tensor, received: Tensor, scalars: Tensor | None, centre: Tensor, tensors: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One interaction of the given centres.

        Args:
            k: number of the layer.
            basis: (centres, slots, (lmax+1)^2 b).
            received: (centres, slots, d) what the neighbours sent.
            scalars: (centres, channels) of the layer before, or None.
            centre, tensors: as those of `_interact_in_blocks`.

        Returns:
            as `_interact_in_blocks`.
        """
        density = self.densities[k](basis, received, centre)  # ((lmax+1)^2, centres, channels)
        scalars, vectors_i, energy = self.updates[k](density, scalars, centre)
        if k == len(self.messages):
            handed = _bounded(density, dim=(0, 2))[1:].transpose(0, 1).flatten(1) if tensors else scalars[:, :0]
            return scalars, handed, energy
        return scalars, torch.cat([self.messages[k](scalars), vectors_i.transpose(0, 1).flatten(1)], dim=1), energy


@dataclass(frozen=True)
class Environment:
    """Neighbours of each centre in the padded layout.

    Attributes:
        vectors: (centres, slots, 3) from the centre (Å), beyond the cutoff in empty slots.
        reach: (centres, slots) sum of the covalent radii (Å).
    """

    vectors: Tensor
    reach: Tensor

    def of(self, centres: slice) -> Environment:
        """That of some of the centres."""
        return Environment(self.vectors[centres], self.reach[centres])


class EdgeBasis(nn.Module):
    """``B_b(r) Y_lm(r)`` of every edge in the padded layout, columns ordered (lm, b)."""

    def __init__(
        self, elements: Sequence[int], cutoff: float, n_radial: int, n_warped: int, lmax: int, *, scale: float
    ) -> None:
        super().__init__()
        self.radial = BesselBasis(cutoff, n_radial)
        self.warped = WarpedBesselBasis(elements, cutoff, n_warped)
        self.angular = SphericalHarmonics(lmax)
        self.scale = scale

    def environment(self, vectors: Tensor, table: NeighbourTable, species: Tensor) -> Environment:
        """Args: vectors (edges, 3), species (atoms,). Returns: neighbours in the padded layout."""
        beyond = vectors.new_tensor([2 * self.radial.cutoff, 0.0, 0.0])
        radii = self.warped.radii(species).to(vectors.dtype)
        reach = radii[: table.n_centres, None] + table.gather(radii[:, None])[..., 0]
        return Environment(table.pad(vectors, beyond), reach)

    def forward(self, environment: Environment) -> Tensor:
        """Returns: (centres, slots, (lmax+1)^2 b), zero in empty slots."""
        distance = torch.linalg.vector_norm(environment.vectors, dim=-1)  # (centres, slots)
        radial = torch.cat([self.radial(distance), self.warped(distance, environment.reach)], dim=-1) * self.scale
        harmonics = torch.cat(self.angular(environment.vectors / distance[..., None]), dim=-1)
        return (harmonics[..., :, None] * radial[..., None, :]).flatten(-2)


class NeighbourDensity(nn.Module):
    """A_i of the module's formulas: neighbours' scalars and vectors summed over the edge basis, then mixed.

    Args:
        n_species: number of elements.
        lmax: highest degree.
        n_radial: radial functions b.
        n_scalars: scalar channels of the neighbours.
        n_vectors: vector channels of the neighbours, 0 for none.
        channels: channels of A.
    """

    coupling: Tensor
    collect: Tensor

    def __init__(self, n_species: int, lmax: int, n_radial: int, n_scalars: int, n_vectors: int, channels: int) -> None:
        super().__init__()
        self.lmax, self.n_radial, self.channels = lmax, n_radial, channels
        self.n_scalars, self.n_vectors = n_scalars, n_vectors
        self.from_scalars = nn.ModuleList([Linear(n_radial * n_scalars, channels) for _ in range(lmax + 1)])
        self.element_scale = SpeciesEmbedding(n_species, n_radial * n_scalars, scale=0.05)
        if not n_vectors:
            return
        degrees = list(range(lmax + 1))
        self.paths = [(out, l) for out in degrees for l, _ in coupling_paths(degrees, [1], out)]
        rows, components = sum(2 * out + 1 for out, _ in self.paths), (lmax + 1) ** 2
        register_constant(self, "coupling", (rows, 3 * components), self._coupling)
        register_constant(self, "collect", (components, rows), self._collect)
        n_paths = [sum(out == degree for out, _ in self.paths) for degree in degrees]
        self.element_scale_vectors = SpeciesEmbedding(n_species, n_radial * n_vectors, scale=0.05)
        self.from_vectors = nn.ModuleList([Linear(n_radial * n_vectors * n, channels) for n in n_paths])

    def _coupling(self) -> NDArray[np.float64]:
        """Rows: components of each path (degree out, degree l of Y); columns: (lm of Y, m of the vector)."""
        blocks = []
        for out, l in self.paths:
            block = np.zeros((2 * out + 1, (self.lmax + 1) ** 2, 3))
            block[:, l**2 : (l + 1) ** 2] = clebsch_gordan(l, 1, out).transpose(2, 0, 1)
            blocks.append(block.reshape(2 * out + 1, -1))
        return np.concatenate(blocks)

    def _collect(self) -> NDArray[np.float64]:
        """Adds the paths of one degree."""
        component = [out**2 + m for out, _ in self.paths for m in range(2 * out + 1)]
        return np.eye((self.lmax + 1) ** 2)[:, component]

    def forward(self, basis: Tensor, received: Tensor, species: Tensor) -> Tensor:
        """Sum over neighbours.

        Args:
            basis: (centres, slots, (lmax+1)^2 b).
            received: (centres, slots, n_scalars + 3 n_vectors), components of the vectors outermost.
            species: (centres,).

        Returns:
            ((lmax+1)^2, centres, channels), components first.
        """
        n, b, s = species.shape[0], self.n_radial, self.n_scalars
        scalars, vectors = received.split([s, received.shape[2] - s], dim=2)
        moments = basis.transpose(1, 2).bmm(scalars).view(n, (self.lmax + 1) ** 2, b * s)
        moments = moments * (1 + self.element_scale(species))[:, None]
        weights = [mix.get_parameter("weight").expand(2 * l + 1, -1, -1) for l, mix in enumerate(self.from_scalars)]
        density = moments.transpose(0, 1).bmm(torch.cat(weights))
        return density + self._from_vectors(basis, vectors, species) if self.n_vectors else density

    def _from_vectors(self, basis: Tensor, vectors: Tensor, species: Tensor) -> Tensor:
        """The part of the neighbours' vectors (centres, slots, 3 n_vectors)."""
        n, b, v = species.shape[0], self.n_radial, self.n_vectors
        moments = basis.transpose(1, 2).bmm(vectors).view(n, (self.lmax + 1) ** 2, b, 3, v)
        moments = moments.permute(1, 3, 0, 2, 4).reshape(self.coupling.shape[1], n * b * v)
        rows = (self.coupling @ moments).view(self.coupling.shape[0], n, b * v)  # components of the paths
        rows = rows * (1 + self.element_scale_vectors(species))
        of_paths = [
            part for mix in self.from_vectors for part in mix.get_parameter("weight").view(-1, 1, b * v, self.channels)
        ]
        weights = [part.expand(2 * out + 1, -1, -1) for (out, _), part in zip(self.paths, of_paths, strict=True)]
        mixed = rows.bmm(torch.cat(weights)).view(rows.shape[0], n * self.channels)
        return (self.collect @ mixed).view((self.lmax + 1) ** 2, n, self.channels)


class AtomUpdate(nn.Module):
    """Products of the density on each atom, then new scalars, vectors and an energy.

    Args:
        n_species: number of elements.
        lmax: highest degree of the density.
        channels: channels of the density and of the scalars.
        n_vectors: vector channels to make, 0 in the last layer.
        hidden: width of the MLP.
        first: there are no scalars of a layer before.
        layer_norm: normalise what enters the activation functions.
    """

    spread: Tensor

    def __init__(
        self,
        n_species: int,
        lmax: int,
        channels: int,
        n_vectors: int,
        hidden: int,
        *,
        first: bool,
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.n_vectors, self.layer_norm = n_vectors, layer_norm
        degrees = list(range(lmax + 1))
        self.element_scale = SpeciesEmbedding(n_species, (lmax + 1) * channels, scale=0.1)
        self.element_bias = SpeciesEmbedding(n_species, hidden)
        components = [l for l in degrees for _ in range(2 * l + 1)]
        register_constant(self, "spread", (len(components), lmax + 1), lambda: np.eye(lmax + 1)[components])
        self.pair = ChannelProduct(lmax, degrees, symmetric=True)
        self.triple = ChannelProduct(lmax, [0])
        self.pair_mix = nn.ModuleList([Linear(len(self.pair.paths[l]) * channels, channels) for l in degrees])
        n_invariants = 1 + len(self.pair.paths[0]) + len(self.triple.paths[0]) + (not first)
        self.invariant_scale = SpeciesEmbedding(n_species, n_invariants * channels, scale=0.1)
        self.hidden = Linear(n_invariants * channels, hidden)
        self.hidden2 = Linear(hidden, hidden)
        self.bias2 = nn.Parameter(torch.zeros(hidden))
        self.scalars = Linear(hidden, channels)
        self.energy = Linear(hidden, 1)
        if n_vectors:
            n_covariants = 1 + len(self.pair.paths[1])
            self.vectors = Linear(n_covariants * channels, n_vectors)
            self.gate = Linear(hidden, n_vectors)

    def forward(self, density: Tensor, scalars: Tensor | None, species: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One atom's step.

        Args:
            density: ((lmax+1)^2, centres, channels).
            scalars: (centres, channels) of the layer before, or None.
            species: (centres,).

        Returns:
            scalars (centres, channels), vectors (3, centres, n_vectors), energies (centres,).
        """
        components, n, channels = density.shape
        density = _bounded(density, dim=(0, 2))
        scale = 1 + self.element_scale(species).view(n, self.spread.shape[1], channels).transpose(0, 1)
        density = density * (self.spread @ scale.reshape(self.spread.shape[1], n * channels)).view(
            components, n, channels
        )
        pairs = self.pair(density, density)
        mixed = torch.cat([mix(torch.cat(pairs[l], dim=2)) for l, mix in enumerate(self.pair_mix)])
        triples = self.triple(density, mixed)
        before = [] if scalars is None else [(_bounded(scalars) if self.layer_norm else scalars)[None]]
        invariants = torch.cat([density[:1], *pairs[0], *triples[0], *before], dim=2)[0]  # (centres, paths * channels)
        sums = self.hidden(invariants * (1 + self.invariant_scale(species))) + self.element_bias(species)
        hidden = self._activated(self.hidden2(self._activated(sums)) + self.bias2)
        new = self.scalars(hidden) if scalars is None else scalars + self.scalars(hidden)
        energies = self.energy(hidden)[:, 0]
        if not self.n_vectors:
            return new, density.new_zeros(3, n, 0), energies
        covariants = torch.cat([density[1:4], *pairs[1]], dim=2)  # (3, centres, paths * channels)
        return new, self.vectors(covariants) * torch.sigmoid(self.gate(hidden)), energies

    def _activated(self, sums: Tensor) -> Tensor:
        """SiLU of the (normalised) sums of a layer's units, (centres, units)."""
        if self.layer_norm:
            # not PyTorch's own layer_norm: its third derivative, for a loss on Hessian products, is wrong in 2.13
            sums = 2 * _bounded(sums - sums.mean(dim=-1, keepdim=True))
        return nn.functional.silu(sums)


def _bounded(x: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    """``x / sqrt(1 + mean(x^2))``, smooth where x vanishes."""
    return x * torch.rsqrt(1 + x.square().mean(dim=dim, keepdim=True))
