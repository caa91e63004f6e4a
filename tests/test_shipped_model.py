"""The models that come with the package: whole, documented, and giving the numbers that they gave when they were made.

After a model has been added or replaced, ``python tests/test_shipped_model.py`` writes the table of those numbers anew.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import atomic_numbers
from safetensors.torch import load_file

import forcefield
from forcefield import GNNCalculator
from forcefield.data.noble_gases import pair_potential
from forcefield.models import list_models, load_model, model_folder

TABLE = Path(__file__).with_name("shipped_models.json")
NAMES = [model["name"] for model in list_models()]
pytestmark = pytest.mark.skipif(not NAMES, reason="no model is installed")


def structures() -> dict[str, Atoms]:
    """A few structures of every sort, away from equilibrium."""
    salt = bulk("NaCl", "rocksalt", a=5.7).repeat((2, 1, 1))
    salt.rattle(0.1, seed=0)
    sheared = bulk("Si", a=5.4)
    sheared.set_cell(sheared.cell.array @ np.array([[1.02, 0.03, 0], [0, 0.97, 0.01], [0, 0, 1]]), scale_atoms=True)
    iron = bulk("Fe", "bcc", a=2.9)
    iron.set_cell(iron.cell.array[[1, 0, 2]])  # left-handed
    corners = [[0, 0, 0], [0.5, 0.5, 0.52], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    perovskite = Atoms("SrTiO3", scaled_positions=corners, cell=[3.95, 3.95, 4.05], pbc=True)
    slab = fcc111("Al", (1, 1, 3), a=4.05, vacuum=6.0)
    slab.positions[2, 2] += 0.1
    made = {"salt": salt, "silicon": sheared, "iron": iron, "perovskite": perovskite, "slab": slab}
    return {**made, "water": molecule("H2O"), "oxygen": Atoms("O")}


def computed(name: str, dtype: str) -> dict[str, dict[str, Any]]:
    """Energy (eV), forces (eV/Å) and stress (eV/Å^3) of the structures."""
    calculator = GNNCalculator(name, device="cpu", dtype=dtype)
    table = {}
    for label, atoms in structures().items():
        atoms.calc = calculator
        table[label] = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().round(9).tolist()}
        if atoms.pbc.all():
            table[label]["stress"] = atoms.get_stress().round(11).tolist()
    return table


def checksum(name: str) -> str:
    return hashlib.sha256((model_folder(name) / "weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_frozen_table(name, dtype):
    frozen = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    assert frozen.get(name, {}).get("sha256") == checksum(name), (
        f"the table {TABLE.name} is not of these weights; if the model is new, write it with: python {__file__}"
    )
    energy, force = (1e-7, 1e-6) if dtype == "float64" else (5e-5, 1e-3)
    expected, found = frozen[name]["structures"], computed(name, dtype)
    assert found.keys() == expected.keys()
    for label, values in expected.items():
        n = len(values["forces"])
        assert found[label]["energy"] == pytest.approx(values["energy"], abs=energy * n), label
        np.testing.assert_allclose(found[label]["forces"], values["forces"], atol=force, err_msg=label)
        if "stress" in values:
            np.testing.assert_allclose(found[label]["stress"], values["stress"], atol=0.1 * force, err_msg=label)


FIRST_CALL = """
import sys

def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"the network was used: {event} {arguments}")

sys.addaudithook(offline)
from ase.build import bulk
from forcefield import GNNCalculator
atoms = bulk("Si")
atoms.calc = GNNCalculator()
print(atoms.get_potential_energy(), atoms.get_forces().shape, atoms.get_stress().shape)
"""


def test_first_call_needs_no_network_and_is_silent():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FIRST_CALL],
        capture_output=True,
        text=True,
        cwd=Path(forcefield.__file__).parents[1],
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout.endswith("(2, 3) (6,)\n")


PBE_MOLECULES = {"H2": -6.77, "N2": -16.66, "O2": -9.89, "Cl2": -3.60}
"""Energies (eV) at the minimum of the PBE curves of Matbench Discovery (spin-polarised, VASP)."""


@pytest.mark.parametrize("name", PBE_MOLECULES)
def test_gases_are_bound_as_by_pbe(name):
    atoms = molecule(name)
    atoms.calc = GNNCalculator(device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(PBE_MOLECULES[name], abs=0.25)


@pytest.mark.parametrize("symbol", ["H", "O", "Na", "Al", "Fe", "Cu"])
def test_a_pair_that_parts_meets_no_second_minimum(symbol):
    calculator = GNNCalculator(device="cpu", confidence=False)
    distances = np.arange(3.6, 5.4, 0.05)
    pairs = [Atoms([symbol] * 2, positions=[[0, 0, 0], [0, 0, distance]]) for distance in distances]
    energies = np.array([calculator.get_potential_energy(pair) for pair in pairs])
    assert energies[-1] == 2 * calculator.atomic_reference_energies[symbol]
    fall = np.maximum.accumulate(energies) - energies
    assert fall.max() < 0.1  # eV


@pytest.mark.parametrize(("symbol", "length"), [("Ne", 3.09), ("Ar", 3.76), ("Kr", 4.01), ("Xe", 4.37)])
def test_noble_gas_atoms_repel(symbol, length):
    """Measured wells are 4 to 24 meV deep; the wall is that of Tang and Toennies' curves."""
    calculator = GNNCalculator(device="cpu", confidence=False)
    free = calculator.atomic_reference_energies[symbol]
    number = atomic_numbers[symbol]

    def energy(distance: float) -> float:
        return calculator.get_potential_energy(Atoms([symbol] * 2, [[0, 0, 0], [0, 0, distance]])) - 2 * free

    assert min(energy(ratio * length) for ratio in np.arange(0.4, 1.3, 0.02)) > -0.05
    near = 0.67 * length
    assert energy(near) == pytest.approx(pair_potential(number, number).energy(near), rel=0.3, abs=0.1)


def test_exactly_one_model_is_the_default():
    assert [model["default"] for model in list_models()] == [True] + [False] * (len(NAMES) - 1)
    assert load_model().name == NAMES[0]


@pytest.mark.parametrize("name", NAMES)
def test_config_is_complete(name):
    config = load_model(name).config
    assert config["licence"] and config["labels"] and config["limits"]
    assert config["training"]["data"] and config["training"]["hardware"] and config["training"]["settings"]
    assert config["training"]["minutes"] > 0 and config["training"]["frames"] > 1000
    errors = config["validation"]["errors"]
    assert len(errors) > 1, "errors should be given by kind of frame"
    for kind, values in errors.items():
        assert values["frames"] > 0 and 0 < values["energy_mae"] <= values["energy_rmse"] < 10, kind
        assert 0 <= values["forces_mae"] <= values["forces_rmse"], kind
    assert set(config["isolated_energies"]) == set(config["bound_energies"]) == set(config["elements"])
    assert {"H", "C", "N", "O", "Na", "Al", "Si", "Cl", "Fe", "Cu"} <= set(config["elements"])
    assert config["hyperparameters"], "hyper-parameters should be written out, so that defaults may change"


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_the_config_says(name):
    config, folder = load_model(name).config, model_folder(name)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for heading in ("Labels", "Training", "Errors", "Known limits", "Elements"):
        assert f"\n## {heading}\n" in card
    assert card.startswith(f"# {name}\n") and config["labels"] in card and f"{config['parameters']:,}" in card
    assert f"{1000 * config['validation']['errors']['all']['energy_mae']:.0f} / " in card
    assert all(limit in card for limit in config["limits"])
    assert "/tmp/" not in card and "/home/" not in card and "/root/" not in card


@pytest.mark.parametrize("name", NAMES)
def test_folder_holds_the_model_and_nothing_else(name):
    folder = model_folder(name)
    needed, samples = {"README.md", "config.json", "weights.safetensors"}, {"replay.npz", "validation_sample.npz"}
    samples |= {"confidence.json", "confidence.safetensors"}
    assert needed <= {path.name for path in folder.iterdir()} <= needed | samples
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10e6
    weights = load_file(folder / "weights.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point())
    assert (folder / "weights.safetensors").stat().st_size < 50e6


@pytest.mark.parametrize("name", NAMES)
def test_atoms_alone_have_their_reference_energies(name):
    calculator = GNNCalculator(name, device="cpu")
    for symbol, energy in calculator.atomic_reference_energies.items():
        atoms = Atoms(symbol, calculator=calculator)
        assert atoms.get_potential_energy() == energy


if __name__ == "__main__":
    table = {name: {"sha256": checksum(name), "structures": computed(name, "float64")} for name in NAMES}
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {TABLE} for {', '.join(NAMES) or 'no model'}")
