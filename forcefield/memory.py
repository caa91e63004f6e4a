"""How much memory a call takes, estimated from atoms and neighbour pairs before it is made.

The constants are those of a fit to the measured peak of the process for the shipped model on a CPU
(`benchmarks/memory.py`, whose table is in docs/cluster.md). Another model or precision is scaled by the ratio of the
tensors it holds for one reference crystal to those of the shipped model; they are counted once for each model.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from ase.build import bulk
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from forcefield.derivatives import evaluate
from forcefield.graph import Graph, graph_from_atoms
from forcefield.networks.density import BLOCK, LARGEST_BLOCK, DensityNetwork
from forcefield.potential import Potential

BASE = 4.357e6
"""Bytes of any call."""
PER_SLOT = 1916.0
"""Bytes for each place of the padded neighbour table: atoms times the most neighbours of one of them."""
PER_ATOM = 74_170.0
"""Bytes for each atom."""
PER_SLOT_OUTSIDE_BLOCK = 422.0
"""Bytes for each place of the table beyond those that the `density` network works on at once."""
PER_ATOM_OUTSIDE_BLOCK = 15_300.0
"""Bytes for each atom beyond those."""
REFERENCE_TENSORS = 14_171_248.0
"""Bytes of the tensors that the shipped model holds at most for the reference crystal in float32."""


@dataclass(frozen=True)
class Size:
    """What the memory of a call depends on.

    Attributes:
        atoms: number of atoms.
        edges: number of directed neighbour pairs.
        most: largest number of neighbours of one atom.
    """

    atoms: int
    edges: int
    most: int

    @property
    def slots(self) -> int:
        """Places of the padded neighbour table."""
        return self.atoms * self.most

    def __add__(self, other: Size) -> Size:
        """The size of both in one batch."""
        return Size(self.atoms + other.atoms, self.edges + other.edges, max(self.most, other.most))


def size_of(graph: Graph) -> Size:
    """Size of a graph."""
    counts = torch.bincount(graph.edge_index[0], minlength=1)
    return Size(graph.n_atoms, graph.n_edges, int(counts.max()) if graph.n_edges else 0)


def estimate_bytes(size: Size, potential: Potential) -> int:
    """Peak memory of energy, forces and stress, beyond what the loaded model takes itself (bytes).

    Args:
        size: of the structure or the batch.
        potential: the potential.
    """
    fitted = sum(constant * count for constant, count in zip(CONSTANTS, counts(size, potential.network), strict=True))
    return int(BASE + fitted * relative_tensors(potential))


CONSTANTS = (PER_SLOT, PER_ATOM, PER_SLOT_OUTSIDE_BLOCK, PER_ATOM_OUTSIDE_BLOCK)


def counts(size: Size, network: torch.nn.Module) -> tuple[float, float, float, float]:
    """What `CONSTANTS` multiply: places and atoms worked on at once, and places and atoms besides."""
    in_blocks = isinstance(network, DensityNetwork) and size.slots > LARGEST_BLOCK
    slots = BLOCK if in_blocks else size.slots
    atoms = slots / size.most if size.most else size.atoms
    return slots, atoms, size.slots - slots, size.atoms - atoms


_tensors: weakref.WeakKeyDictionary[Potential, tuple[torch.dtype, float]] = weakref.WeakKeyDictionary()


def relative_tensors(potential: Potential) -> float:
    """Tensors that a potential holds for the reference crystal, relative to the shipped model in float32."""
    known = _tensors.get(potential)
    if known is None or known[0] != potential.dtype:
        known = (potential.dtype, tensor_bytes(potential, reference_graph(potential)) / REFERENCE_TENSORS)
        _tensors[potential] = known
    return known[1]


def reference_graph(potential: Potential) -> Graph:
    """A crystal of 125 atoms of the potential's first element, as dense as copper."""
    atoms = bulk("Cu", "fcc", a=3.61) * (5, 5, 5)
    atoms.numbers[:] = potential.elements[0]
    return graph_from_atoms(atoms, potential.cutoff).to(potential.device)


@torch.inference_mode(False)
@torch.enable_grad()
def tensor_bytes(potential: Potential, graph: Graph) -> int:
    """Most bytes of tensors alive at the same time while energy, forces and stress are computed."""
    with _Counter() as counter:
        evaluate(potential, graph)
    return counter.most


class _Counter(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at what it gives."""
        given = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(given):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf.untyped_storage())
        return given

    def _count(self, storage: torch.UntypedStorage) -> None:
        name = storage._cdata
        if name in self._alive:
            return
        self._alive.add(name)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._freed, name, storage.nbytes())

    def _freed(self, name: int, size: int) -> None:
        self._alive.discard(name)
        self.now -= size
