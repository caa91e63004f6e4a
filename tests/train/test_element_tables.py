"""Training of single elements' parameters, the shared ones kept or slowed down."""

from __future__ import annotations

import pytest
import torch

from forcefield.networks import NETWORKS, build_network
from forcefield.potential import Potential
from forcefield.train.element_tables import element_tables, freeze_shared, train_rows_of
from forcefield.train.optimizer import Optimizers

ELEMENTS = (6, 29, 42)


def potential(name: str = "density") -> Potential:
    torch.manual_seed(0)
    references = dict.fromkeys(ELEMENTS, -1.0)
    return Potential(build_network(name, ELEMENTS), isolated_energies=references, bound_energies=references)


def one_step(model: Potential, **options: float) -> dict[str, torch.Tensor]:
    """How far each parameter moves with a gradient of ones, by name."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = Optimizers(model, "adam", 1e-2, **options)
    optimizers.set_learning_rate(1e-2)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()  # type: ignore[union-attr]
    optimizers.step()
    return {name: (p.detach() - before[name]).abs() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_tables_have_a_row_for_each_element(name: str) -> None:
    model = potential(name)
    tables = element_tables(model)
    assert tables
    assert all(model.get_parameter(table).shape[0] == len(ELEMENTS) for table in tables)


def test_only_rows_of_the_chosen_elements_move() -> None:
    model = potential()
    freeze_shared(model)
    train_rows_of(model, ["Mo"])
    tables = element_tables(model)
    for name, moved in one_step(model).items():
        if name in tables:
            torch.testing.assert_close(moved[2], torch.full_like(moved[2], 1e-2), rtol=1e-4, atol=0)
            assert not moved[:2].any()
        else:
            assert not moved.any()


def test_shared_parameters_learn_at_their_share_of_the_rate() -> None:
    model = potential()
    tables = element_tables(model)
    for name, moved in one_step(model, shared_rate=0.1).items():
        expected = 1e-2 if name in tables else 1e-3
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=0)


def test_an_element_outside_the_model_is_named() -> None:
    with pytest.raises(ValueError, match="does not know W"):
        train_rows_of(potential(), ["Cu", "W"])
