"""Heads on any body: what rotations, permutations, supercells and distant fragments must do to each kind of value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from forcefield.tasks.prediction import EdgeValues, predict_property
from forcefield.tasks.tensors import SHAPES, cartesian_basis, full_tensor, voigt_matrix


def values(model, atoms: Atoms):
    return predict_property(model, [atoms])[0]


def turned(tensor: np.ndarray, rotation: np.ndarray, rank: int) -> np.ndarray:
    """The Cartesian tensor with every index turned."""
    for axis in range(rank):
        tensor = np.moveaxis(np.tensordot(rotation, tensor, (1, axis)), 0, axis)
    return tensor


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("shape", ["vector", "symmetric", "elastic"])
def test_tensors_turn_with_the_structure(network, shape, improper, random_model, crystal):
    model = random_model(network, shape=shape, pooling="mean")
    atoms = crystal(1)
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix() * (-1 if improper else 1)
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ rotation.T)
    moved.positions = atoms.positions @ rotation.T
    before = values(model, atoms)
    assert np.abs(before).max() > 1e-3
    expected = turned(before, rotation, SHAPES[shape].rank)
    np.testing.assert_allclose(values(model, moved), expected, atol=1e-10)


def test_atomic_vectors_turn_with_the_structure(random_model, crystal):
    model = random_model("painn", level="atom", shape="vector")
    atoms = crystal(2)
    rotation = Rotation.from_rotvec([1.3, 0.2, -0.4]).as_matrix()
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ rotation.T)
    moved.positions = atoms.positions @ rotation.T
    before = values(model, atoms)
    assert before.shape == (4, 3)
    np.testing.assert_allclose(values(model, moved), before @ rotation.T, atol=1e-10)


@pytest.mark.parametrize("shape", ["symmetric", "elastic"])
def test_tensors_have_their_symmetries(shape, random_model, crystal):
    tensor = values(random_model("schnet", shape=shape), crystal(1))
    if shape == "symmetric":
        np.testing.assert_allclose(tensor, tensor.T, atol=1e-12)
        return
    for order in ("jikl", "ijlk", "klij"):
        np.testing.assert_allclose(tensor, np.einsum(f"ijkl->{order}", tensor), atol=1e-12)
    matrix = voigt_matrix(tensor)
    np.testing.assert_allclose(full_tensor(matrix, "elastic"), tensor, atol=1e-12)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_basis_is_orthonormal_and_complete(shape: str):
    basis = cartesian_basis(shape)
    assert len(basis) == {"scalar": 1, "vector": 3, "symmetric": 6, "elastic": 21}[shape]
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)


def test_a_cubic_crystal_has_a_cubic_stiffness(random_model):
    """Independent of the network: symmetry alone leaves three constants."""
    atoms = Atoms("Cu", cell=1.9 * (np.ones((3, 3)) - np.eye(3)), pbc=True)
    matrix = voigt_matrix(values(random_model("schnet", shape="elastic"), atoms))
    c11, c12, c44 = matrix[0, 0], matrix[0, 1], matrix[3, 3]
    expected = np.zeros((6, 6))
    expected[:3, :3] = c12
    np.fill_diagonal(expected, [c11] * 3 + [c44] * 3)
    np.testing.assert_allclose(matrix, expected, atol=1e-10)
    assert abs(c11 - c12 - 2 * c44) > 1e-4  # and not an isotropic one


@pytest.mark.parametrize("pooling", ["mean", "attention", "set2set"])
def test_intensive_values_are_those_of_any_supercell(network, pooling, random_model, crystal):
    nearest = 12 if network == "crystal_cgcnn" else None
    model = random_model(network, pooling=pooling, max_neighbours=nearest)
    atoms = crystal(1)
    assert values(model, atoms.repeat((1, 2, 1))) == pytest.approx(values(model, atoms), abs=1e-10)


def test_extensive_values_add_up(random_model, crystal):
    model = random_model("painn", pooling="sum")
    atoms = crystal(1)
    assert values(model, atoms.repeat((1, 2, 1))) == pytest.approx(2 * values(model, atoms), abs=1e-10)
    one, other = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]]), Atoms("Al2", [[50, 0, 0], [50, 0, 2.5]])
    assert values(model, one + other) == pytest.approx(values(model, one) + values(model, other), abs=1e-10)


def test_the_order_of_the_atoms_does_not_matter(network, random_model, crystal):
    order = [2, 0, 3, 1]
    atoms = crystal(2)
    graph = random_model(network, pooling="set2set", max_neighbours=6)
    assert values(graph, atoms[order]) == pytest.approx(values(graph, atoms), abs=1e-10)
    node = random_model(network, level="atom", max_neighbours=6)
    np.testing.assert_allclose(values(node, atoms[order]), values(node, atoms)[order], atol=1e-10)


def test_edges_have_one_value_in_both_directions(random_model, crystal):
    found = values(random_model("schnet", level="edge"), crystal(1))
    assert isinstance(found, EdgeValues)
    of = {(*pair, *shift): value for pair, shift, value in zip(found.pairs, found.shifts, found.values, strict=True)}
    for (i, j, a, b, c), value in of.items():
        assert of[j, i, -a, -b, -c] == pytest.approx(value, abs=1e-12)


def test_a_batch_gives_what_its_structures_give(network, random_model, crystal):
    structures = [crystal(1), Atoms("Cu"), crystal(2).repeat((1, 1, 2))]
    model = random_model(network, pooling="set2set")
    together = predict_property(model, structures)
    assert together == pytest.approx([values(model, one) for one in structures], abs=1e-10)
    assert torch.isfinite(torch.tensor(together)).all()
