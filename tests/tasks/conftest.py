"""Small labelled structures and models with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from forcefield.tasks.bodies import build_body, feature_width
from forcefield.tasks.model import PropertyModel
from forcefield.tasks.task import Task

SMALL: dict[str, dict[str, Any]] = {
    "schnet": {"cutoff": 4.0, "channels": 8, "n_layers": 1},
    "painn": {"cutoff": 4.0, "channels": 8, "n_layers": 2},
    "crystal_cgcnn": {"cutoff": 4.5, "channels": 8, "n_layers": 2, "n_radial": 8},
    "crystal_megnet": {"cutoff": 4.0, "channels": 8, "state_channels": 6, "n_layers": 2, "n_radial": 8},
}
"""Bodies and their hyper-parameters."""


def crystal(seed: int) -> Atoms:
    """Four copper and aluminium atoms, strained and rattled."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[: seed % 4] = "Al"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.05, size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.15, size=(4, 3))
    return atoms


def random_model(network: str, max_neighbours: int | None = None, **task: Any) -> PropertyModel:
    """A model of copper and aluminium in float64 with random weights and reference values."""
    body = build_body(network, [13, 29], **SMALL[network])
    made = Task(**{"key": "label", "hidden": 8, **task})
    model = PropertyModel(body, made, feature_width(body), max_neighbours=max_neighbours)
    model.reference[13], model.reference[29] = -1.0, 2.0
    model.scale.fill_(0.7)
    return model.with_dtype(torch.float64).eval()


@pytest.fixture(name="crystal")
def crystal_fixture() -> Callable[[int], Atoms]:
    """Makes a crystal from a seed."""
    return crystal


@pytest.fixture(name="random_model")
def random_model_fixture() -> Callable[..., PropertyModel]:
    """Makes a model of a body in `SMALL`."""
    return random_model


@pytest.fixture(params=list(SMALL))
def network(request: pytest.FixtureRequest) -> str:
    """Each of the bodies."""
    return request.param


@pytest.fixture
def labelled_file(tmp_path: Path) -> Path:
    """Ten structures with a label of the structure and, but for some, of the atoms."""
    structures = []
    for k in range(10):
        atoms = crystal(k)
        atoms.info.update(gap=0.3 * k - 1 + 0.1 * (k % 3), material=f"m{k // 2}")
        values = 0.5 * (atoms.numbers == 13) + 0.02 * k
        if k == 3:
            values[1:] = np.nan
        atoms.new_array("spin", values)
        structures.append(atoms)
    write(tmp_path / "data.extxyz", structures)
    return tmp_path / "data.extxyz"
