"""Potential: a network's atomic energies made physical by reference energies, a scale and nuclear repulsion."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.nn.radial import smooth_cutoff
from forcefield.nn.repulsion import Repulsion
from forcefield.nn.scatter import scatter_sum

Exchange = Callable[[Tensor], Tensor]

SATURATION_RATE = 4.0
"""Of new potentials; those of model formats before 3 have 1."""


class Potential(nn.Module):
    """Atomic energies in eV of any structure made of known elements.

    ``E_i = isolated[z_i] + s_i (bound[z_i] + scale network_i) + repulsion_i`` with the saturation
    ``s_i = 1 - exp(-sum_j (u_ij + (k - 1) u_ij^3))`` of the smooth cutoffs ``u_ij = u(r_ij)``. It is 0 for an atom
    without neighbours, which therefore has exactly its free-atom energy, and goes smoothly to 1 as neighbours come
    near. With a rate k of 4 it is 0.98 in a short bond of two atoms, so that the network can say the same of a molecule
    in the gas and in a crystal; with 1 it is 0.63. Where the last neighbour leaves, the rate makes no difference.
    Potentials of other packages have no such factor: with ``saturates=False`` it is 1 everywhere.

    Args:
        network: ``network(graph, vectors, exchange) -> (n_local,)``, with attributes ``cutoff`` and ``elements``.
        isolated_energies: atomic number -> energy of the free atom (eV).
        bound_energies: atomic number -> mean energy of the bound atom relative to the free one (eV).
        scale: energy (eV) that one unit of the network's output stands for.
        repulsion: whether the nuclear repulsion is added.
        saturates: False for ``s_i = 1``, so that a free atom has ``isolated + bound + scale network`` too.
        saturation_rate: the k of the saturation.

    Raises:
        ValueError: an element of the network has no reference energy, or the rate is below 1.
    """

    isolated: Tensor
    bound: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        isolated_energies: Mapping[int, float],
        bound_energies: Mapping[int, float],
        scale: float = 1.0,
        repulsion: bool = True,
        saturates: bool = True,
        saturation_rate: float = SATURATION_RATE,
    ) -> None:
        super().__init__()
        self.network, self.saturates, self.saturation_rate = network, saturates, float(saturation_rate)
        self.elements: tuple[int, ...] = tuple(network.elements)  # type: ignore[arg-type]
        missing = [z for z in self.elements if z not in isolated_energies or z not in bound_energies]
        if missing:
            raise ValueError(f"no reference energy for atomic numbers {missing}; give one for each element")
        if not 1 <= self.saturation_rate < float("inf"):
            raise ValueError(f"saturation_rate is {saturation_rate}, but must be 1 or more")
        self.register_buffer("isolated", _table(isolated_energies))
        self.register_buffer("bound", _table(bound_energies))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.repulsion = Repulsion() if repulsion else None

    @property
    def cutoff(self) -> float:
        """Neighbour radius (Å)."""
        return float(self.network.cutoff)  # type: ignore[arg-type]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the network; reference energies, repulsion and sums are always float64."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the potential lives."""
        return self.isolated.device

    def with_dtype(self, dtype: torch.dtype) -> Potential:
        """Set the network's precision in place and return the potential; energies stay in float64."""
        self.network.to(dtype)
        return self

    def forward(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> Tensor:
        """Atomic energies.

        Args:
            graph: neighbour graph with the potential's cutoff.
            vectors: (edges, 3) from centre to neighbour (Å), float64; the only way geometry enters.
            exchange: fills ghost features between layers, (n_local, d) -> (atoms, d); None where there are no ghosts.

        Returns:
            (n_local,) in eV, float64.
        """
        network = self.network(graph, vectors, exchange)
        return self.assemble(graph, vectors, network)

    def describe(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> tuple[Tensor, Tensor]:
        """Per-atom descriptors (n_local, channels), rotation-invariant, and atomic energies (n_local,) in eV."""
        descriptors, network = self.network.features(graph, vectors, exchange)  # type: ignore[operator]
        return descriptors, self.assemble(graph, vectors, network)

    def saturation(self, graph: Graph, distance: Tensor) -> Tensor:
        """``s_i`` of the class's formula, (n_local,), from the edges' lengths (Å)."""
        if not self.saturates:
            return distance.new_ones(graph.n_local)
        near = smooth_cutoff(distance, self.cutoff)
        contacts = scatter_sum(near + (self.saturation_rate - 1) * near**3, graph.edge_index[0], graph.n_local)
        return -torch.expm1(-contacts)

    def assemble(self, graph: Graph, vectors: Tensor, network: Tensor, *, every_edge: bool = False) -> Tensor:
        """Atomic energies (n_local,) in eV from what the network gave (n_local,); ``every_edge`` as of `Repulsion`."""
        distance = torch.linalg.vector_norm(vectors, dim=1)
        numbers = graph.numbers[: graph.n_local]
        bound = self.bound[numbers] + self.scale * network.double()
        energies = self.isolated[numbers] + self.saturation(graph, distance) * bound
        if self.repulsion is not None:
            energies = energies + self.repulsion(
                graph.numbers, graph.edge_index, distance, graph.n_local, every_edge=every_edge
            )
        return energies


def _table(energies: Mapping[int, float]) -> Tensor:
    """(119,) float64, NaN for elements without a value."""
    table = torch.full((119,), float("nan"), dtype=torch.float64)
    for number, energy in energies.items():
        table[int(number)] = float(energy)
    return table
