"""Estimates of memory, batches that keep to a budget, and what happens when memory runs out all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

import forcefield.evaluation
import forcefield.prediction
from forcefield import GNNCalculator, predict
from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.memory import Size, estimate_bytes, size_of, tensor_bytes
from forcefield.models import load_model
from forcefield.networks.density import LARGEST_BLOCK

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "memory.py"
ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
]
TYPES = ["GPU", "allocator of the CPU", "Python"]


def structures():
    return [bulk("NaCl", "rocksalt", a=5.6 + 0.02 * k) * (1 + k % 3, 1, 1) for k in range(9)]


def test_size_counts_atoms_pairs_and_the_most_neighbours():
    atoms = Atoms("Na3", [[0, 0, 0], [3.0, 0, 0], [6.0, 0, 0]])
    size = size_of(graph_from_atoms(atoms, 4.0))
    assert (size, size.slots) == (Size(3, 4, 2), 6)
    assert size + Size(1, 0, 0) == Size(4, 4, 2) and (size + Size(2, 10, 5)).slots == 25
    assert size_of(graph_from_atoms(Atoms("Na"), 4.0)) == Size(1, 0, 0)


def test_estimate_grows_as_measured_tensors_do():
    potential = GNNCalculator(device="cpu").model.potential
    graphs = [graph_from_atoms(bulk("Ni", cubic=True) * (n, n, n), 5.0) for n in (2, 4)]
    tensors = [tensor_bytes(potential, graph) for graph in graphs]
    found = [estimate_bytes(size_of(graph), potential) for graph in graphs]
    rest = estimate_bytes(Size(0, 0, 0), potential)
    assert (found[1] - rest) / (found[0] - rest) == pytest.approx(8, rel=1e-6)
    assert all(a < b < 4 * a + rest for a, b in zip(tensors, found, strict=True))  # the process needs more than tensors


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured on Linux only")
@pytest.mark.slow
@pytest.mark.parametrize(("crystal", "atoms"), [("NaCl", 1000), ("Ni", 500), ("W", 3456), ("C", 4096)])
def test_estimate_is_near_the_peak_of_a_process(crystal, atoms):
    command = [sys.executable, str(BENCHMARK), "--one", crystal, str(atoms), "float32"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}  # Dask sets some
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=own)
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["estimate"] == pytest.approx(row["peak"], rel=0.25)


def test_precision_and_network_count(tiny_model):
    size = Size(1000, 40_000, 40)
    default = [GNNCalculator(device="cpu", dtype=dtype).model.potential for dtype in ("float32", "float64")]
    single, double, tiny = [estimate_bytes(size, p) for p in (*default, load_model(tiny_model).potential)]
    assert double / single == pytest.approx(2, rel=0.15) and tiny < 0.5 * single
    beyond = [estimate_bytes(Size(n, 40 * n, 40), default[0]) for n in (LARGEST_BLOCK // 40, LARGEST_BLOCK // 20)]
    assert beyond[1] < 1.8 * beyond[0]  # large systems are worked through in blocks


def test_calculator_estimates_before_it_computes(tiny_model):
    calculator = GNNCalculator(tiny_model, device="cpu")
    crystal = bulk("Cu", cubic=True)
    small, large = (calculator.estimate_memory(crystal * (n, n, n)) for n in (2, 3))
    assert isinstance(small, int) and 0 < small < large and not calculator.results
    with pytest.raises(ValueError, match="no structure"):
        calculator.estimate_memory()


def test_batches_keep_to_the_memory(tiny_model, monkeypatch):
    potential = load_model(tiny_model).potential
    graphs = [graph_from_atoms(atoms, potential.cutoff) for atoms in structures()]
    budget = max(estimate_bytes(size_of(graph), potential) for graph in graphs) * 1.02
    batches = list(forcefield.prediction.batches_in_memory(graphs, potential, budget))
    assert [graph for batch in batches for graph in batch] == graphs and 1 < len(batches) < len(graphs)
    assert all(estimate_bytes(sum(map(size_of, batch), Size(0, 0, 0)), potential) <= budget for batch in batches)
    assert all(len(batch) == 1 for batch in forcefield.prediction.batches_in_memory(graphs, potential, 1.0))
    whole = predict(structures(), model=tiny_model, device="cpu", dtype="float64")
    parts = predict(structures(), model=tiny_model, device="cpu", dtype="float64", memory=budget)
    np.testing.assert_allclose([p.energy for p in parts], [p.energy for p in whole], atol=1e-10)
    with pytest.raises(ValueError, match="memory is 0 but must be"):
        predict(structures(), model=tiny_model, device="cpu", memory=0)


def limit_memory(monkeypatch, max_atoms, error, sizes):
    """Let evaluations of more atoms fail as an allocator does."""

    def limited(potential, graph, **options):
        sizes.append(graph.n_atoms)
        if graph.n_atoms > max_atoms:
            raise error
        return evaluate(potential, graph, **options)

    monkeypatch.setattr(forcefield.prediction, "evaluate", limited)
    monkeypatch.setattr(forcefield.evaluation, "evaluate", limited)


@pytest.mark.parametrize("error", ERRORS, ids=TYPES)
def test_out_of_memory_splits_the_batch_and_goes_on(tiny_model, monkeypatch, error):
    options = {"model": tiny_model, "device": "cpu", "dtype": "float64"}
    expected = predict(structures(), **options)
    sizes: list[int] = []
    limit_memory(monkeypatch, 10, error, sizes)
    found = predict(structures(), **options)
    assert max(sizes) == 36 and sum(size for size in sizes if size <= 10) >= 36
    for one, other in zip(found, expected, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-10)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-10)


@pytest.mark.parametrize("error", ERRORS, ids=TYPES)
def test_structure_that_does_not_fit_alone_is_named(tiny_model, monkeypatch, error):
    limit_memory(monkeypatch, 5, error, [])
    with pytest.raises(ValueError, match=r"structure 2: out of memory for this structure alone \(6 atoms, "):
        predict(structures(), model=tiny_model, device="cpu")


def test_other_errors_pass(tiny_model, monkeypatch):
    limit_memory(monkeypatch, 0, RuntimeError("something else"), [])
    with pytest.raises(RuntimeError, match="something else"):
        predict(structures(), model=tiny_model, device="cpu")
