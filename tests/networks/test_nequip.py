"""NequIP: the physics contract for several of its forms, ghosts, saving, and what its options mean."""

from __future__ import annotations

import sys

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from forcefield.derivatives import evaluate
from forcefield.graph import Graph, graph_from_atoms
from forcefield.networks.nequip import NequIP
from forcefield.testing import check_network
from forcefield.testing.checks_network import potential_around, with_ghosts

ELEMENTS = (1, 6, 8, 11, 13, 17, 22)
SMALL = {"cutoff": 4.0, "channels": (6, 4, 3), "n_radial": 5, "radial_hidden": (8,)}
FORMS = {
    "paper": {},
    "Nequix": {
        "channels": (6, 4, 3, 2),
        "n_layers": 4,
        "species_channels": 5,
        "self_connection": "shared",
        "norm": "rms",
    },
    "one layer": {"n_layers": 1},
    "scalars only": {"channels": (6,)},
}


QUICK = [
    "batch equals singles",
    "empty graphs",
    "rotation",
    "reflection",
    "permutation",
    "single precision",
    "smooth: crystal",
    "forces: triclinic",
    "stress: triclinic",
    "training gradient",
]


def build(form: str) -> NequIP:
    """A small network in float64."""
    return NequIP(ELEMENTS, **{**SMALL, **FORMS[form]}).double()


def rattled_crystal() -> ase.Atoms:
    """Rock salt without symmetry."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.2, seed=3)
    return atoms


def test_physics_contract() -> None:
    failed = [result for result in check_network(build("paper")) if not result.passed]
    assert not failed, failed


@pytest.mark.parametrize("form", [form for form in FORMS if form != "paper"])
def test_the_other_forms_fulfil_the_quick_part_of_the_contract(form: str) -> None:
    failed = [result for result in check_network(build(form), only=QUICK) if not result.passed]
    assert not failed, failed


@pytest.mark.parametrize("form", FORMS)
def test_descriptors_are_invariant_and_belong_to_the_energies(form: str) -> None:
    network = build(form)
    atoms = rattled_crystal()
    turned = atoms.copy()
    turned.rotate(40.0, (1, 2, 3), rotate_cell=True)
    turned.positions *= -1
    turned.cell *= -1
    results = []
    for structure in (atoms, turned):
        graph = graph_from_atoms(structure, network.cutoff)
        results.append(network.features(graph, graph.edge_vectors()))
        torch.testing.assert_close(network(graph, graph.edge_vectors()), results[-1][1])
    assert results[0][0].shape == (8, 6)
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-11)


def ghosted_crystal(network: torch.nn.Module) -> tuple[Graph, Graph, Tensor]:
    """A periodic crystal, and the same with every image as a ghost atom, and the ghosts' owners."""
    graph = graph_from_atoms(rattled_crystal(), float(network.cutoff))
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    assert ghosted.n_atoms > 2 * graph.n_atoms
    return graph, ghosted, owners


@pytest.mark.parametrize("form", FORMS)
def test_ghosts_are_filled_once_between_any_two_layers(form: str) -> None:
    network = build(form)
    graph, ghosted, owners = ghosted_crystal(network)
    shapes = []

    def exchange(features: Tensor) -> Tensor:
        shapes.append(tuple(features.shape))
        return features.index_select(0, owners)

    descriptors, energies = network.features(ghosted, ghosted.edge_vectors(), exchange)
    expected = network.features(graph, graph.edge_vectors())
    torch.testing.assert_close((descriptors, energies), expected, rtol=1e-10, atol=1e-12)
    channels = {**SMALL, **FORMS[form]}["channels"]
    width = sum((2 * l + 1) * c for l, c in enumerate(channels))
    assert shapes == [(graph.n_atoms, width)] * (len(network.layers) - 1)


def test_exchange_is_called_without_edges_and_without_atoms() -> None:
    network = build("paper")
    for atoms in (ase.Atoms("Na", cell=[9, 9, 9], pbc=True), ase.Atoms()):
        calls = []
        graph = graph_from_atoms(atoms, network.cutoff)
        assert graph.n_edges == 0
        energies = network(graph, graph.edge_vectors(), lambda h, calls=calls: calls.append(h) or h)
        assert energies.shape == (len(atoms),)
        assert torch.isfinite(energies).all()
        assert len(calls) == 2


def test_loads_without_e3nn_and_gives_the_same_energies(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("Nequix")
    graph = graph_from_atoms(rattled_crystal(), network.cutoff)
    expected = network(graph, graph.edge_vectors())
    monkeypatch.setitem(sys.modules, "e3nn", None)  # any import of it fails from here on
    with torch.device("meta"):
        loaded = NequIP(ELEMENTS, **{**SMALL, **FORMS["Nequix"]})
    loaded.load_state_dict(network.state_dict(), assign=True)
    loaded.species = network.species  # a table of integers, made by whoever loads the model
    assert torch.equal(loaded.double()(graph, graph.edge_vectors()), expected)


def test_far_atoms_are_seen_through_the_layers_only() -> None:
    atoms = ase.Atoms("NaClOH", positions=[[0, 0, 0], [3.0, 0, 0], [6.0, 0.3, 0], [9.0, 0, 0.4]])
    moved = atoms.copy()
    moved.positions[2, 1] += 0.5
    changes = {}
    for n_layers in (1, 2):
        network = NequIP(ELEMENTS, **{**SMALL, "n_layers": n_layers}).double()
        graphs = [graph_from_atoms(a, network.cutoff) for a in (atoms, moved)]
        before, after = (network(graph, graph.edge_vectors()) for graph in graphs)
        changes[n_layers] = (after - before).abs().tolist()
    assert changes[1][0] == 0.0
    assert changes[2][0] > 1e-8


def test_each_element_has_its_own_self_connection_only_if_asked_for() -> None:
    own = sum(p.numel() for p in build("paper").parameters())
    shared = sum(p.numel() for p in NequIP(ELEMENTS, **SMALL, self_connection="shared").parameters())
    into_hidden, into_last = 6 * 13 + 4 * 4 + 3 * 3, 6 * 6
    assert own - shared == (len(ELEMENTS) - 1) * (into_hidden + into_last)


def test_untrained_forces_are_moderate() -> None:
    potential = potential_around(NequIP(ELEMENTS)).with_dtype(torch.float64)
    forces = evaluate(potential, graph_from_atoms(rattled_crystal(), potential.cutoff)).forces
    assert 1e-3 < forces.abs().max().item() < 10.0


def test_a_few_steps_of_training_on_forces_lower_the_loss() -> None:
    network = NequIP(ELEMENTS, **SMALL).float()
    potential = potential_around(network)
    graph = graph_from_atoms(molecule("CH3OH"), network.cutoff)
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))
    target -= target.mean(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (evaluate(potential, graph, training=True).forces - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (8, 0)}, "channels"),
        ({"n_layers": 0}, "n_layers"),
        ({"self_connection": "none"}, "'species' or 'shared'"),
        ({"norm": "layer"}, "None or 'rms'"),
    ],
)
def test_unknown_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NequIP(ELEMENTS, **options)
