"""Graphs: one convention for vectors, shapes that hold for any structure, batches that are their members."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.neighbours import find_edges

CUTOFF = 4.0


def tilted_crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 0.95, 0.2], [-0.1, 0.0, 1.05]], scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


STRUCTURES = {
    "crystal": tilted_crystal(),
    "left-handed": Atoms("Si", cell=[[0, 2.7, 2.7], [2.7, 2.7, 0], [2.7, 0, 2.7]], pbc=True),
    "slab": fcc111("Al", (2, 1, 2), vacuum=5.0),
    "molecule": molecule("CH3OH"),
    "atom": Atoms("Fe"),
    "nothing": Atoms(),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_vectors_point_from_centre_to_neighbour(name):
    atoms = STRUCTURES[name]
    graph = graph_from_atoms(atoms, CUTOFF)
    i, j = graph.edge_index.numpy()
    expected = atoms.positions[j] + graph.edge_shift.numpy() @ atoms.cell.array - atoms.positions[i]
    np.testing.assert_allclose(graph.edge_vectors().numpy(), expected, atol=1e-12)
    assert np.all(np.linalg.norm(expected, axis=1) < CUTOFF)
    np.testing.assert_allclose(
        sorted(np.linalg.norm(expected, axis=1)),
        sorted(_all_distances(atoms)),
        atol=1e-10,
    )


def _all_distances(atoms):
    """Distances below the cutoff through explicit images, five cells each way along the periodic axes."""
    if not len(atoms):
        return []
    ranges = [range(-5, 6) if periodic else [0] for periodic in atoms.pbc]
    shifts = np.array([[a, b, c] for a in ranges[0] for b in ranges[1] for c in ranges[2]]) @ atoms.cell.array
    vectors = atoms.positions[None, :, None] + shifts - atoms.positions[:, None, None]
    distances = np.linalg.norm(vectors, axis=-1).ravel()
    return distances[(distances < CUTOFF) & (distances > 1e-9)]


@pytest.mark.parametrize("name", STRUCTURES)
def test_types_and_shapes(name):
    atoms = STRUCTURES[name]
    graph = graph_from_atoms(atoms, CUTOFF)
    n, e = len(atoms), graph.n_edges
    expected = {
        "numbers": ((n,), torch.int64),
        "positions": ((n, 3), torch.float64),
        "cell": ((1, 3, 3), torch.float64),
        "pbc": ((1, 3), torch.bool),
        "edge_index": ((2, e), torch.int64),
        "edge_shift": ((e, 3), torch.float64),
        "batch": ((n,), torch.int64),
    }
    for field, (shape, dtype) in expected.items():
        value = getattr(graph, field)
        assert (tuple(value.shape), value.dtype) == (shape, dtype), field
    assert (graph.n_atoms, graph.n_local, graph.n_structures) == (n, n, 1)
    assert torch.all(graph.edge_index[0].diff() >= 0)


def test_every_edge_has_its_reverse():
    graph = graph_from_atoms(tilted_crystal(), CUTOFF)
    edges = {(*pair, *shift) for pair, shift in _edges(graph)}
    assert edges == {(j, i, *(-s for s in shift)) for (i, j), shift in _edges(graph)}


def _edges(graph):
    return [
        (tuple(pair), tuple(int(s) for s in shift))
        for pair, shift in zip(graph.edge_index.T.tolist(), graph.edge_shift.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", STRUCTURES)
def test_atoms_and_graph_share_no_memory(name):
    atoms = STRUCTURES[name].copy()
    graph = graph_from_atoms(atoms, CUTOFF)
    before = [getattr(graph, field).clone() for field in ("numbers", "positions", "cell", "pbc")]
    atoms.positions += 1.0
    atoms.numbers[:] = 99
    atoms.cell[:] += 1.0
    atoms.pbc = ~atoms.pbc
    for field, value in zip(("numbers", "positions", "cell", "pbc"), before, strict=True):
        assert torch.equal(getattr(graph, field), value), field


def test_cell_is_the_users_and_gives_the_volume():
    atoms = fcc111("Al", (1, 1, 3), vacuum=4.0)
    graph = graph_from_atoms(atoms, CUTOFF)
    np.testing.assert_array_equal(graph.cell[0].numpy(), atoms.cell.array)
    left_handed = STRUCTURES["left-handed"]
    assert np.linalg.det(left_handed.cell.array) < 0
    assert float(graph_from_atoms(left_handed, CUTOFF).volume[0]) == pytest.approx(left_handed.get_volume())


def test_graph_is_frozen():
    graph = graph_from_atoms(tilted_crystal(), CUTOFF)
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.n_local = 1


def test_edges_can_be_given():
    atoms = tilted_crystal()
    longer = find_edges(atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF + 1.0)
    graph = graph_from_atoms(atoms, CUTOFF, edges=longer)
    assert graph.n_edges == len(longer.centre)
    short = graph.within(CUTOFF)
    assert sorted(_edges(short)) == sorted(_edges(graph_from_atoms(atoms, CUTOFF)))
    assert torch.all(short.edge_index[0].diff() >= 0)
    assert short.n_edges < graph.n_edges


def test_collate_keeps_every_structure():
    structures = list(STRUCTURES.values())
    graphs = [graph_from_atoms(atoms, CUTOFF) for atoms in structures]
    batch = collate(graphs)
    assert batch.n_structures == len(structures)
    assert batch.atoms_per_structure().tolist() == [len(atoms) for atoms in structures]
    assert batch.n_local == batch.n_atoms == sum(map(len, structures))
    assert torch.all(batch.edge_index[0].diff() >= 0)
    edge_structure = batch.batch[batch.edge_index]
    assert torch.equal(edge_structure[0], edge_structure[1])
    vectors = batch.edge_vectors()
    for k, graph in enumerate(graphs):
        torch.testing.assert_close(vectors[edge_structure[0] == k], graph.edge_vectors(), rtol=0, atol=1e-12)
        assert torch.equal(batch.numbers[batch.batch == k], graph.numbers)
        assert torch.equal(batch.positions[batch.batch == k], graph.positions)


def test_collate_of_batches():
    a, b, c = (graph_from_atoms(STRUCTURES[name], CUTOFF) for name in ("crystal", "molecule", "slab"))
    nested, flat = collate([collate([a, b]), c]), collate([a, b, c])
    for field in dataclasses.fields(Graph):
        left, right = getattr(nested, field.name), getattr(flat, field.name)
        assert left == right if field.name == "n_local" else torch.equal(left, right), field.name


def test_collate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        collate([])


def test_collate_of_ghosts_is_refused():
    graph = graph_from_atoms(tilted_crystal(), CUTOFF)
    ghosted = dataclasses.replace(graph, n_local=1)
    with pytest.raises(ValueError, match="ghost"):
        collate([graph, ghosted])


def test_within_of_a_batch():
    batch = collate([graph_from_atoms(STRUCTURES[name], 5.0) for name in ("crystal", "slab", "molecule")])
    short = batch.within(3.0)
    assert 0 < short.n_edges < batch.n_edges
    assert float(short.edge_vectors().norm(dim=1).max()) < 3.0


def test_to_moves_every_tensor():
    graph = graph_from_atoms(tilted_crystal(), CUTOFF).to("meta")
    for field in dataclasses.fields(Graph):
        value = getattr(graph, field.name)
        assert field.name == "n_local" or value.device.type == "meta", field.name
