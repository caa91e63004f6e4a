"""A small training task: copper-aluminium crystals with labels from ASE's effective medium theory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from forcefield.data.frames import frame_from_atoms
from forcefield.data.store import write_store
from forcefield.train.config import TrainConfig

HYPERPARAMETERS = {
    **{"cutoff": 4.0, "channels": 8, "n_radial": 4, "lmax": 1, "species_channels": 4, "message_scalars": 4},
    **{"message_vectors": 4, "hidden": 8},
}


def crystal(seed: int) -> Atoms:
    """Four atoms, strained and rattled, with energy, forces, stress and atomic energies."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[rng.permutation(4)[: rng.integers(0, 4)]] = "Al"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.1, size=(4, 3))
    atoms.calc = EMT()
    atoms.get_stress()
    atoms.get_potential_energies()
    return atoms


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Entries of a configuration that name the stores and energies."""
    folder: Path = tmp_path_factory.mktemp("task")
    for name, seeds in (("train", range(24)), ("validation", range(100, 106))):
        kinds = ("odd", "even")
        write_store(folder / name, (frame_from_atoms(crystal(k), kind=kinds[k % 2]) for k in seeds), 4.5)
    (folder / "free.json").write_text(json.dumps({"Cu": 3.5, "Al": 3.3, "H": 0.0}))
    return {"train": folder / "train", "validation": folder / "validation", "isolated_energies": folder / "free.json"}


@pytest.fixture
def config(task: dict[str, Any], tmp_path: Path) -> TrainConfig:
    """A run of twelve steps with checkpoints at every step."""
    return TrainConfig(
        **task,
        output=tmp_path / "run",
        hyperparameters=HYPERPARAMETERS,
        steps=12,
        slots=500,
        warmup_steps=3,
        log_every=2,
        checkpoint_minutes=1e-9,
        validation_batches=1,
        dtype="float64",
    )
