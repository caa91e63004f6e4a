"""Property models applied to structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.prediction import batches
from forcefield.tasks.model import PropertyModel, nearest_edges


@dataclass(frozen=True)
class EdgeValues:
    """A property of the edges of one structure.

    Attributes:
        pairs: (edges, 2) centre and neighbour.
        shifts: (edges, 3) lattice translation of the neighbour (``r_j + S @ cell - r_i``).
        values: (edges,) in the unit of the labels.
    """

    pairs: NDArray[np.int64]
    shifts: NDArray[np.int64]
    values: NDArray[np.float64]


Value = float | NDArray[np.float64] | EdgeValues
"""A number or tensor of the structure; (atoms, ...) of its atoms; or those of its edges."""


def property_graph(model: PropertyModel, atoms: ase.Atoms) -> Graph:
    """The graph that a model sees, with the nearest neighbours only where it has a limit."""
    graph = graph_from_atoms(atoms, model.cutoff)
    if model.max_neighbours is None:
        return graph
    kept = torch.nonzero(nearest_edges(graph, model.max_neighbours))[:, 0]
    return replace(graph, edge_index=graph.edge_index[:, kept], edge_shift=graph.edge_shift[kept])


@torch.inference_mode(False)
@torch.no_grad()
def predict_property(
    model: PropertyModel,
    structures: Sequence[ase.Atoms],
    *,
    device: str | torch.device = "cpu",
    max_edges: int = 100_000,
    progress: Callable[[int, int], None] | None = None,
) -> list[Value]:
    """Values of checked structures, in batches.

    Args:
        model: ready to evaluate.
        structures: made of elements that the model knows.
        device: where the model lives.
        max_edges: size of a batch in neighbour pairs.
        progress: called with (structures done, structures in all).

    Returns:
        a value for each structure: float or (3, ...); (atoms, ...); or `EdgeValues`.
    """
    results: list[Value] = []
    for batch in batches((property_graph(model, atoms) for atoms in structures), max_edges):
        values = model(collate(batch).to(device)).cpu()
        level = model.task.level
        sizes = [{"graph": 1, "atom": graph.n_atoms, "edge": graph.n_edges}[level] for graph in batch]
        for graph, part in zip(batch, torch.split(values, sizes), strict=True):
            results.append(_value(model, graph, part.numpy().copy()))
        if progress is not None:
            progress(len(results), len(structures))
    return results


def _value(model: PropertyModel, graph: Graph, part: NDArray[np.float64]) -> Value:
    if model.task.level == "edge":
        return EdgeValues(graph.edge_index.T.numpy().copy(), graph.edge_shift.numpy().astype(np.int64), part)
    if model.task.level == "atom":
        return part
    return part[0] if part.ndim > 1 else float(part[0])
