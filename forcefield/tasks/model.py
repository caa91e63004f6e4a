"""A property model: body, head, and the labels' scale and reference values of the elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.graph import Graph
from forcefield.nn.scatter import scatter_sum
from forcefield.tasks.heads import build_head
from forcefield.tasks.pooling import structure_mean
from forcefield.tasks.task import Task


class PropertyModel(nn.Module):
    """``value = reference + scale * head(body's features)``, in the unit of the labels.

    The reference is a number for each element: summed over the atoms of the structure (pooling "sum"), averaged
    (other graph properties), the atom's own, or the mean of an edge's two atoms. Tensors have none.

    Args:
        body: network with ``features``, ``cutoff`` and ``elements``.
        task: what it predicts.
        channels: width of the body's features.
        max_neighbours: neighbours of an atom that the body sees, the nearest ones, whole shells; None for all.
        tensor_channels: channels of the body's tensors of degree 1, 2, ... that a head for vectors and tensors takes;
            all that the body has if None.
    """

    reference: Tensor
    scale: Tensor

    def __init__(
        self,
        body: nn.Module,
        task: Task,
        channels: int,
        *,
        max_neighbours: int | None = None,
        tensor_channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.task, self.channels = body, task, channels
        self.max_neighbours = max_neighbours
        if tensor_channels is None:
            tensor_channels = () if task.shape == "scalar" else getattr(body, "tensor_channels", ())
        self.tensor_channels = tuple(tensor_channels)
        self.head = build_head(task, channels, self.cutoff, self.tensor_channels)
        self.register_buffer("reference", torch.zeros(119, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @property
    def cutoff(self) -> float:
        """Neighbour radius (Å)."""
        return float(self.body.cutoff)  # type: ignore[arg-type]

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows."""
        return tuple(self.body.elements)  # type: ignore[arg-type]

    def with_dtype(self, dtype: torch.dtype) -> PropertyModel:
        """Set the precision of body and head in place and return the model; reference and scale stay float64."""
        self.body.to(dtype)
        self.head.to(dtype)
        return self

    def forward(self, graph: Graph) -> Tensor:
        """Values of a batch.

        Args:
            graph: structures with the model's cutoff, capped by `nearest_edges` where the model has a limit.

        Returns:
            (structures or atoms or edges, *task.value_shape), float64, in the unit of the labels.
        """
        vectors = graph.edge_vectors()
        describe = self.body.tensor_features if self.tensor_channels else self.body.features
        features, _, *tensors = describe(graph, vectors)  # type: ignore[operator]
        values = self.head(graph, vectors, features, *tensors).double() * self.scale
        if self.task.shape != "scalar":
            return values
        reference = self.reference[graph.numbers]  # (atoms,)
        if self.task.level == "graph":
            pool = scatter_sum if self.task.pooling == "sum" else structure_mean
            reference = pool(reference, graph.batch, graph.n_structures)
        elif self.task.level == "edge":
            i, j = graph.edge_index
            reference = (reference[i] + reference[j]) / 2
        return values + reference


SHELL_WIDTH = 1e-3
"""Å; neighbours whose distances differ by less count as one shell, which is kept or left out as a whole."""


def nearest_edges(graph: Graph, most: int) -> Tensor:
    """Which edges lead to the ``most`` nearest neighbours of their centre; a shell that has begun is completed.

    So the choice does not depend on the order of the atoms, nor on the cell that describes a crystal.

    Returns:
        (edges,) bool.
    """
    centre, distance = graph.edge_index[0], graph.edge_lengths()
    by_distance = torch.argsort(distance, stable=True)
    order = by_distance[torch.argsort(centre[by_distance], stable=True)]
    counts = torch.bincount(centre, minlength=graph.n_atoms)
    first = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(centre)
    rank[order] = torch.arange(len(centre), device=centre.device) - first[centre[order]]
    last = torch.full((graph.n_atoms,), torch.inf, dtype=distance.dtype, device=distance.device)
    is_last = rank == most - 1
    last[centre[is_last]] = distance[is_last]
    return distance <= last[centre] + SHELL_WIDTH
