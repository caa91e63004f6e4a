"""Energy, forces and stress of a batch, in smaller parts where memory does not suffice for the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from forcefield.derivatives import EnergiesAndPull, Prediction, evaluate
from forcefield.graph import Graph
from forcefield.potential import Potential
from forcefield.structures import TooLargeError

EDGES_ON_CPU = 12_000  # beyond that a CPU gains nothing more
BYTES_PER_EDGE = 20_000  # of a GPU's memory; the shipped network takes 6,000 on a CPU, larger ones more
SHARE_OF_MEMORY = 0.5  # of what is free on the GPU
# What PyTorch says, as a RuntimeError, when the machine's own memory does not suffice.
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory")


def default_edges(device: torch.device) -> int:
    """Size of a batch in neighbour pairs: what fits a GPU's free memory, or what is fast on a CPU."""
    if device.type != "cuda":
        return EDGES_ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    return max(EDGES_ON_CPU, int(SHARE_OF_MEMORY * free / BYTES_PER_EDGE))


class Evaluator:
    """A potential that evaluates batches of any size.

    When memory runs out, the limit falls to half of what was tried, and the batch is evaluated in parts of that size.

    Args:
        potential: the potential.
        compiled: the compiled one to use instead, if any.
        max_edges: neighbour pairs that a batch shall have at most; None chooses by the device.
    """

    def __init__(
        self, potential: Potential, *, compiled: EnergiesAndPull | None = None, max_edges: int | None = None
    ) -> None:
        self.potential, self.compiled = potential, compiled
        self.max_edges = default_edges(potential.device) if max_edges is None else max_edges
        self._part_edges: int | None = None  # no parts until memory has run out

    @torch.inference_mode(False)
    @torch.enable_grad()
    def __call__(self, graph: Graph) -> Prediction:
        """Evaluate a batch.

        Raises:
            TooLargeError: one structure alone is too much.
        """
        while True:
            largest, single = 0, None
            try:
                parts = []
                for first, part in split_graph(graph, self._part_edges):
                    largest = max(largest, part.n_edges)
                    single = (first, part.n_atoms, part.n_edges) if part.n_structures == 1 else None
                    parts.append(evaluate(self.potential, part, compiled=self.compiled))
                return _joined(parts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            if single is not None:
                raise TooLargeError(*single)
            self._part_edges = max(1, largest // 2)
            self.max_edges = min(self.max_edges, self._part_edges)
            if graph.positions.device.type == "cuda":
                torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)


def split_graph(graph: Graph, max_edges: int | None) -> Iterator[tuple[int, Graph]]:
    """Consecutive structures with at most so many edges together (a larger one comes alone).

    Args:
        graph: a batch.
        max_edges: neighbour pairs of a part; None leaves the batch whole.

    Yields:
        The number of the first structure of a part, and the part.
    """
    if max_edges is None or graph.n_edges <= max_edges:
        yield 0, graph
        return
    edges = torch.bincount(graph.batch[graph.edge_index[0]], minlength=graph.n_structures).tolist()
    atoms = graph.atoms_per_structure().tolist()
    start, atom, edge = 0, 0, 0
    while start < len(edges):
        stop, n_edges = start + 1, edges[start]
        while stop < len(edges) and n_edges + edges[stop] <= max_edges:
            n_edges += edges[stop]
            stop += 1
        n_atoms = sum(atoms[start:stop])
        yield start, _part(graph, slice(start, stop), slice(atom, atom + n_atoms), slice(edge, edge + n_edges))
        start, atom, edge = stop, atom + n_atoms, edge + n_edges


def _part(graph: Graph, structures: slice, atoms: slice, edges: slice) -> Graph:
    return replace(
        graph,
        numbers=graph.numbers[atoms],
        positions=graph.positions[atoms],
        cell=graph.cell[structures],
        pbc=graph.pbc[structures],
        edge_index=graph.edge_index[:, edges] - atoms.start,
        edge_shift=graph.edge_shift[edges],
        batch=graph.batch[atoms] - structures.start,
        n_local=atoms.stop - atoms.start,
    )


def _joined(parts: list[Prediction]) -> Prediction:
    def together(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    if len(parts) == 1:
        return parts[0]
    return Prediction(together("energy"), together("energies"), together("forces"), together("stress"))
