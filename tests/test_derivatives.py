"""Forces, stress and Hessian against finite differences and against differentiation through positions and strain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from forcefield.derivatives import edge_pull, evaluate, hessian, hessian_vector_product, second_derivative
from forcefield.graph import collate, graph_from_atoms
from forcefield.networks.density import DensityNetwork
from forcefield.potential import Potential

CUTOFF = 3.8


@pytest.fixture(scope="module")
def potential():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = DensityNetwork([8, 12], cutoff=CUTOFF, channels=6, n_radial=4, hidden=8, message_vectors=3).double()
    return Potential(network, isolated_energies={8: -1.0, 12: -0.5}, bound_energies={8: -3.0, 12: -2.0}, scale=2.0)


def crystal():
    atoms = bulk("MgO", "rocksalt", a=4.2).repeat((2, 1, 1))
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.08, 0.0], [0.05, 0.95, 0.1], [-0.1, 0.0, 1.05]], scale_atoms=True)
    atoms.rattle(0.12, seed=2)
    return atoms


def left_handed():
    atoms = crystal()
    atoms.set_cell(atoms.cell.array[[2, 1, 0]])
    assert np.linalg.det(atoms.cell.array) < 0
    return atoms


def molecule():
    return Atoms("MgOMgO", positions=[[0, 0, 0], [1.8, 0.3, 0], [2.2, 2.0, 0.4], [0.2, 1.9, 0.9]])


def one_atom():
    return Atoms("Mg", cell=[[0.0, 1.9, 1.6], [2.1, 0.2, 1.7], [1.8, 1.8, 0.0]], pbc=True)


def energy_of(potential, atoms):
    graph = graph_from_atoms(atoms, CUTOFF)
    return float(potential(graph, graph.edge_vectors()).detach().sum())


def slope(function, step=1e-3):
    return (8 * (function(step) - function(-step)) - function(2 * step) + function(-2 * step)) / (12 * step)


def moved(atoms, atom, axis, distance):
    changed = atoms.copy()
    changed.positions[atom, axis] += distance
    return changed


def strained(atoms, strain):
    changed = atoms.copy()
    changed.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return changed


@pytest.mark.parametrize("make", [crystal, left_handed, molecule])
def test_forces_are_minus_gradient(potential, make):
    atoms = make()
    forces = evaluate(potential, graph_from_atoms(atoms, CUTOFF)).forces.numpy()
    for atom in range(len(atoms)):
        for axis in range(3):
            gradient = slope(lambda t, a=atom, k=axis: energy_of(potential, moved(atoms, a, k, t)))
            assert forces[atom, axis] == pytest.approx(-gradient, abs=2e-8, rel=1e-7)
    assert np.abs(forces).max() > 0.1


@pytest.mark.parametrize("make", [crystal, left_handed, one_atom])
def test_stress_is_strain_gradient_per_volume(potential, make):
    atoms = make()
    stress = evaluate(potential, graph_from_atoms(atoms, CUTOFF)).stress[0].numpy()
    for a in range(3):
        for b in range(3):
            direction = np.zeros((3, 3))
            direction[a, b] += 0.5
            direction[b, a] += 0.5
            gradient = slope(lambda t, d=direction: energy_of(potential, strained(atoms, t * d)), step=3e-4)
            assert stress[a, b] == pytest.approx(gradient / atoms.get_volume(), abs=1e-8)
    assert np.abs(stress).max() > 1e-3


def through_positions_and_strain(potential, graph):
    """Forces and stress by automatic differentiation with respect to positions and a strain of each structure."""
    positions = graph.positions.clone().requires_grad_()
    strain = torch.zeros(graph.n_structures, 3, 3, dtype=torch.float64, requires_grad=True)
    deformation = torch.eye(3, dtype=torch.float64) + 0.5 * (strain + strain.transpose(1, 2))
    where = torch.einsum("ax,axy->ay", positions, deformation[graph.batch])
    cell = graph.cell @ deformation
    i, j = graph.edge_index
    vectors = where[j] - where[i] + torch.einsum("ek,ekx->ex", graph.edge_shift, cell[graph.batch[i]])
    energy = potential(graph, vectors).sum()
    gradient, strain_gradient = torch.autograd.grad(energy, [positions, strain])
    return -gradient, strain_gradient / torch.linalg.det(graph.cell).abs()[:, None, None]


def test_agrees_with_differentiation_through_positions_and_strain(potential):
    graph = collate([graph_from_atoms(make(), CUTOFF) for make in (crystal, left_handed, one_atom)])
    forces, stress = through_positions_and_strain(potential, graph)
    prediction = evaluate(potential, graph)
    torch.testing.assert_close(prediction.forces, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(prediction.stress, stress, rtol=0, atol=1e-13)


def test_prediction_of_a_batch(potential):
    structures = [crystal(), molecule(), one_atom(), Atoms("O")]
    batch = evaluate(potential, collate([graph_from_atoms(atoms, CUTOFF) for atoms in structures]))
    start = 0
    for k, atoms in enumerate(structures):
        single = evaluate(potential, graph_from_atoms(atoms, CUTOFF))
        part = slice(start, start + len(atoms))
        assert float(batch.energy[k]) == pytest.approx(float(single.energies.sum()), abs=1e-12)
        torch.testing.assert_close(batch.energies[part], single.energies, rtol=0, atol=1e-12)
        torch.testing.assert_close(batch.forces[part], single.forces, rtol=0, atol=1e-12)
        start += len(atoms)


def test_prediction_is_detached_unless_training(potential):
    graph = graph_from_atoms(crystal(), CUTOFF)
    prediction = evaluate(potential, graph, descriptors=True)
    assert prediction.descriptors is not None and prediction.descriptors.shape == (4, 6)
    assert not any(value.requires_grad for value in vars(prediction).values())
    training = evaluate(potential, graph, training=True)
    assert training.energy.requires_grad and training.forces.requires_grad and training.stress.requires_grad
    torch.testing.assert_close(training.forces.detach(), prediction.forces, rtol=0, atol=1e-12)


def test_structures_without_volume_do_not_spoil_the_training_gradient(potential):
    """A loss on the stress of the crystals in a batch has finite gradients whatever else is in the batch."""
    graph = collate([graph_from_atoms(atoms, CUTOFF) for atoms in (crystal(), molecule(), Atoms("Mg"))])
    alone = graph_from_atoms(crystal(), CUTOFF)
    parameters = list(potential.network.parameters())
    expected, found = (
        torch.autograd.grad(
            evaluate(potential, each, training=True).stress[:1].square().sum(), parameters, allow_unused=True
        )
        for each in (alone, graph)
    )
    for one, other in zip(expected, found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-14)


def test_no_edges(potential):
    prediction = evaluate(potential, graph_from_atoms(Atoms("MgO", positions=[[0, 0, 0], [0, 0, 30]]), CUTOFF))
    assert prediction.energies.tolist() == [-0.5, -1.0]
    assert prediction.forces.tolist() == [[0.0] * 3] * 2
    vectors = torch.zeros(0, 3, dtype=torch.float64)
    assert edge_pull(torch.zeros(2), vectors).shape == (0, 3)


@pytest.mark.parametrize("make", [crystal, molecule])
@pytest.mark.parametrize("chunk", [5, 100])
def test_hessian_is_gradient_of_forces(potential, make, chunk):
    atoms = make()
    done = []
    matrix = hessian(
        potential, graph_from_atoms(atoms, CUTOFF), chunk=chunk, progress=lambda n, total: done.append((n, total))
    ).numpy()
    size = 3 * len(atoms)
    assert matrix.shape == (size, size)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert done[-1] == (size, size) and len(done) == -(-size // chunk)
    for atom in range(len(atoms)):
        for axis in range(3):

            def forces(distance, a=atom, k=axis):
                graph = graph_from_atoms(moved(atoms, a, k, distance), CUTOFF)
                return evaluate(potential, graph).forces.numpy().ravel()

            np.testing.assert_allclose(matrix[3 * atom + axis], -slope(forces), atol=3e-7)


def test_hessian_of_translations_vanishes(potential):
    for atoms in (crystal(), molecule(), one_atom()):
        matrix = hessian(potential, graph_from_atoms(atoms, CUTOFF)).numpy()
        for axis in range(3):
            together = np.tile(np.eye(3)[axis], len(atoms))
            np.testing.assert_allclose(matrix @ together, 0.0, atol=1e-10)


def test_hessian_of_a_free_molecule_has_rotations_at_rest(potential):
    """At a structure without forces, rotations of a molecule cost nothing either."""
    atoms = Atoms("MgO", positions=[[0, 0, 0], [0, 0, 1.75]])

    def force(distance):
        pair = Atoms("MgO", positions=[[0, 0, 0], [0, 0, distance]])
        return float(evaluate(potential, graph_from_atoms(pair, CUTOFF)).forces[1, 2])

    grid = np.linspace(1.2, 3.4, 45)
    values = [force(distance) for distance in grid]
    k = next(k for k in range(44) if values[k] * values[k + 1] < 0)
    low, high = grid[k], grid[k + 1]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if force(middle) * values[k] > 0 else (low, middle)
    atoms.positions[1, 2] = low
    eigenvalues = np.linalg.eigvalsh(hessian(potential, graph_from_atoms(atoms, CUTOFF)).numpy())
    assert np.sum(np.abs(eigenvalues) < 1e-8) == 5
    assert np.abs(eigenvalues).max() > 0.1


def test_hessian_of_an_isolated_atom_is_zero(potential):
    assert not hessian(potential, graph_from_atoms(Atoms("O"), CUTOFF)).any()


def test_hessian_of_a_batch_is_refused(potential):
    graph = graph_from_atoms(molecule(), CUTOFF)
    with pytest.raises(ValueError, match="batch of 2"):
        hessian(potential, collate([graph, graph]))


def test_hessian_vector_product_of_a_batch(potential):
    structures = [crystal(), molecule()]
    graphs = [graph_from_atoms(atoms, CUTOFF) for atoms in structures]
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    products = hessian_vector_product(potential, collate(graphs), directions)
    for graph, part in zip(graphs, (slice(0, 4), slice(4, 8)), strict=True):
        expected = hessian(potential, graph) @ directions[part].ravel()
        torch.testing.assert_close(products[part].ravel(), expected, rtol=0, atol=1e-10)


def test_second_derivative_along_a_strain(potential):
    """Changes of forces and of volume times stress against finite differences of strained crystals."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.1, seed=1)
    generator = np.random.default_rng(3)
    strain, direction = generator.normal(size=(3, 3)) * 0.1, generator.normal(size=(8, 3))
    strain = strain + strain.T
    found = second_derivative(
        potential,
        graph_from_atoms(atoms, potential.cutoff),
        torch.from_numpy(direction),
        torch.from_numpy(strain[None]),
    )
    forces, virials = [], []
    step = 1e-5
    for sign in (1, -1):
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        moved.positions += sign * step * direction
        prediction = evaluate(potential, graph_from_atoms(moved, potential.cutoff))
        forces.append(prediction.forces.numpy())
        virials.append(prediction.stress[0].numpy() * moved.get_volume())
    np.testing.assert_allclose(found[0].detach().numpy(), (forces[1] - forces[0]) / (2 * step), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        found[1][0].detach().numpy(), (virials[0] - virials[1]) / (2 * step), rtol=1e-6, atol=1e-5
    )
