"""Labels in all the forms that files have them, and the nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk

from forcefield.graph import graph_from_atoms
from forcefield.tasks.model import nearest_edges
from forcefield.tasks.store import write_property_store
from forcefield.tasks.structures import divide, labelled
from forcefield.tasks.task import Task
from forcefield.tasks.tensors import full_tensor


def test_shells_are_kept_whole():
    for atoms, most, expected in ((bulk("Cu", a=3.6), 12, 12), (bulk("Fe", a=2.9), 9, 14), (bulk("Fe", a=2.9), 8, 8)):
        graph = graph_from_atoms(atoms.repeat((2, 1, 1)), 5.0)
        kept = graph.edge_index[0][nearest_edges(graph, most)]
        assert torch.bincount(kept).tolist() == [expected, expected]


def test_an_atom_with_few_neighbours_keeps_them_all():
    graph = graph_from_atoms(bulk("Cu", a=3.6), 3.0)
    assert nearest_edges(graph, 40).all()


def test_voigt_labels_are_tensors():
    stress = full_tensor(np.arange(6.0), "symmetric")
    np.testing.assert_array_equal(stress, [[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    matrix = np.arange(36.0).reshape(6, 6) + np.arange(36.0).reshape(6, 6).T
    tensor = full_tensor(matrix, "elastic")
    assert tensor[0, 0, 1, 2] == matrix[0, 3] and tensor[2, 1, 0, 1] == matrix[3, 5]
    with pytest.raises(ValueError, match="has 5 numbers, but needs 81 or, in Voigt order, 36"):
        full_tensor(np.zeros(5), "elastic")


def test_edge_labels_are_found_from_both_sides(crystal, tmp_path):
    atoms = crystal(0)
    graph = graph_from_atoms(atoms, 3.5)
    (i, j), shift = graph.edge_index[:, 5].tolist(), graph.edge_shift[5].tolist()
    atoms.info["bond"] = [[i, j, *shift, 1.25]]
    task = Task("bond", level="edge")
    store = write_property_store(tmp_path / "store", [labelled(atoms, task)], task, 3.5)
    found, labels = store.batch(np.array([0]))
    marked = torch.nonzero(~torch.isnan(labels))[:, 0]
    assert len(marked) == 2 and labels[marked].tolist() == [1.25, 1.25]
    assert found.edge_index[:, marked].T.tolist() in ([[i, j], [j, i]], [[j, i], [i, j]])
    atoms.info["bond"] = [[0, 1, 9, 0, 0, 1.0]]
    with pytest.raises(ValueError, match="is no edge within 3.5"):
        write_property_store(tmp_path / "other", [labelled(atoms, task)], task, 3.5)


def test_labels_of_the_wrong_size_are_refused(crystal):
    atoms = crystal(0)
    atoms.info["spin"] = [1.0, 2.0]
    with pytest.raises(ValueError, match="a row for each of 4 atoms"):
        labelled(atoms, Task("spin", level="atom"))
    atoms.info["gap"] = float("inf")
    with pytest.raises(ValueError, match="infinite"):
        labelled(atoms, Task("gap"))


def test_division_is_by_material_and_stays_when_data_is_added():
    materials = [f"m{k // 3}" for k in range(60)]
    rest, part = divide(materials, [0.2])
    assert len(part) == 12 and len(rest) == 48
    assert not {materials[k] for k in rest} & {materials[k] for k in part}
    assert [found.tolist() for found in divide(materials, [0.2])] == [rest.tolist(), part.tolist()]
    with pytest.raises(ValueError, match="cannot be divided"):
        divide(materials, [60])


def test_tasks_that_make_no_sense_are_refused():
    for entries, message in (
        ({"level": "node"}, "must be one of graph, atom, edge"),
        ({"shape": "vector", "pooling": "set2set"}, "set2set pools invariant"),
        ({"shape": "vector", "level": "edge"}, "scalars only"),
    ):
        with pytest.raises(ValueError, match=message):
            Task("x", **entries)
