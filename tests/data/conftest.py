"""Labelled frames of every sort, and a store of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.data.frames import Frame, frame_from_atoms
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


@pytest.fixture(scope="module")
def structures() -> list[Atoms]:
    """Crystals, a slab and a molecule with EMT's labels."""
    made = []
    for k, atoms in enumerate([bulk("Cu"), bulk("Ni", cubic=True) * (2, 1, 1), fcc111("Al", (2, 1, 2), vacuum=5.0)]):
        atoms.rattle(0.1, seed=k)
        atoms.info.clear()
        made.append(atoms)
    made.append(molecule("H2O"))
    for atoms in made:
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if atoms.pbc.all():
            results["stress"] = atoms.get_stress()
        atoms.calc = SinglePointCalculator(atoms, **results)
    return made


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """Compares a frame with the atoms and results that it was made from."""

    def compare(frame: Frame, atoms: Atoms, tolerance: float = 1e-7) -> None:
        expected = frame_from_atoms(atoms)
        np.testing.assert_array_equal(frame.numbers, expected.numbers)
        np.testing.assert_array_equal(frame.pbc, expected.pbc)
        for name in ("positions", "cell", "energy", "forces", "stress", "atomic_energies", "magmoms"):
            value, wanted = getattr(frame, name), getattr(expected, name)
            assert (value is None) == (wanted is None), name
            if wanted is not None:
                np.testing.assert_allclose(value, wanted, atol=tolerance, err_msg=name)

    return compare
