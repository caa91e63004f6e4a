"""Energies, forces and virial of the atoms of one process, exact derivatives of the energy of all processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forcefield.graph import Graph
from forcefield.lammps.exchange import GhostExchange, OrderedExchange
from forcefield.nn.scatter import scatter_sum
from forcefield.potential import Potential

FIRST = [0, 1, 2, 0, 0, 1]
SECOND = [0, 1, 2, 1, 2, 2]
"""Components in LAMMPS's order: xx, yy, zz, xy, xz, yz."""
SHORTEST_DISTANCE = 0.01
"""Å; atoms nearer than this are in one place by mistake."""


@dataclass(frozen=True)
class RankResult:
    """Results of the local atoms of one process.

    Attributes:
        energies: (n_local,) atomic energies (eV).
        forces: (n_local, 3) complete forces (eV/Å), the parts of other processes included.
        virials: (n_local, 6) share of each atom in the virial ``-sum_ij r_ij (x) dE/dr_ij`` (eV), xx yy zz xy xz yz;
            the share of a pair goes to its centre.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]


def evaluate_rank(potential: Potential, graph: Graph, ghosts: GhostExchange) -> RankResult:
    """Evaluate the atoms of one process; collective, every process calls it, also one without atoms.

    Args:
        potential: the potential.
        graph: local and ghost atoms of this process, on the potential's device.
        ghosts: exchange planned for these atoms.

    Raises:
        ValueError: two atoms are in one place, or an energy or a force is not finite.
    """
    _check_distances(graph)
    vectors = graph.edge_vectors().detach().requires_grad_()
    exchange = OrderedExchange(ghosts, vectors.device)
    with torch.autograd.set_multithreading_enabled(False):  # MPI is called in the backward pass, from this thread
        energies = potential(graph, vectors, exchange)
        outputs, inputs = [energies.sum(), exchange.token], [vectors, exchange.start]
        pull, _ = torch.autograd.grad(outputs, inputs)
    i, j = graph.edge_index
    vectors = vectors.detach()
    _check_finite(energies, pull)
    forces = ghosts.backward(scatter_sum(pull, i, graph.n_atoms) - scatter_sum(pull, j, graph.n_atoms))
    dyads = vectors[:, FIRST] * pull[:, SECOND] + vectors[:, SECOND] * pull[:, FIRST]
    virials = -0.5 * scatter_sum(dyads, i, graph.n_local)
    return RankResult(_array(energies), _array(forces), _array(virials))


def _array(values: Tensor) -> NDArray[np.float64]:
    return np.ascontiguousarray(values.detach().double().cpu().numpy())


def _check_distances(graph: Graph) -> None:
    """Here the process that has the two atoms says so; later what is not finite would have spread to the others."""
    lengths = graph.edge_lengths()
    if len(lengths) and float(lengths.min()) < SHORTEST_DISTANCE:
        raise ValueError(
            f"two atoms are {float(lengths.min()):.2g} Å apart; check the structure, or take a smaller time step"
        )


def _check_finite(energies: Tensor, pull: Tensor) -> None:
    if not (bool(torch.isfinite(energies).all()) and bool(torch.isfinite(pull).all())):
        raise ValueError("energies or forces are not finite; check the structure, or take a smaller time step")
