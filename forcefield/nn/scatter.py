"""Sums over edges and atoms, and the padded neighbour table on which dense products run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def scatter_sum(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of ``values`` that share an index: ``out[k] = sum_{index[e] = k} values[e]``.

    Args:
        values: (rows, ...).
        index: (rows,) target of each row, below ``size``.
        size: number of targets.

    Returns:
        (size, ...), zero where no row points.
    """
    return values.new_zeros((size, *values.shape[1:])).index_add(0, index, values)


@dataclass(frozen=True)
class NeighbourTable:
    """Edges sorted by centre, laid out as (centres, slots) with empty slots at the end of each row.

    Attributes:
        slot: (edges,) flat position of each edge in the table.
        edge: (centres * slots,) edge that stands in each position; ``n_edges`` (one past the last) where empty.
        neighbour: (centres * slots,) atom that stands in each position; 0 where empty.
        n_centres: rows of the table.
        n_slots: columns of the table, the largest number of neighbours.
    """

    slot: Tensor
    edge: Tensor
    neighbour: Tensor
    n_centres: int
    n_slots: int

    def pad(self, values: Tensor, fill: Tensor) -> Tensor:
        """Lay edge values (edges, d) out as (centres, slots, d), ``fill`` (d,) in the empty slots."""
        rows = torch.cat([values, fill[None]])
        return _Pad.apply(rows, self).reshape(self.n_centres, self.n_slots, values.shape[1])

    def gather(self, features: Tensor) -> Tensor:
        """Features of the neighbours: (atoms, d) -> (centres, slots, d). Empty slots hold atom 0's."""
        rows = features.index_select(0, self.neighbour)
        return rows.reshape(self.n_centres, self.n_slots, features.shape[1])


def neighbour_table(edge_index: Tensor, n_centres: int) -> NeighbourTable:
    """Build the padded table.

    Args:
        edge_index: (2, edges), sorted by centre (row 0).
        n_centres: number of centres; all entries of row 0 are below it.
    """
    centre, neighbour = edge_index
    n_edges = centre.shape[0]
    counts = torch.bincount(centre, minlength=n_centres)
    n_slots = int(counts.max()) if n_edges else 0
    first = torch.cumsum(counts, 0) - counts
    rank = torch.arange(n_edges, device=centre.device) - first.index_select(0, centre)
    slot = centre * n_slots + rank
    edge = torch.full((n_centres * n_slots,), n_edges, dtype=torch.int64, device=centre.device)
    edge[slot] = torch.arange(n_edges, device=centre.device)
    atom = torch.zeros(n_centres * n_slots, dtype=torch.int64, device=centre.device)
    atom[slot] = neighbour
    return NeighbourTable(slot, edge, atom, n_centres, n_slots)


def table_of(graph: Any) -> NeighbourTable:
    """The table of a graph: the one it carries as ``table`` (compiled networks get it ready-made), else built here."""
    table = getattr(graph, "table", None)
    return neighbour_table(graph.edge_index, graph.n_local) if table is None else table


class _Pad(torch.autograd.Function):
    """Row selection whose gradient is a selection too (each edge stands in exactly one slot)."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: NeighbourTable) -> Tensor:
        ctx.table = table
        return rows.index_select(0, table.edge)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Unpad.apply(gradient, ctx.table), None


class _Unpad(torch.autograd.Function):
    """Transpose of `_Pad`: picks the slots of the edges; the fill row gets no gradient."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, table: NeighbourTable) -> Tensor:
        ctx.table = table
        return torch.cat([padded.index_select(0, table.slot), padded.new_zeros(1, padded.shape[1])])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Pad.apply(gradient, ctx.table), None
