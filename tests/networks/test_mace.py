"""MACE: the physics contract for several of its forms, body order, ghosts and saving."""

from __future__ import annotations

import math
import sys

import ase
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from forcefield.graph import graph_from_atoms
from forcefield.networks.mace import MACE
from forcefield.testing import check_network
from forcefield.testing.checks_network import with_ghosts

ELEMENTS = (1, 6, 8, 11, 13, 17, 22)
SMALL = {
    "cutoff": 4.0,
    "channels": 5,
    "n_radial": 5,
    "radial_hidden": (8,),
    "readout_hidden": 6,
    "mean_neighbours": 10.0,
}
FORMS = {
    "paper": {},
    "tensors": {"hidden_lmax": 2, "n_layers": 3, "correlation": 2},
    "one layer": {"n_layers": 1, "correlation": 4, "lmax": 1},
    "scalars sent": {"hidden_lmax": 0, "lmax": 3},
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


def build(form: str) -> MACE:
    """A small network in float64."""
    return MACE(ELEMENTS, **{**SMALL, **FORMS[form]}).double()


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
    assert results[0][0].shape == (8, 5 * len(network.layers))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_ghosts_are_filled_once_between_any_two_layers(form: str) -> None:
    network = build(form)
    graph = graph_from_atoms(rattled_crystal(), network.cutoff)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    shapes = []

    def exchange(features: Tensor) -> Tensor:
        shapes.append(tuple(features.shape))
        return features.index_select(0, owners)

    found = network.features(ghosted, ghosted.edge_vectors(), exchange)
    torch.testing.assert_close(found, network.features(graph, graph.edge_vectors()), rtol=1e-10, atol=1e-12)
    width = 5 * (1 + FORMS[form].get("hidden_lmax", 1)) ** 2
    assert shapes == [(graph.n_atoms, width)] * (len(network.layers) - 1)


def test_exchange_is_called_without_edges_and_without_atoms() -> None:
    network = build("tensors")
    for atoms in (ase.Atoms("Na", cell=[9, 9, 9], pbc=True), ase.Atoms()):
        calls = []
        graph = graph_from_atoms(atoms, network.cutoff)
        assert graph.n_edges == 0
        energies = network(graph, graph.edge_vectors(), lambda h, calls=calls: calls.append(h) or h)
        assert energies.shape == (len(atoms),)
        assert torch.isfinite(energies).all()
        assert len(calls) == 2


@pytest.mark.parametrize("correlation", [1, 2, 3])
def test_features_of_one_layer_are_polynomials_of_the_density_of_that_order(correlation: int) -> None:
    network = MACE(ELEMENTS, **{**SMALL, "n_layers": 1, "correlation": correlation}).double()
    graph = graph_from_atoms(rattled_crystal(), network.cutoff)
    values = []
    for scale in range(correlation + 2):
        network.geometry.scale = float(scale)  # the density is proportional to it
        values.append(network.features(graph, graph.edge_vectors())[0].detach())

    def difference(order: int) -> float:
        terms = [(-1) ** (order - k) * math.comb(order, k) * values[k] for k in range(order + 1)]
        return torch.stack(terms).sum(0).abs().max().item()

    largest = max(value.abs().max().item() for value in values)
    assert difference(correlation) > 1e-6 * largest
    assert difference(correlation + 1) < 1e-10 * largest


def test_loads_without_e3nn_and_gives_the_same_energies(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("paper")
    graph = graph_from_atoms(rattled_crystal(), network.cutoff)
    expected = network(graph, graph.edge_vectors())
    monkeypatch.setitem(sys.modules, "e3nn", None)  # any import of it fails from here on
    with torch.device("meta"):
        loaded = MACE(ELEMENTS, **SMALL)
    loaded.load_state_dict(network.state_dict(), assign=True)
    loaded.species = network.species  # a table of integers, made by whoever loads the model
    assert torch.equal(loaded.double()(graph, graph.edge_vectors()), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden_lmax": 3}, "hidden_lmax"), ({"correlation": 0}, "correlation"), ({"n_layers": 0}, "n_layers")],
)
def test_sizes_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MACE(ELEMENTS, **options)
