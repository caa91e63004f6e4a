"""Small forms of every network, on which the tests of this folder run.

A test with the argument ``name`` runs for every registered network, one with ``form`` also for the other forms.
"""

from __future__ import annotations

from typing import Any

import ase
import pytest
import torch
from ase.build import bulk
from torch import nn

from forcefield.networks import NETWORKS
from forcefield.testing import check_network

ELEMENTS = (1, 6, 8, 11, 13, 17, 22)
SMALL: dict[str, dict[str, Any]] = {
    "allegro": {"channels": 6, "tensor_channels": 3, "n_radial": 4, "hidden": 8},
    "cgcnn": {"channels": 6, "n_radial": 8, "hidden": 8},
    "density": {
        "channels": 6,
        "n_radial": 4,
        "species_channels": 4,
        "message_scalars": 4,
        "message_vectors": 3,
        "hidden": 8,
    },
    "dimenet": {"channels": 6, "angular_channels": 4, "n_radial": 4, "n_layers": 2},
    "gcn": {"channels": 6},
    "m3gnet": {"channels": 6, "n_radial": 3, "n_layers": 2, "lmax": 2},
    "mace": {"channels": 5, "n_radial": 5, "radial_hidden": (8,), "readout_hidden": 6, "mean_neighbours": 10.0},
    "megnet": {"channels": 6, "state_channels": 4, "n_radial": 8, "n_layers": 2},
    "mpnn": {"channels": 6, "edge_channels": 5, "n_radial": 5, "n_layers": 2},
    "nequip": {"channels": (6, 4, 3), "n_radial": 5, "radial_hidden": (8,)},
    "painn": {"channels": 6, "n_radial": 4, "n_layers": 2},
    "schnet": {"channels": 6, "n_radial": 8, "n_layers": 2},
    "tensornet": {"channels": 4, "n_radial": 4},
    "transformer": {"channels": 4, "n_heads": 2, "n_radial": 4, "radial_hidden": 6},
}
"""Hyperparameters, beside a cutoff of 4 Å, that keep every part of an architecture and make it quick."""
FORMS: dict[str, dict[str, Any]] = {
    "density: one layer": {"n_layers": 1},
    "nequip: Nequix": {
        "channels": (6, 4, 3, 2),
        "n_layers": 4,
        "species_channels": 5,
        "self_connection": "shared",
        "norm": "rms",
    },
    "nequip: one layer": {"n_layers": 1},
    "nequip: scalars only": {"channels": (6,)},
    "mace: tensors": {"hidden_lmax": 2, "n_layers": 3, "correlation": 2},
    "mace: one layer": {"n_layers": 1, "correlation": 4, "lmax": 1},
    "mace: scalars sent": {"hidden_lmax": 0, "lmax": 3},
    "gcn: plain": {"residual": False, "n_layers": 2},
    "mpnn: mean": {"aggregation": "mean", "update": "residual"},
    "mpnn: max": {"aggregation": "max", "message": "edge_network", "update_edges": False},
    "allegro: three layers": {"n_layers": 3, "lmax": 1},
    "allegro: one layer": {"n_layers": 1},
    "transformer: one layer": {"lmax": 3, "n_layers": 1},
}
"""Other forms: what they change in the small network."""
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
"""The part of the contract that other forms go through."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with ``name`` for every network, those with ``form`` for every form."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", sorted(NETWORKS), scope="session")
    if "form" in metafunc.fixturenames:
        metafunc.parametrize("form", [*sorted(NETWORKS), *FORMS])


class Small:
    """Networks by the name of their form, as `SMALL` and `FORMS` describe them.

    Args:
        form: "nequip", or "nequip: one layer".
        changes: further hyperparameters.
    """

    def __init__(self, form: str, **changes: Any) -> None:
        self.form, self.name = form, form.partition(":")[0]
        self.hyperparameters = {"cutoff": 4.0, **SMALL[self.name], **FORMS.get(form, {}), **changes}

    def make(self) -> nn.Module:
        """A new network."""
        return NETWORKS[self.name](ELEMENTS, **self.hyperparameters)

    def failures(self, only: list[str] | None = None) -> list[str]:
        """What the checks of the contract say that are not passed, or skipped."""
        results = check_network(self.make, hyperparameters=self.hyperparameters, only=only)
        return [f"{result.name}: {result.message}" for result in results if not result.passed or result.skipped]


@pytest.fixture
def small() -> type[Small]:
    """`Small`: ``small("mace").make()``."""
    return Small


@pytest.fixture
def quick() -> list[str]:
    """Names of the quick checks of the contract."""
    return QUICK


@pytest.fixture
def network(form: str) -> nn.Module:
    """The small network of a form in float64."""
    return Small(form).make().double()


@pytest.fixture
def rattled_crystal() -> ase.Atoms:
    """Rock salt without symmetry."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.2, seed=3)
    return atoms


@pytest.fixture
def meta_loaded() -> Any:
    """Function (form, network) -> the network built anew without weights or constants, and filled from the other."""

    def load(form: str, network: nn.Module) -> nn.Module:
        with torch.device("meta"):
            loaded = Small(form).make()
        loaded.load_state_dict(network.state_dict(), assign=True)
        loaded.species = network.species  # a table of integers, made by whoever loads the model
        return loaded.double()

    return load
