"""What a run starts from: reference energies, an initial model, frozen parts, and data that does not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import write

from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, write_store
from forcefield.models import load_model
from forcefield.train.config import TrainConfig
from forcefield.train.finish import train_to_model
from forcefield.train.loop import Run, train


def changed(config: TrainConfig, **entries) -> TrainConfig:
    return TrainConfig(**{**config.model_dump(exclude_unset=True), **entries})


def alloy() -> Atoms:
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.symbols[0] = "Al"
    return atoms


def frame(atoms: Atoms, **labels) -> Frame:
    return Frame(atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc, **labels)


def test_references_by_least_squares_without_free_atoms(config):
    """Energies of copper and aluminium in these crystals, from totals alone."""
    store = FrameStore(config.train)
    run = Run(changed(config, isolated_energies=None))
    numbers, energies = store.arrays["numbers"], store.arrays["atomic_energies"]
    for z in (13, 29):
        assert float(run.potential.isolated[z]) == 0.0
        assert float(run.potential.bound[z]) == pytest.approx(energies[numbers == z].mean(), abs=1e-5)


def test_references_that_are_given(config, tmp_path):
    given = {"Cu": -1.5, "Al": -2.5}
    (tmp_path / "given.json").write_text(json.dumps(given))
    for references in (given, tmp_path / "given.json"):
        potential = Run(changed(config, reference_energies=references)).potential
        assert float(potential.isolated[29] + potential.bound[29]) == pytest.approx(-1.5)
        assert float(potential.isolated[13] + potential.bound[13]) == pytest.approx(-2.5)
    with pytest.raises(ValueError, match="no reference or isolated energy for Al"):
        Run(changed(config, reference_energies={"Cu": -1.5}))
    with pytest.raises(ValueError, match="'Xx' is no element symbol"):
        Run(changed(config, isolated_energies={"Xx": 1.0}))


def test_initial_model_is_where_the_run_starts(config, tmp_path):
    first = train_to_model(changed(config, plots=False, steps=4))
    model = load_model(first.config.output / "model", dtype=torch.float64)
    entries = {"output": tmp_path / "second", "initial": str(first.config.output / "model"), "isolated_energies": None}
    second = Run(TrainConfig(**{**entries, "train": config.train, "validation": config.validation, "steps": 3}))
    assert second.config.hyperparameters["channels"] == 8 and second.potential.elements == (13, 29)
    for name, value in model.potential.named_parameters():
        torch.testing.assert_close(second.potential.get_parameter(name).double(), value, rtol=1e-6, atol=1e-7)
    assert all(p.requires_grad for p in second.parameters) and len(second.parameters) > 5
    for name in ("isolated", "bound"):
        values = second.potential.get_buffer(name), model.potential.get_buffer(name)
        torch.testing.assert_close(*values, equal_nan=True)
    assert second.validate()["all"]["energy_mae"] == pytest.approx(first.result["all"]["energy_mae"], rel=1e-3)
    assert second.potential.saturation_rate == model.potential.saturation_rate == 4.0
    assert Run(changed(second.config, saturation_rate=2.0)).potential.saturation_rate == 2.0
    with pytest.raises(ValueError, match="network is mace, but the initial model"):
        Run(changed(config, **entries, network="mace", hyperparameters={}))
    with pytest.raises(ValueError, match="hyperparameters is .* but the initial model"):
        Run(changed(config, **entries, hyperparameters={"channels": 16}))
    with pytest.raises(ValueError, match="forcefield finetune"):
        Run(changed(config, **entries, reference_energies="fit"))


def test_new_references_of_an_initial_model(config, tiny_model):
    entries = {"initial": str(tiny_model), "hyperparameters": {}, "dtype": "float32"}
    base = load_model(tiny_model).potential
    run = Run(changed(config, **entries, isolated_energies={"Cu": 2.0}))
    total = float(base.isolated[29] + base.bound[29])
    assert float(run.potential.isolated[29]) == 2.0
    assert float(run.potential.isolated[29] + run.potential.bound[29]) == pytest.approx(total)
    shutil.rmtree(config.output)
    run = Run(changed(config, **entries, isolated_energies=None, reference_energies={"Cu": 5.0, "Al": 6.0}))
    assert float(run.potential.isolated[13] + run.potential.bound[13]) == pytest.approx(6.0)
    assert float(run.potential.bound[8]) == float(base.bound[8])


def test_frozen_parameters_stay(config):
    config = changed(config, freeze=["sender.*", "network.densities.*"])
    start = Run(config).potential
    end = train(config).potential
    same = {name: torch.equal(end.get_parameter(name), value) for name, value in start.named_parameters()}
    assert all(same[name] for name in same if "sender" in name or "densities" in name)
    assert not any(same[f"network.updates.{k}.{name}.weight"] for k in (0, 1) for name in ("hidden", "energy"))
    with pytest.raises(ValueError, match="'senders.*' fits no parameter .*did you mean 'sender.weight'"):
        Run(changed(config, freeze=["senders.*"]))
    with pytest.raises(ValueError, match="leaves nothing to train"):
        Run(changed(config, freeze=["*"]))
    with pytest.raises(ValueError, match="other settings of freeze"):
        Run(changed(config, freeze=[]))


def test_store_with_too_short_neighbour_lists(config):
    with pytest.raises(ValueError, match=r"neighbour lists up to 4.5 Å, the network needs 6.0 Å; make the store again"):
        Run(changed(config, hyperparameters={**config.hyperparameters, "cutoff": 6.0}))


def test_elements_that_training_does_not_have(config, tmp_path):
    write_store(tmp_path / "gold", [frame(bulk("Au", cubic=True), energy=1.0)], 4.5)
    with pytest.raises(ValueError, match="validation: .* has the elements Au, which the model does not know"):
        Run(changed(config, validation=tmp_path / "gold"))


def test_labels_that_are_all_missing(config, tmp_path):
    nothing = {"energy": float("nan"), "forces": np.full((4, 3), np.nan)}
    atoms = alloy()
    write_store(tmp_path / "nan", [frame(atoms, **nothing)], 4.5)
    with pytest.raises(ValueError, match="no frame has an energy"):
        Run(changed(config, train=tmp_path / "nan"))
    with pytest.raises(ValueError, match="has no label .* for energy, forces, stress, atomic_energies"):
        Run(changed(config, train=tmp_path / "nan", reference_energies={"Cu": 1.0, "Al": 1.0}))
    write_store(tmp_path / "energy", [frame(atoms, energy=1.0)], 4.5)
    only_forces = {"energy": 0.0, "stress": 0.0, "atomic_energies": 0.0}
    with pytest.raises(ValueError, match="has no label .* for forces, which is all that"):
        Run(changed(config, train=tmp_path / "energy", weights=only_forces))


def test_empty_split(config, tmp_path):
    (tmp_path / "empty.extxyz").write_text("")
    with pytest.raises(ValueError, match="validation: .*empty.extxyz"):
        Run(changed(config, validation=tmp_path / "empty.extxyz"))
    with pytest.raises(ValueError, match="does not exist; give a frame store or files"):
        Run(changed(config, validation=tmp_path / "missing"))


def test_store_is_made_once_and_not_of_other_files(config, tmp_path):
    atoms = alloy()
    write(tmp_path / "raw.extxyz", atoms)
    entries = {"train": [tmp_path / "raw.extxyz"], "reference_energies": {"Cu": 1.0, "Al": 1.0}}
    with pytest.raises(ValueError, match="has no label"):
        Run(changed(config, **entries))
    store = config.output / "stores" / "train"
    before = (store / "store.json").stat().st_mtime_ns
    with pytest.raises(ValueError, match="has no label"):
        Run(changed(config, **entries))
    assert (store / "store.json").stat().st_mtime_ns == before
    write(tmp_path / "raw.extxyz", [atoms, atoms])
    with pytest.raises(ValueError, match="was made from other files .*; remove that folder"):
        Run(changed(config, **entries))
