"""Checkpoints of SevenNet: small ones against e3nn's modules, and what is refused."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from forcefield import GNNCalculator
from forcefield.importers import import_model
from forcefield.importers.sevennet import read_sevennet

spec = importlib.util.spec_from_file_location("original", Path(__file__).with_name("original.py"))
original = importlib.util.module_from_spec(spec)
spec.loader.exec_module(original)
FORMS: dict[str, dict[str, Any]] = {
    "as SevenNet-0": {"channels": (4, 3, 2), "n_layers": 3, "cutoff": 4.0, "onset": 3.5},
    "as l3i5": {"channels": (4, 3, 2, 2), "n_layers": 3, "cutoff": 4.0, "onset": None},
    "one layer": {"channels": (4,), "n_layers": 1, "cutoff": 4.0, "onset": None},
}


@pytest.fixture
def make():
    """Function: a form -> the model from e3nn's modules, in float64."""

    def build(form: str) -> Any:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # e3nn makes its constants in the default precision
        try:
            return original.Original(**FORMS[form])
        finally:
            torch.set_default_dtype(default)

    return build


def crystal() -> Atoms:
    atoms = bulk("TiO", "rocksalt", a=4.1, cubic=True)
    atoms.rattle(0.15, seed=1)
    return atoms


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", list(FORMS))
def test_imported_weights_give_what_e3nn_gives(form: str, make: Any, tmp_path: Path) -> None:
    model = make(form)
    torch.save(model.checkpoint(), tmp_path / "small.pth")
    folder = import_model("sevennet", tmp_path / "small.pth", tmp_path / "model")
    for atoms in (crystal(), molecule("H2O"), Atoms("O")):
        atoms.calc = GNNCalculator(str(folder), dtype="float64")
        positions = torch.from_numpy(atoms.positions.copy()).requires_grad_()
        energy = model(atoms, positions)
        (gradient,) = torch.autograd.grad(energy, positions, allow_unused=True)
        forces = np.zeros((len(atoms), 3)) if gradient is None else -gradient.numpy()
        assert atoms.get_potential_energy() == pytest.approx(energy.item(), abs=2e-6 * len(atoms))
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5)  # weights are stored in float32


def test_paths_of_old_files_are_put_in_order(make: Any, tmp_path: Path) -> None:
    """Before 0.11 the weights of the radial networks went by features, then harmonics, then result."""
    model = make("as SevenNet-0")
    new, old = model.checkpoint(), model.checkpoint(version="0.9.3")
    for t, layer in enumerate(model.layers):
        instructions = layer.product.instructions
        l_of = [layer.product.irreps_out[k.i_out].ir.l for k in instructions]
        order = sorted(range(len(l_of)), key=lambda k: (instructions[k].i_in1, instructions[k].i_in2, l_of[k]))
        widths = [layer.product.irreps_in1[k.i_in1].mul for k in instructions]
        name = f"{t}_convolution.weight_nn.layer2.weight"
        blocks = new["model_state_dict"][name].split(widths, dim=1)
        old["model_state_dict"][name] = torch.cat([blocks[k] for k in order], dim=1)
    torch.save(new, tmp_path / "new.pth")
    torch.save(old, tmp_path / "old.pth")
    one, other = (read_sevennet(tmp_path / f"{age}.pth").weights for age in ("new", "old"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_energies_of_elements_are_those_of_free_atoms(make: Any, tmp_path: Path) -> None:
    torch.save(make("as l3i5").checkpoint(), tmp_path / "small.pth")
    calculator = GNNCalculator(str(import_model("sevennet", tmp_path / "small.pth", tmp_path / "model")))
    for symbol in ("H", "O", "Ti"):
        assert calculator.get_potential_energy(Atoms(symbol)) == pytest.approx(
            calculator.atomic_reference_energies[symbol], abs=1e-6
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"is_parity": True}, "is_parity is True, not False"),
        ({"self_connection_type": "nequip"}, "self_connection_type is .'nequip'., not .'linear'."),
        ({"use_modality": True}, "use_modality"),
        ({"irreps_manual": False}, "does not list its features"),
        ({"irreps_manual": ["4x0e", "4x0e+3x1o", "4x0e"]}, "its layers have the features"),
        ({"cutoff_function": {"cutoff_function_name": "cosine"}}, "the cutoff function is 'cosine'"),
        ({"lmax": 3}, "harmonics go to degree 3"),
        ({"weight_nn_hidden_neurons": [6]}, "layer 0 has matrices of unexpected size"),
    ],
)
def test_unsupported_variants_are_named(changes: dict, message: str, make: Any, tmp_path: Path) -> None:
    torch.save(make("as SevenNet-0").checkpoint(**changes), tmp_path / "small.pth")
    with pytest.raises(ValueError, match=message):
        import_model("sevennet", tmp_path / "small.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_missing_weights_are_named(make: Any, tmp_path: Path) -> None:
    content = make("one layer").checkpoint()
    del content["model_state_dict"]["reduce_hidden_to_energy.linear.weight"]
    torch.save(content, tmp_path / "small.pth")
    with pytest.raises(ValueError, match="lacks the weights 'reduce_hidden_to_energy.linear.weight'"):
        read_sevennet(tmp_path / "small.pth")


class Harmful:
    """A pickle that would write a file when read without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_run(make: Any, tmp_path: Path) -> None:
    torch.save(make("one layer").checkpoint(harm=Harmful(tmp_path / "harm")), tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of weights"):
        read_sevennet(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 broken"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_sevennet(tmp_path / "other.pth")
