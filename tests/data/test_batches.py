"""Batches of stored frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from forcefield.data.batches import FEWEST_SLOTS, load_batch, plan_batches
from forcefield.data.store import write_store
from forcefield.graph import collate, graph_from_atoms


def test_batch_is_the_graph_of_the_frames(store, frames):
    chosen = [5, 3, 11, 7, 20, 5]  # a crystal, a slab, a lone atom, a molecule, a crystal, the first again
    graph, _ = load_batch(store, chosen)
    atoms = [Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc) for f in (frames[k] for k in chosen)]
    expected = collate([graph_from_atoms(structure, store.cutoff) for structure in atoms])
    for name in ("numbers", "positions", "cell", "pbc", "edge_index", "edge_shift", "batch"):
        found, wanted = getattr(graph, name), getattr(expected, name)
        assert found.dtype == wanted.dtype, name
        assert torch.equal(found, wanted), name
    assert graph.n_local == expected.n_local == sum(map(len, atoms))
    assert float(graph.edge_vectors().norm(dim=1).max()) < store.cutoff


def test_labels_travel_with_the_batch(store, frames):
    chosen = np.array([3, 0, 7, 11])
    graph, labels = load_batch(store, chosen)
    for row, k in enumerate(chosen):
        frame, atoms = frames[k], graph.batch == row
        assert float(labels.energy[row]) == frame.energy
        assert store.kinds[int(labels.kind[row])] == frame.kind
        for name in ("forces", "atomic_energies"):
            found, label = getattr(labels, name)[atoms].numpy(), getattr(frame, name)
            np.testing.assert_array_equal(found, np.full(found.shape, np.nan) if label is None else label)
        if frame.stress is None:
            assert torch.isnan(labels.stress[row]).all()
        else:
            xx, yy, zz, yz, xz, xy = frame.stress
            np.testing.assert_array_equal(labels.stress[row], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    for name, value in vars(labels).items():
        assert value.dtype == (torch.int64 if name == "kind" else torch.float64), name
    assert labels.to("cpu").energy.shape == (4,)


def test_batch_is_independent_of_the_files(store):
    graph, labels = load_batch(store, [0, 1])
    graph.positions.add_(1.0)
    labels.forces.zero_()
    again, labels_again = load_batch(store, [0, 1])
    assert not torch.equal(again.positions, graph.positions) and bool(labels_again.forces.any())


def padded_edges(store, batch) -> int:
    return int(store.arrays["n_atoms"][batch].sum()) * max(int(store.arrays["max_neighbours"][batch].max()), 1)


@pytest.mark.parametrize("slots", [1, 60, 150, 1000, 10**9])
@pytest.mark.parametrize("window", [4, 10, 4096])
def test_plan_covers_every_frame_once_within_its_slots(store, slots, window):
    plan = plan_batches(store, slots, seed=3, window=window)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(store)))
    for batch in plan:
        assert len(batch) == 1 or padded_edges(store, batch) <= slots
    if slots == 10**9:
        assert len(plan) == -(-len(store) // window)


def test_plan_is_set_by_its_seed(store):
    one, same, other = (plan_batches(store, 150, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert {frozenset(batch.tolist()) for batch in one} != {frozenset(batch.tolist()) for batch in other}


def test_plan_leaves_the_global_random_state_alone(store):
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    plan_batches(store, 150, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_frames_of_like_neighbour_counts_come_together(store):
    most = np.maximum(store.arrays["max_neighbours"], FEWEST_SLOTS)
    ranges = sorted((most[batch].min(), most[batch].max()) for batch in plan_batches(store, 400, seed=0))
    assert len(ranges) > 3
    assert all(highest <= lowest for (_, highest), (lowest, _) in zip(ranges[:-1], ranges[1:], strict=True))


def test_every_batch_of_a_plan_can_be_loaded(store, frames, tmp_path):
    seen = 0
    for batch in plan_batches(store, 200, seed=0):
        graph, labels = load_batch(store, batch)
        assert graph.n_structures == len(batch) == len(labels.energy)
        assert bool((torch.diff(graph.edge_index[0]) >= 0).all()), "edges must be sorted by centre"
        seen += graph.n_atoms
    assert seen == store.first_atom[-1]
    lone = write_store(tmp_path / "lone", [frames[11], frames[11]], 4.0)
    graph, _ = load_batch(lone, plan_batches(lone, 100, seed=0)[0])
    assert graph.n_edges == 0 and graph.n_structures == 2
