"""Labelled frames of every sort, and a store of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, write_store

CUTOFF = 4.0


def labelled(
    atoms: Atoms, rng: np.random.Generator, *, kind: str, material: str, without: tuple[str, ...] = ()
) -> Frame:
    """A frame with random labels that are exact in single precision."""
    labels = {
        "energy": float(rng.normal()),
        "forces": rng.normal(size=(len(atoms), 3)).astype(np.float32).astype(float),
        "stress": rng.normal(size=6).astype(np.float32).astype(float),
        "atomic_energies": rng.normal(size=len(atoms)).astype(np.float32).astype(float),
    }
    return Frame(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=atoms.positions.copy(),
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        kind=kind,
        material=material,
        **{name: value for name, value in labels.items() if name not in without},
    )


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Crystals, a slab, a molecule and a lone atom, with different labels missing."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(24):
        atoms = bulk("NaCl", "rocksalt", a=5.6 + 0.02 * k).repeat((1 + k % 3, 1, 1 + k % 2))
        atoms.rattle(0.1, seed=k)
        atoms.positions[0] += atoms.cell[1] * (k % 4)  # outside the cell
        made.append(labelled(atoms, rng, kind=("rattled", "relaxed")[k % 2], material=f"salt-{k // 4}"))
    slab = fcc111("Cu", (2, 2, 2), a=3.6, vacuum=4.0)
    water = molecule("H2O")
    made.insert(3, labelled(slab, rng, kind="slab", material="copper", without=("stress",)))
    made.insert(7, labelled(water, rng, kind="molecule", material="water", without=("stress", "atomic_energies")))
    made.insert(11, labelled(Atoms("O"), rng, kind="molecule", material="oxygen", without=("stress", "forces")))
    made.append(labelled(bulk("Si"), rng, kind="relaxed", material="silicon", without=("energy",)))
    return made


@pytest.fixture(scope="session")
def store(frames: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    folder: Path = tmp_path_factory.mktemp("stores") / "all"
    return write_store(folder, iter(frames), CUTOFF)
