"""The contract of a network: the calculator's checks on a potential built around it, and what only a network has.

The network's output is scaled and shifted by a `Potential` with made-up reference energies, in float64.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor, nn

from forcefield.derivatives import edge_pull, evaluate
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.models import load_model, save_model
from forcefield.networks import NETWORKS
from forcefield.potential import Potential
from forcefield.testing.checks_calculator import CALCULATOR_CHECKS, accepted_structures
from forcefield.testing.derivatives import STENCIL
from forcefield.testing.results import (
    LIMITS,
    CheckResult,
    Deviation,
    Limits,
    Observation,
    Subject,
    deviations,
    judge,
    largest,
    run_checks,
    selected,
    skip,
)
from forcefield.testing.state import changed_settings, global_state


class PotentialCalculator(Calculator):
    """A potential behind ASE's interface, without Verlet list or checks of its own.

    Args:
        potential: any potential.
    """

    implemented_properties = ["energy", "energies", "forces", "stress"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``; energies in eV, forces in eV/Å, stress in eV/Å^3 where all axes are periodic."""
        super().calculate(atoms, properties, system_changes)
        assert isinstance(self.atoms, Atoms)
        prediction = evaluate(self.potential, graph_from_atoms(self.atoms, self.potential.cutoff))
        self.results = {
            "energy": float(prediction.energy[0]),
            "energies": prediction.energies.numpy(),
            "forces": prediction.forces.numpy(),
        }
        if np.all(self.atoms.pbc):
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].numpy())


@dataclass(frozen=True)
class NetworkSubject(Subject):
    """A network in a potential, in a calculator."""

    potential: Potential | None = None
    hyperparameters: Mapping[str, Any] | None = None
    construction: tuple[str, ...] | None = None

    def graph(self, atoms: Atoms) -> Graph:
        """Graph with the potential's cutoff."""
        return graph_from_atoms(atoms, self.built.cutoff)

    @property
    def built(self) -> Potential:
        """The potential."""
        assert self.potential is not None
        return self.potential


def observe_batch(potential: Potential, structures: Sequence[Atoms]) -> list[Observation]:
    """Energy, forces and stress of several structures evaluated together."""
    batch = evaluate(potential, collate([graph_from_atoms(atoms, potential.cutoff) for atoms in structures]))
    forces = np.split(batch.forces.numpy(), np.cumsum([len(atoms) for atoms in structures])[:-1])
    return [
        Observation(float(energy), force, stress if np.all(atoms.pbc) else None)
        for atoms, energy, force, stress in zip(structures, batch.energy, forces, batch.stress.numpy(), strict=True)
    ]


def construction(subject: NetworkSubject) -> CheckResult:
    """Making the network changes no setting of the process; random numbers are drawn for its weights."""
    if subject.construction is None:
        return skip("construction", "the network was given ready-made")
    changed = subject.construction
    message = f"changed: {', '.join(changed)}" if changed else "no setting of the process changed"
    return CheckResult("construction", not changed, float(len(changed)), 0.0, message)


def batch_equals_singles(subject: NetworkSubject) -> CheckResult:
    """A batch of all test structures gives what each gives alone."""
    structures = [atoms for _, atoms in subject.structures.named()]
    differences: list[Deviation] = []
    for atoms, found in zip(structures, observe_batch(subject.built, structures), strict=True):
        differences += deviations(subject.limits, subject.observe(atoms), found, len(atoms))
    return judge("batch equals singles", differences, f"{len(structures)} structures")


def empty_graphs(subject: NetworkSubject) -> CheckResult:
    """No atoms and no edges are legal: right shapes, zero energy, also as members of a batch."""
    nothing = subject.graph(Atoms())
    alone = evaluate(subject.built, nothing)
    batch = evaluate(subject.built, collate([nothing, subject.graph(subject.structures.molecule), nothing]))
    shapes = [tuple(alone.energy.shape), tuple(alone.energies.shape), tuple(alone.forces.shape)]
    shapes.append(tuple(batch.energy.shape))
    expected = [(1,), (0,), (0, 3), (3,)]
    if shapes != expected:
        return CheckResult("empty graphs", False, np.nan, 0.0, f"shapes {shapes}, expected {expected}")
    single = subject.observe(subject.structures.molecule).energy
    found = [float(alone.energy[0]), float(batch.energy[0]), float(batch.energy[1]) - single, float(batch.energy[2])]
    return judge("empty graphs", [Deviation("energy", largest(found), subject.limits.energy, "eV")])


def responds(subject: NetworkSubject) -> CheckResult:
    """The network's own energy changes with geometry, otherwise every other check would pass for nothing."""
    graph = subject.graph(subject.structures.triclinic)
    vectors = graph.edge_vectors().detach().requires_grad_()
    dtype = subject.built.dtype
    pull = largest(edge_pull(subject.built.network(graph, vectors.to(dtype)), vectors).numpy())
    message = f"largest gradient of an edge {pull:.2g} per Å (at least 1e-08 expected)"
    return CheckResult("responds to geometry", pull >= 1e-8, pull, 1e-8, message)


def ghosts_equal_whole(subject: NetworkSubject) -> CheckResult:
    """Periodic images as explicit ghost atoms, filled by the exchange: same atomic energies and edge gradients."""
    graph = subject.graph(subject.structures.triclinic)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    expected: list[np.ndarray] = []
    found: list[np.ndarray] = []
    for target, store, exchange in ((graph, expected, None), (ghosted, found, lambda h: h.index_select(0, owners))):
        vectors = target.edge_vectors().detach().requires_grad_()
        energies = subject.built(target, vectors, exchange)
        store += [energies.detach().numpy(), edge_pull(energies, vectors).numpy()]
    return judge(
        "ghosts",
        [
            Deviation("atomic energies", largest(found[0] - expected[0]), subject.limits.energy, "eV"),
            Deviation("edge gradients", largest(found[1] - expected[1]), subject.limits.force, "eV/Å"),
        ],
        f"{ghosted.n_atoms - ghosted.n_local} ghosts",
    )


def domain_equals_whole(subject: NetworkSubject) -> CheckResult:
    """A third of the crystal as centres, all others as ghosts that get the whole crystal's features."""
    graph = subject.graph(subject.structures.triclinic)
    messages: list[Tensor] = []

    def record(features: Tensor) -> Tensor:
        messages.append(features)
        return features

    with torch.no_grad():
        expected = subject.built(graph, graph.edge_vectors())
        subject.built(graph, graph.edge_vectors(), record)
        domain, owners, _ = with_ghosts(graph, graph.n_atoms // 3)
        ghosts = owners[domain.n_local :]
        remaining = iter(messages)
        found = subject.built(
            domain,
            domain.edge_vectors(),
            lambda features: torch.cat([features, next(remaining).index_select(0, ghosts)]),
        )
    difference = largest((found - expected[: domain.n_local]).numpy())
    deviation = Deviation("atomic energies", difference, subject.limits.energy, "eV")
    return judge("domain", [deviation], f"{domain.n_local} of {graph.n_atoms} atoms, {len(messages)} exchanges")


def with_ghosts(graph: Graph, n_centres: int) -> tuple[Graph, Tensor, Tensor]:
    """The first atoms of one structure as centres, and every image or other atom that they see as a ghost.

    Args:
        graph: one structure.
        n_centres: how many leading atoms are centres.

    Returns:
        The graph with ghosts and without shifts; (atoms,) the atom of ``graph`` that each stands for; (edges,) the
        edges of ``graph`` that were kept.
    """
    kept = torch.nonzero(graph.edge_index[0] < n_centres)[:, 0]
    (i, j), shift = graph.edge_index[:, kept], graph.edge_shift[kept]
    local = (j < n_centres) & (shift == 0).all(dim=1)
    keys = torch.cat([j[:, None], shift.long()], dim=1)[~local]
    images, ghost = torch.unique(keys, dim=0, return_inverse=True)
    neighbour = j.clone()
    neighbour[~local] = n_centres + ghost
    owners = torch.cat([torch.arange(n_centres), images[:, 0]])
    translation = torch.cat([torch.zeros(n_centres, 3), images[:, 1:]]).to(graph.cell.dtype) @ graph.cell[0]
    ghosted = replace(
        graph,
        numbers=graph.numbers[owners],
        positions=graph.positions[owners] + translation,
        edge_index=torch.stack([i, neighbour]),
        edge_shift=torch.zeros_like(shift),
        batch=torch.zeros(len(owners), dtype=torch.int64),
        n_local=n_centres,
    )
    return ghosted, owners, kept


def trainable(subject: NetworkSubject) -> CheckResult:
    """The gradient of a loss on forces and stress with respect to the weights equals a finite difference."""
    potential = copy.deepcopy(subject.built)
    parameters = [p for p in potential.network.parameters() if p.requires_grad]
    if not parameters:
        return skip("training gradient", "the network has no parameters")
    graph = collate([subject.graph(subject.structures.left_handed), subject.graph(subject.structures.one_atom_cell)])
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in parameters]

    def loss() -> Tensor:
        prediction = evaluate(potential, graph, training=True)
        return prediction.forces.square().mean() + 100 * prediction.stress.square().mean() + prediction.energies.mean()

    def moved(distance: float) -> float:
        with torch.no_grad():
            for parameter, start, direction in zip(parameters, origin, directions, strict=True):
                parameter.copy_(start + distance * direction)
        return float(loss().detach())

    origin = [p.detach().clone() for p in parameters]
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    step = 1e-4
    difference = sum(weight * moved(point * step) for point, weight in STENCIL) / step
    relative = abs(difference - slope) / max(abs(difference), 1e-6)
    return judge("training gradient", [Deviation("relative difference", relative, 1e-5, "")], f"slope {slope:.3g}")


def saved_and_loaded(subject: NetworkSubject) -> CheckResult:
    """A potential written as a model folder and read back gives bit for bit the same."""
    network = subject.built.network
    names = [name for name, kind in NETWORKS.items() if type(network) is kind]
    if not names or subject.hyperparameters is None:
        return skip("save and load", "not an entry of forcefield.networks.NETWORKS, or no hyperparameters were given")
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, subject.built, network=names[0], hyperparameters=subject.hyperparameters)
        loaded = load_model(folder, dtype=torch.float64).potential
    differences: list[Deviation] = []
    for atoms in (subject.structures.triclinic, subject.structures.molecule):
        expected, found = subject.observe(atoms), subject.observe(atoms, PotentialCalculator(loaded))
        differences.append(Deviation("energy", abs(found.energy - expected.energy), 0.0, "eV"))
        differences.append(Deviation("forces", largest(found.forces - expected.forces), 0.0, "eV/Å"))
    return judge("save and load", differences)


def single_precision(subject: NetworkSubject) -> CheckResult:
    """The network in float32 agrees with float64 to the limits of single precision."""
    single = PotentialCalculator(copy.deepcopy(subject.built).with_dtype(torch.float32))
    limits = LIMITS["float32"]
    differences: list[Deviation] = []
    for atoms in (subject.structures.triclinic, subject.structures.molecule):
        differences += deviations(limits, subject.observe(atoms), subject.observe(atoms, single), len(atoms))
    return judge("single precision", differences)


NETWORK_CHECKS: Mapping[str, Callable[[Any], CheckResult]] = {
    "construction": construction,
    "responds to geometry": responds,
    "batch equals singles": batch_equals_singles,
    "empty graphs": empty_graphs,
    "ghosts": ghosts_equal_whole,
    "domain": domain_equals_whole,
    "training gradient": trainable,
    "single precision": single_precision,
    "save and load": saved_and_loaded,
    **CALCULATOR_CHECKS,
}
"""Name of each check and what runs it."""


def check_network(
    network: nn.Module | Callable[[], nn.Module],
    *,
    hyperparameters: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Put a network through the physics contract, in float64.

    Args:
        network: ``network(graph, vectors, exchange) -> (n_local,)`` with attributes ``cutoff`` (Å) and ``elements``;
            a function that makes one; or a `Potential`, which is taken as it is. The given object is copied.
        hyperparameters: keywords that the network was built with, to save and load it.
        limits: other limits than those of double precision.
        only: names of the checks wanted, see `NETWORK_CHECKS`.
        progress: called with each result as it comes.

    Returns:
        One result for each check, in the order of `NETWORK_CHECKS`.

    Raises:
        ValueError: a name in ``only`` is unknown, or no test structure could be computed.
    """
    only = selected(only, list(NETWORK_CHECKS))
    changed = None
    if isinstance(network, nn.Module):
        made = copy.deepcopy(network)
    else:
        made = network()  # what is imported on the way is not the network's doing
        before = global_state()
        made = network()
        changed = tuple(name for name in changed_settings(before, global_state()) if name != "torch random state")
    potential = made if isinstance(made, Potential) else potential_around(made)
    calculator = PotentialCalculator(potential.with_dtype(torch.float64))
    structures = accepted_structures(calculator, potential.elements)
    subject = NetworkSubject(
        calculator,
        structures,
        limits or LIMITS["float64"],
        many=lambda batch: observe_batch(potential, batch),
        potential=potential,
        hyperparameters=hyperparameters,
        construction=changed,
    )
    return run_checks(NETWORK_CHECKS, subject, only, progress)


def potential_around(network: nn.Module) -> Potential:
    """A potential with made-up reference energies, different for each element."""
    elements = [int(z) for z in network.elements]  # type: ignore[union-attr]
    return Potential(
        network,
        isolated_energies={z: -0.3 - 0.01 * z for z in elements},
        bound_energies={z: -3.0 - 0.02 * z for z in elements},
    )
