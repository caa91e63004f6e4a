"""Energy to forces and stress: the only place where the package differentiates an energy.

Every network sees geometry through edge vectors only, so one gradient with respect to them serves all:
``pull_ij = dE / d vector_ij``; forces are its sums over both ends, the stress its dyadic product with the vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from forcefield.graph import Graph, collate
from forcefield.nn.scatter import scatter_sum
from forcefield.potential import Potential


@dataclass(frozen=True)
class Prediction:
    """What a potential says of a batch.

    Attributes:
        energy: (structures,) in eV.
        energies: (atoms,) atomic energies in eV.
        forces: (atoms, 3) in eV/Å.
        stress: (structures, 3, 3) in eV/Å^3, ASE's sign; only meaningful where all three axes are periodic.
        descriptors: (atoms, channels) if asked for.
    """

    energy: Tensor
    energies: Tensor
    forces: Tensor
    stress: Tensor
    descriptors: Tensor | None = None


EnergiesAndPull = Callable[[Graph, Tensor], tuple[Tensor, Tensor, Tensor | None]]
"""Graph and edge vectors to atomic energies (atoms,), `edge_pull` (edges, 3), and descriptors (atoms, channels)."""


def evaluate(
    potential: Potential,
    graph: Graph,
    *,
    training: bool = False,
    descriptors: bool = False,
    compiled: EnergiesAndPull | None = None,
) -> Prediction:
    """Energy, forces and stress of a batch, exact derivatives of one energy.

    Args:
        potential: the potential.
        graph: batch of structures without ghosts.
        training: keep the graph of the derivatives, so that a loss on them can be differentiated.
        descriptors: also return the per-atom descriptors.
        compiled: `forcefield.compiled.CompiledPotential` of the same potential, used instead of it.
    """
    vectors = graph.edge_vectors().detach().requires_grad_()
    features = None
    if compiled is not None:
        energies, pull, features = compiled(graph, vectors.detach())
    elif descriptors:
        features, energies = potential.describe(graph, vectors)
        pull = edge_pull(energies, vectors, training=training)
    else:
        energies = potential(graph, vectors)
        pull = edge_pull(energies, vectors, training=training)
    i, j = graph.edge_index
    forces = scatter_sum(pull, i, graph.n_atoms) - scatter_sum(pull, j, graph.n_atoms)
    strain_gradient = _strain_gradient(vectors, pull, graph)
    volume = graph.volume
    volume = torch.where(volume > 0, volume, torch.inf)  # no cell: zero stress, and a finite gradient of it
    stress = (strain_gradient + strain_gradient.transpose(1, 2)) / (2 * volume[:, None, None])
    energy = scatter_sum(energies, graph.batch, graph.n_structures)
    prediction = Prediction(energy, energies, forces, stress, features if descriptors else None)
    return prediction if training else _detached(prediction)


def edge_pull(energies: Tensor, vectors: Tensor, *, training: bool = False) -> Tensor:
    """``dE / d vector`` of every edge, (edges, 3) in eV/Å, zero where the energy does not depend on any vector."""
    if vectors.shape[0] == 0:
        return torch.zeros_like(vectors)
    (pull,) = torch.autograd.grad(energies.sum(), vectors, create_graph=training)
    return pull


def _strain_gradient(vectors: Tensor, pull: Tensor, graph: Graph) -> Tensor:
    """Sums of ``vector (x) pull`` over the edges of each structure, (structures, 3, 3) in eV."""
    if graph.n_structures == 1:
        return (vectors.T @ pull)[None]  # the same sum as below, as one matrix product
    structure = graph.batch.index_select(0, graph.edge_index[0])
    return scatter_sum(vectors[:, :, None] * pull[:, None, :], structure, graph.n_structures)


def _detached(prediction: Prediction) -> Prediction:
    fields = {name: value.detach() for name, value in vars(prediction).items() if value is not None}
    return replace(prediction, **fields)


def hessian(
    potential: Potential, graph: Graph, *, chunk: int = 16, progress: Callable[[int, int], None] | None = None
) -> Tensor:
    """Matrix of second derivatives of the energy with respect to positions, by automatic differentiation.

    Each column is one product of the Hessian with a unit displacement; ``chunk`` of them are taken at once on as
    many copies of the structure.

    Args:
        potential: the potential, best in float64.
        graph: one structure.
        chunk: columns at once; memory grows with it.
        progress: called with (columns done, columns in all).

    Returns:
        (3 atoms, 3 atoms) in eV/Å^2, symmetrised; row and column 3 a + k belong to component k of atom a.

    Raises:
        ValueError: the graph holds more than one structure.
    """
    if graph.n_structures != 1:
        raise ValueError(f"the Hessian is taken of one structure at a time, got a batch of {graph.n_structures}")
    size = 3 * graph.n_atoms
    columns = torch.zeros(size, size, dtype=torch.float64, device=graph.positions.device)
    for start in range(0, size, chunk):
        wanted = range(start, min(start + chunk, size))
        directions = torch.zeros(len(wanted), graph.n_atoms, 3, dtype=torch.float64, device=columns.device)
        for row, coordinate in enumerate(wanted):
            directions[row, coordinate // 3, coordinate % 3] = 1.0
        batch = collate([graph] * len(wanted))
        products = hessian_vector_product(potential, batch, directions.view(-1, 3))
        columns[wanted.start : wanted.stop] = products.detach().view(len(wanted), size)
        if progress is not None:
            progress(wanted.stop, size)
    return 0.5 * (columns + columns.T)


def hessian_vector_product(potential: Potential, graph: Graph, directions: Tensor, *, training: bool = False) -> Tensor:
    """Second derivative of each structure's energy along a displacement of its atoms.

    Args:
        potential: the potential.
        graph: batch of structures.
        directions: (atoms, 3) displacements.
        training: keep the graph of the result.

    Returns:
        (atoms, 3), ``H @ directions`` in eV/Å times the unit of the directions.
    """
    products, _ = second_derivative(potential, graph, directions, training=training)
    return products


def second_derivative(
    potential: Potential, graph: Graph, directions: Tensor, strains: Tensor | None = None, *, training: bool = False
) -> tuple[Tensor, Tensor]:
    """Second derivative of each structure's energy along a displacement of its atoms and a strain of its cell.

    Args:
        potential: the potential.
        graph: batch of structures.
        directions: (atoms, 3) displacements u.
        strains: (structures, 3, 3) symmetric strains e, by which atoms and cell move together; none if not given.
        training: keep the graph of the result.

    Returns:
        (atoms, 3), minus the change of the forces along (u, e) in eV/Å, and (structures, 3, 3), the change of the
        energy's gradient with respect to a further strain in eV: of volume times stress where all axes are periodic.
    """
    vectors = graph.edge_vectors().detach().requires_grad_()
    if graph.n_edges == 0:
        return torch.zeros_like(directions), directions.new_zeros(graph.n_structures, 3, 3)
    i, j = graph.edge_index
    moved = directions[j] - directions[i]
    if strains is not None:
        turned = strains.index_select(0, graph.batch.index_select(0, i))
        moved = moved + (turned @ vectors.detach()[:, :, None]).squeeze(2)
    pull = edge_pull(potential(graph, vectors), vectors, training=True)
    (curvature,) = torch.autograd.grad((pull * moved).sum(), vectors, create_graph=training)
    products = scatter_sum(curvature, j, graph.n_atoms) - scatter_sum(curvature, i, graph.n_atoms)
    change = _strain_gradient(vectors, curvature, graph) + _strain_gradient(moved, pull, graph)
    return products, (change + change.transpose(1, 2)) / 2
