"""Heads that take the tensors of equivariant bodies: they turn with the structure, use them, and learn from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from scipy.spatial.transform import Rotation

from forcefield.graph import graph_from_atoms
from forcefield.tasks.bodies import build_body, feature_width
from forcefield.tasks.finish import train_property
from forcefield.tasks.model import PropertyModel
from forcefield.tasks.prediction import predict_property
from forcefield.tasks.storage import load_property, save_property
from forcefield.tasks.task import Task
from forcefield.tasks.tensors import SHAPES, full_tensor

SMALL = {
    "density": {"cutoff": 4.0, "channels": 8, "n_radial": 4, "n_warped": 3, "message_vectors": 4, "hidden": 8},
    "allegro": {"cutoff": 4.0, "channels": 8, "tensor_channels": 4, "n_radial": 5, "hidden": 8},
    "painn": {"cutoff": 4.0, "channels": 8, "n_layers": 2},
    "tensornet": {"cutoff": 4.0, "channels": 6, "n_layers": 1, "n_radial": 6},
    "nequip": {"cutoff": 4.0, "channels": [8, 6, 4], "n_layers": 2, "n_radial": 5, "radial_hidden": [8]},
    "mace": {"cutoff": 4.0, "channels": 5, "n_layers": 2, "n_radial": 5, "radial_hidden": [8], "correlation": 2},
    "transformer": {"cutoff": 4.0, "channels": 4, "n_heads": 2, "n_layers": 2, "n_radial": 4, "radial_hidden": 6},
}
REACH = {"density": 4, "allegro": 4, "painn": 2, "tensornet": 4, "nequip": 4, "mace": 2, "transformer": 4}
"""Highest degree that products of two of the body's tensors have."""


def made(network: str, shape: str) -> PropertyModel:
    body = build_body(network, [13, 29], **SMALL[network])
    task = Task("label", level="atom", shape=shape, hidden=8)
    return PropertyModel(body, task, feature_width(body)).with_dtype(torch.float64).eval()


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ rotation.T)
    moved.positions = atoms.positions @ rotation.T
    return moved


@pytest.mark.parametrize("shape", ["vector", "symmetric", "elastic"])
@pytest.mark.parametrize("equivariant", sorted(SMALL))
def test_the_bodys_tensors_alone_make_a_value_that_turns(equivariant, shape, crystal):
    torch.manual_seed(0)
    model = made(equivariant, shape)
    model.head.pair.strength.weight.data.zero_()  # nothing comes from the edges
    rotation = -Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    atoms = crystal(1)
    before, after = (predict_property(model, [one])[0] for one in (atoms, turned(atoms, rotation)))
    expected = before
    for axis in range(1, SHAPES[shape].rank + 1):
        expected = np.moveaxis(np.tensordot(rotation, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(after, expected, rtol=1e-8, atol=1e-12)
    isotropic = np.zeros_like(before)
    if shape == "symmetric":
        isotropic = np.eye(3) * np.trace(before, axis1=1, axis2=2)[:, None, None] / 3
    assert np.abs(before - isotropic).max() > 1e-6
    assert max(model.head.body.wanted) == min(REACH[equivariant], max(SHAPES[shape].degrees))


def test_bodies_without_tensors_and_scalars_have_the_heads_they_had(random_model):
    assert random_model("schnet", shape="vector").head.body is None
    assert random_model("painn", level="atom").tensor_channels == ()


def test_models_of_before_are_loaded_without_them(crystal, tmp_path):
    body = build_body("painn", [13, 29], **SMALL["painn"])
    task = Task("label", shape="vector", hidden=8)
    model = PropertyModel(body, task, feature_width(body), tensor_channels=()).with_dtype(torch.float64).eval()
    save_property(tmp_path, model, network="painn", hyperparameters=SMALL["painn"])
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace(' "tensor_channels": [],\n', ""))
    assert "tensor_channels" not in (tmp_path / "config.json").read_text()
    loaded = load_property(tmp_path, dtype=torch.float64).model
    before, after = (predict_property(one, [crystal(1)])[0] for one in (model, loaded))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def directional(atoms: Atoms, rank: int) -> np.ndarray:
    """Mean over the atoms of ``sum_j exp(-r_ij) s_j (r_ij / |r_ij|)^rank`` with s = 1 for copper, -1 for aluminium."""
    graph = graph_from_atoms(atoms, 4.0)
    vectors = graph.edge_vectors().numpy()
    length = np.linalg.norm(vectors, axis=1)
    weight = np.exp(-length) * np.where(atoms.numbers[graph.edge_index[1].numpy()] == 29, 1.0, -1.0) / len(atoms)
    unit, letters = vectors / length[:, None], "abcd"[:rank]
    return np.einsum("e," + ",".join(f"e{letter}" for letter in letters) + f"->{letters}", weight, *[unit] * rank)


@pytest.mark.parametrize(
    ("shape", "equivariant"),
    [
        ("vector", "painn"),
        ("symmetric", "tensornet"),
        ("elastic", "nequip"),
        ("vector", "density"),
        ("symmetric", "density"),
        ("symmetric", "allegro"),
    ],
)
def test_vectors_and_tensors_are_learned(shape, equivariant, crystal, tmp_path):
    from forcefield.tasks.config import PropertyConfig

    structures = [crystal(seed) for seed in range(10)]
    for atoms in structures:
        atoms.info["label"] = directional(atoms, SHAPES[shape].rank).ravel()
    write(tmp_path / "data.extxyz", structures)
    spread = np.sqrt(np.mean([atoms.info["label"] ** 2 for atoms in structures]))
    run = train_property(
        PropertyConfig(
            task={"key": "label", "shape": shape, "hidden": 16},
            train=tmp_path / "data.extxyz",
            validation=tmp_path / "data.extxyz",
            network=equivariant,
            hyperparameters=SMALL[equivariant],
            output=tmp_path / "run",
            steps=60,
            batch_atoms=40,
            learning_rate=1e-2,
            warmup_steps=5,
            ema_decay=0.8,
            plots=False,
        )
    )
    assert run.errors["validation"]["rmse"] < 0.3 * spread
    assert full_tensor(structures[0].info["label"], shape).shape == (3,) * SHAPES[shape].rank
