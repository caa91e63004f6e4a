"""Files of Nequix: the published form and plain arrays mean the same, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

from forcefield import GNNCalculator
from forcefield.cli import app
from forcefield.importers import import_model
from forcefield.importers.nequix import read_nequix
from forcefield.importers.nequix_file import SILU_RMS

CONFIG: dict[str, Any] = {
    **{"atomic_numbers": [8, 1, 22], "hidden_irreps": "4x0e + 3x1o + 2x2e", "lmax": 2, "cutoff": 4.0, "n_layers": 3},
    **{"radial_basis_size": 5, "radial_mlp_size": 6, "radial_mlp_layers": 2, "radial_polynomial_p": 6.0},
    **{"index_weights": False, "layer_norm": True, "shift": -1.5, "scale": 0.8, "avg_n_neighbors": 12.0},
}
CHANNELS = (4, 3, 2)
SUMS = [(3, 3, 3), (4 + 3 + 2, 4 + 3 + 3 + 2, 4 + 3 + 2 + 2), (4 + 3 + 2,)]
"""Channels of the sums over neighbours of each layer, by degree: a term for each path that keeps the parity.

To degree 1 from (0,1), (1,0), (1,2), (2,1); to degree 2 from (0,2), (1,1), (2,0), (2,2).
"""


def arrays() -> dict[str, np.ndarray]:
    """Random weights of a small Nequix in the order of its files."""
    random, shapes = np.random.default_rng(0), {"e0": (3,)}
    for t, sums in enumerate(SUMS):
        into = (3,) if t == 0 else CHANNELS
        wide = (4,) if t == 2 else (4 + 3 + 2, 3, 2)
        shapes |= {f"{t}.mlp.0": (5, 6), f"{t}.mlp.1": (6, 6), f"{t}.mlp.2": (6, sum(sums))}
        shapes |= {f"{t}.l1.{l}": (n, n) for l, n in enumerate(into)}
        shapes |= {f"{t}.l2.{l}": shape for l, shape in enumerate(zip(sums, wide, strict=True))}
        shapes |= {f"{t}.skip.{l}": shape for l, shape in enumerate(zip(into, wide, strict=False))}
        shapes |= {f"{t}.ln.{l}": (n,) for l, n in enumerate(wide)}
    shapes["readout"] = (4, 1)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_published(file: Path, *, leave_out: int = 0, **changes: Any) -> Path:
    with file.open("wb") as stream:
        stream.write((json.dumps({**CONFIG, **changes}) + "\n").encode())
        values = list(arrays().values())
        for value in values[: len(values) - leave_out]:
            np.save(stream, value)
    return file


def write_arrays(file: Path) -> Path:
    meta = np.array([4.0, 5, 6, -1.5, 0.8, SILU_RMS])
    averages = {f"{t}.avg": np.array(12.0) for t in range(3)}
    np.savez(file, meta=meta, atomic_numbers=np.array(CONFIG["atomic_numbers"]), **averages, **arrays())
    return file


def test_both_forms_of_a_file_mean_the_same(tmp_path: Path) -> None:
    one = read_nequix(write_published(tmp_path / "small.nqx"))
    other = read_nequix(write_arrays(tmp_path / "small.npz"))
    assert one.hyperparameters == other.hyperparameters
    assert one.energies == other.energies
    assert one.energies[22] == pytest.approx(float(arrays()["e0"][2]) - 1.5)
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_command_makes_a_model_whose_lone_atoms_are_its_references(tmp_path: Path) -> None:
    file = write_published(tmp_path / "small.nqx")
    arguments = ["import", "nequix", str(file), "-o", str(tmp_path / "model"), "--labels", "Random numbers."]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "3 elements, cutoff 4 Å; licence of the weights: MIT" in result.output
    calculator = GNNCalculator(str(tmp_path / "model"), dtype="float64")
    lone = calculator.get_potential_energy(Atoms("Ti"))
    assert lone == pytest.approx(calculator.atomic_reference_energies["Ti"], abs=1e-6)
    water = molecule("H2O")
    water.calc = calculator
    assert np.abs(water.get_forces()).max() > 1e-3
    assert "Random numbers." in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index_weights": True}, "a self-connection for each element"),
        ({"layer_norm": False}, "no layer norm"),
        ({"radial_polynomial_p": 5.5}, "no whole number"),
        ({"hidden_irreps": "4x0e + 3x1e + 2x2e"}, "features 4x0e"),
        ({"lmax": 3}, "harmonics to 3"),
        ({"hidden_irreps": "4x0e + 3x1o + 1x2e"}, "does not fit the network"),
        ({"n_layers": 2}, "more arrays than its hyperparameters say"),
        ({"leave_out": 1}, "not all of them|EOF|expected"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    file = write_published(tmp_path / "small.nqx", **changes)
    with pytest.raises(ValueError, match=message):
        import_model("nequix", file, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", meta=np.array([print, 1], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_nequix(tmp_path / "objects.npz")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    file = write_published(tmp_path / "small.nqx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    (tmp_path / "weights.pt").touch()
    cases = {
        ("other", file, "model"): "choose one of",
        ("nequix", tmp_path / "nothing.nqx", "model"): "there is no file",
        ("nequix", tmp_path / "weights.pt", "model"): "come as .nqx or .npz",
        ("nequix", file, "full"): "not an empty folder",
    }
    for (source, weights, folder), message in cases.items():
        with pytest.raises(ValueError, match=message):
            import_model(source, weights, tmp_path / folder)
