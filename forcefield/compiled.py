"""A potential through PyTorch's compiler: its energies and their gradient as one compiled function.

The potential and its derivative with respect to the edge vectors are recorded as one graph of elementary operations
with symbolic sizes, which `torch.compile` turns into fused machine code; a training loss can still be differentiated
with respect to the parameters.

Compilation takes from half a minute to minutes and needs a C++ compiler (on a GPU: Triton), so it is an option. The
first call is compared with the ordinary evaluation, and where anything fails or differs the ordinary one is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from forcefield.derivatives import edge_pull
from forcefield.graph import Graph
from forcefield.nn.scatter import NeighbourTable, table_of
from forcefield.potential import Potential

TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-9}
"""Largest difference from the ordinary evaluation, relative to the largest value."""


class CompileWarning(UserWarning):
    """Compilation was asked for, but the ordinary evaluation is used."""


@dataclass(frozen=True)
class PreparedGraph:
    """What networks read of a `Graph`, with the neighbour table built ahead (its width depends on the data)."""

    numbers: Tensor
    edge_index: Tensor
    n_local: int
    table: NeighbourTable


class CompiledPotential:
    """Atomic energies, the pull on every edge, and descriptors; compiled at the first call.

    Args:
        potential: the potential; its parameters are read at every call, so training may change them.
        training: the results can be differentiated with respect to the parameters.
    """

    def __init__(self, potential: Potential, *, training: bool = False) -> None:
        self.potential, self.training = potential, training
        self.failure: str | None = None
        self._function: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None
        self._parameters: dict[str, Tensor] = {}

    def __call__(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluate a batch.

        Args:
            graph: batch without ghosts.
            vectors: (edges, 3) from centre to neighbour (Å), float64.

        Returns:
            atomic energies (atoms,) in eV, ``dE / d vector`` (edges, 3) in eV/Å, and, when not training, descriptors
            (atoms, channels) where the network has any.

        Warns:
            CompileWarning: once, where compilation failed or gave other numbers.
        """
        if self.failure is not None or not self._fits(graph):
            return self.ordinary(graph, vectors)
        try:
            table = table_of(graph)
            if self._function is None:
                self._function = self._compile(vectors.device)
                self.failure = self._difference(self._evaluate(graph, vectors, table), self.ordinary(graph, vectors))
            if self.failure is None:
                return self._evaluate(graph, vectors, table)  # anew: a comparison uses up the graph of its results
        except Exception as error:  # whatever a compiler can run into; the ordinary evaluation always works
            self.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        self._function = None
        warnings.warn(
            f"compilation is not used and the ordinary evaluation goes on ({self.failure})",
            CompileWarning,
            stacklevel=3,
        )
        return self.ordinary(graph, vectors)

    def ordinary(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The same without compilation."""
        vectors = vectors.detach().requires_grad_()
        descriptors, network = _run(self.potential.network, graph, vectors, describe=not self.training)
        energies = self.potential.assemble(graph, vectors, network)
        return energies, edge_pull(energies, vectors, training=self.training), descriptors

    def _fits(self, graph: Graph) -> bool:
        """Sizes of zero and one have special meanings to the compiler; such graphs cost nothing anyway."""
        return graph.n_local == graph.n_atoms > 1 and graph.n_edges > 2 * graph.n_atoms

    def _difference(self, found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> str | None:
        """What differs from the ordinary evaluation, the gradient of the parameters included when training."""
        names = ["energies", "gradients", "descriptors"]
        if self.training:
            found, expected = (*found, self._parameter_gradient(found)), (*expected, self._parameter_gradient(expected))
            names.append("derivatives with respect to the parameters")
        for name, one, other in zip(names, found, expected, strict=True):
            if one is None or other is None:
                continue
            largest = float((one - other).detach().abs().max())
            allowed = TOLERANCE[self.potential.dtype] * max(1.0, float(other.detach().abs().max()))
            if not largest <= allowed:
                return f"its {name} differ by {largest:.1e}, more than {allowed:.1e}"
        return None

    def _parameter_gradient(self, result: Sequence[Tensor | None]) -> Tensor:
        """Gradient of a loss on energies and pulls, as training takes it; the parameters' own is left alone."""
        energies, pull = result[:2]
        assert energies is not None and pull is not None
        loss = energies.square().mean() + pull.square().mean()
        parameters = [p for p in self.potential.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def _evaluate(self, graph: Graph, vectors: Tensor, table: NeighbourTable) -> tuple[Tensor, Tensor, Tensor | None]:
        assert self._function is not None
        with torch.set_grad_enabled(self.training):
            energies, pull, descriptors = self._function(self._parameters, *_inputs(graph, vectors, table))
        return energies, pull, descriptors if descriptors.shape[1] else None

    def _compile(self, device: torch.device) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
        from torch.fx.experimental.proxy_tensor import make_fx

        module = _EnergiesAndPull(self.potential, training=self.training)
        self._parameters = dict(self.potential.named_parameters())

        def function(values: dict[str, Tensor], *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            named = {f"potential.{name}": value for name, value in values.items()}
            return torch.func.functional_call(module, named, inputs)

        with torch.enable_grad():
            recorded = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
                self._parameters, *_example(device)
            )
        return torch.compile(_without_detach(recorded), dynamic=True)


def _run(network: nn.Module, graph: Any, vectors: Tensor, *, describe: bool) -> tuple[Tensor | None, Tensor]:
    """Descriptors where they are wanted and the network has any, and what it gives for the atoms."""
    if describe and hasattr(network, "features"):
        return network.features(graph, vectors)  # type: ignore[operator]
    return None, network(graph, vectors)


class _EnergiesAndPull(nn.Module):
    """Tensors in; energies, their gradient, and descriptors (of no channel where there are none) out."""

    def __init__(self, potential: Potential, *, training: bool) -> None:
        super().__init__()
        self.potential = potential
        self.create_graph = training

    def forward(
        self,
        vectors: Tensor,
        numbers: Tensor,
        edge_index: Tensor,
        slot: Tensor,
        edge: Tensor,
        neighbour: Tensor,
        slots: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        n_atoms = numbers.shape[0]
        table = NeighbourTable(slot, edge, neighbour, n_atoms, slots.shape[0])
        graph, free = PreparedGraph(numbers, edge_index, n_atoms, table), vectors.detach().requires_grad_()
        descriptors, network = _run(self.potential.network, graph, free, describe=not self.create_graph)
        energies = self.potential.assemble(graph, free, network, every_edge=True)  # type: ignore[arg-type]
        pull = edge_pull(energies, free, training=self.create_graph)
        if descriptors is None:
            descriptors = vectors.new_empty(n_atoms, 0)
        descriptors = descriptors.detach()
        return (energies, pull, descriptors) if self.create_graph else (energies.detach(), pull, descriptors)


def _without_detach(recorded: Any) -> Any:
    """Let gradients through where autograd handed its saved tensors on: the recording shows each as a ``detach``."""
    for node in recorded.graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        node.replace_all_uses_with(node.args[0])
        recorded.graph.erase_node(node)
    recorded.recompile()
    return recorded


def _example(device: torch.device) -> tuple[Tensor, ...]:
    """Inputs of sizes that no network has: equal sizes are taken for the same one when the network is recorded."""
    atoms, slots, edges = 1009, 13, 5003
    index = torch.zeros(edges, dtype=torch.int64, device=device)
    places = torch.zeros(atoms * slots, dtype=torch.int64, device=device)
    table = NeighbourTable(index, places, places.clone(), atoms, slots)
    graph = PreparedGraph(places[:atoms].clone(), torch.stack([index, index]), atoms, table)
    return _inputs(graph, torch.ones(edges, 3, dtype=torch.float64, device=device), table)


def _inputs(graph: Graph | PreparedGraph, vectors: Tensor, table: NeighbourTable) -> tuple[Any, ...]:
    slots = vectors.new_empty(table.n_slots)  # its length tells the number of slots
    indices = (graph.numbers, graph.edge_index, table.slot, table.edge, table.neighbour)
    return (vectors.detach(), *indices, slots)
