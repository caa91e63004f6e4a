"""The loss against numbers computed by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from forcefield.data.batches import Labels
from forcefield.derivatives import Prediction, evaluate
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.models import load_model
from forcefield.train.loss import Term, differences, penalty, total_loss

NAN = float("nan")


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.fixture
def graph() -> Graph:
    """One atom, then two."""
    return collate([graph_from_atoms(atoms, 3.0) for atoms in (Atoms("H"), Atoms("H2", [[0, 0, 0], [0, 0, 1]]))])


def nothing_known(graph: Graph) -> Labels:
    n, s = graph.n_atoms, graph.n_structures
    shapes = {"energy": (s,), "forces": (n, 3), "stress": (s, 3, 3), "atomic_energies": (n,)}
    labels = {name: torch.full(shape, NAN, dtype=torch.float64) for name, shape in shapes.items()}
    return Labels(**labels, kind=torch.zeros(s, dtype=torch.int64))


def test_differences_are_per_atom_and_in_voigt_order(graph):
    stress = torch.arange(18.0, dtype=torch.float64).view(2, 3, 3)
    forces, energies = torch.ones(3, 3, dtype=torch.float64), tensor(1.0, 2.0, 4.0)
    prediction = Prediction(tensor(1.0, 6.0), energies, forces, stress)
    labels = Labels(tensor(3.0, 3.0), 0.5 * forces, torch.zeros_like(stress), tensor(0.0, NAN, 5.0), torch.zeros(2))
    found = differences(graph, prediction, labels)
    assert found.keys() == {"energy", "forces", "stress", "atomic_energies"}
    assert found["energy"].tolist() == [-2.0, 1.5]
    assert torch.equal(found["forces"], 0.5 * forces)
    assert found["stress"][0].tolist() == [0.0, 4.0, 8.0, 5.0, 2.0, 1.0]
    assert found["atomic_energies"][[0, 2]].tolist() == [1.0, -1.0] and found["atomic_energies"][1].isnan()


def huber(error: torch.Tensor, threshold: float) -> float:
    return float(total_loss({"x": error}, {"x": Term(1.0, "huber", threshold)}))


def test_huber_is_quadratic_then_linear_and_skips_what_is_missing():
    small, large = 0.01**2 / 0.04, 0.5 - 0.01
    assert huber(tensor(0.01), 0.02) == pytest.approx(small)
    assert huber(tensor(-0.5), 0.02) == pytest.approx(large)
    assert huber(tensor(0.01, NAN, -0.5, NAN), 0.02) == pytest.approx((small + large) / 2)
    assert huber(tensor(0.02), 0.02) == pytest.approx(0.01)  # both branches meet
    assert huber(tensor(NAN, NAN), 0.02) == 0.0
    assert huber(torch.zeros(0), 0.02) == 0.0


def test_absolute_and_squared_errors():
    assert penalty(tensor(-2.0, 0.5), "mae", 0.1).tolist() == [2.0, 0.5]
    assert penalty(tensor(-2.0, 0.5), "mse", 0.1).tolist() == [4.0, 0.25]


TERMS = {
    "energy": Term(2.0, "huber", 0.02),
    "forces": Term(3.0, "huber", 0.1),
    "stress": Term(100.0, "huber", 0.005),
    "atomic_energies": Term(1.0, "huber", 0.05),
}


def test_total_loss_is_the_weighted_sum():
    errors = {"energy": tensor(0.5, -0.01), "forces": tensor(1.0, NAN), "stress": tensor(0.001)}
    errors["atomic_energies"] = tensor(3.0)
    terms = TERMS | {"atomic_energies": Term(0.0)}
    expected = 2.0 * (0.49 + 0.0025) / 2 + 3.0 * 0.95 + 100.0 * (0.001**2 / 0.01)
    assert float(total_loss(errors, terms)) == pytest.approx(expected)


def test_parts_of_a_batch_add_up_to_the_loss_of_the_whole():
    whole = {"energy": tensor(0.5, -0.01, 0.3), "forces": tensor(1.0, NAN, 0.2, 0.4)}
    parts = [
        {"energy": tensor(0.5), "forces": tensor(1.0, NAN, 0.2)},
        {"energy": tensor(-0.01, 0.3), "forces": tensor(0.4)},
    ]
    counts = {"energy": 3, "forces": 3}
    found = sum(float(total_loss(part, TERMS, counts)) for part in parts)
    assert found == pytest.approx(float(total_loss(whole, TERMS)))
    assert float(total_loss({}, TERMS, counts)) == 0.0


def gradients(network: torch.nn.Module, graph: Graph, labels: Labels, potential) -> tuple[float, list[torch.Tensor]]:
    errors = differences(graph, evaluate(potential, graph, training=True), labels)
    loss = total_loss(errors, TERMS)
    return float(loss.detach()), list(torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True))


def test_missing_labels_change_neither_loss_nor_gradients(tiny_model):
    """A molecule and a slab without labels, and without a volume, beside a crystal with all of them."""
    potential = load_model(tiny_model, dtype=torch.float64).potential.requires_grad_(True)
    crystal = bulk("NaCl", "rocksalt", a=5.0)
    crystal.rattle(0.1, seed=0)
    sheet = Atoms("Cu", cell=[2.6, 2.6, 0], pbc=(True, True, False))
    alone = graph_from_atoms(crystal, 4.0)
    prediction = evaluate(potential, alone)
    wanted = {name: getattr(prediction, name) + 0.3 for name in ("energy", "forces", "stress")}
    labels = dataclasses.replace(nothing_known(alone), **wanted, atomic_energies=prediction.energies - 0.1)
    expected_loss, expected = gradients(potential.network, alone, labels, potential)
    together = collate([alone] + [graph_from_atoms(atoms, 4.0) for atoms in (molecule("H2O"), sheet)])
    more = nothing_known(together)
    for name in ("energy", "forces", "stress", "atomic_energies"):
        getattr(more, name)[: len(getattr(labels, name))] = getattr(labels, name)
    loss, found = gradients(potential.network, together, more, potential)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert any(bool(one.any()) for one in expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


def test_batch_without_any_label_has_no_loss(tiny_model, graph):
    potential = load_model(tiny_model, dtype=torch.float64).potential.requires_grad_(True)
    loss, found = gradients(potential.network, graph, nothing_known(graph), potential)
    assert loss == 0.0 and not any(bool(one.any()) for one in found)
