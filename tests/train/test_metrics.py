"""Errors on a store against errors computed frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from forcefield.data.batches import plan_batches
from forcefield.data.frames import Frame
from forcefield.data.store import write_store
from forcefield.models import load_model
from forcefield.prediction import predict
from forcefield.train.metrics import measure


def frame(atoms: Atoms, rng: np.random.Generator, kind: str) -> Frame:
    n = len(atoms)
    crystal = bool(atoms.pbc.all())
    return Frame(
        *(np.array(atoms.numbers, np.int64), atoms.positions, atoms.cell.array, atoms.pbc),
        energy=float(rng.normal()),
        forces=rng.normal(size=(n, 3)),
        stress=rng.normal(size=6) if crystal else None,
        atomic_energies=rng.normal(size=n) if crystal else None,
        kind=kind,
    )


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    rng = np.random.default_rng(0)
    salts = [bulk("NaCl", "rocksalt", a=5.2 + 0.05 * k).repeat((1 + k % 2, 1, 1)) for k in range(6)]
    for k, atoms in enumerate(salts):
        atoms.rattle(0.1, seed=k)
    return [frame(atoms, rng, "salt") for atoms in salts] + [frame(molecule("H2O"), rng, "gas")]


def expected_errors(frames: list[Frame], model) -> dict[str, np.ndarray]:
    errors: dict[str, list] = {"energy": [], "forces": [], "stress": [], "atomic_energies": []}
    for one in frames:
        atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
        found = predict(atoms, model=model, device="cpu", dtype="float64")
        errors["energy"].append([(found.energy - one.energy) / len(atoms)])
        errors["forces"].append((found.forces - one.forces).ravel())
        if one.stress is not None:
            errors["stress"].append(found.stress - one.stress)
            errors["atomic_energies"].append(found.energies - one.atomic_energies)
    return {name: np.concatenate(values) for name, values in errors.items() if values}


@pytest.mark.parametrize("cutoff", [4.0, 5.5])
@pytest.mark.parametrize("slots", [1, 10**6])
def test_errors_in_total_and_by_kind(tiny_model, frames, tmp_path, slots, cutoff):
    """Also with a store whose neighbour lists reach further than the potential."""
    import torch

    store = write_store(tmp_path / "store", frames, cutoff)
    potential = load_model(tiny_model, dtype=torch.float64).potential
    found = measure(potential, store, plan_batches(store, slots, seed=0))
    assert list(found) == ["all", "gas", "salt"]
    for kind, some in (("all", frames), ("salt", frames[:6]), ("gas", frames[6:])):
        assert found[kind]["frames"] == len(some)
        expected = expected_errors(some, tiny_model)
        assert {name.rsplit("_", 1)[0] for name in found[kind]} - {"frames"} == set(expected)
        for name, error in expected.items():
            values = found[kind]
            assert values[f"{name}_mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5), (kind, name)
            assert values[f"{name}_rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5), (kind, name)
            assert values[f"{name}_median"] == pytest.approx(np.median(np.abs(error)), rel=1e-5), (kind, name)
