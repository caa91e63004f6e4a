"""The benchmark of the ladder: a tiny run from stores to report, and its measure of equivariance."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from forcefield.data.frames import frame_from_atoms
from forcefield.data.store import write_store
from forcefield.networks import NETWORKS
from forcefield.testing.checks_network import potential_around

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ladder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/ladder.py`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("ladder")


def shaken(seed: int) -> Atoms:
    """Four atoms of copper and aluminium with labels from ASE's effective medium theory."""
    atoms = bulk("Cu", "fcc", a=3.8, cubic=True)
    atoms.symbols[: seed % 4] = "Al"
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


def test_a_rung_is_trained_measured_reported_and_not_repeated(ladder: ModuleType, tmp_path: Path) -> None:
    for name, seeds in (("train", range(12)), ("validation", range(20, 26))):
        write_store(tmp_path / name, (frame_from_atoms(shaken(seed)) for seed in seeds), 5.0)
    stores = ["--train", str(tmp_path / "train"), "--validation", str(tmp_path / "validation")]
    options = ladder.parse([*stores, "--output", str(tmp_path / "runs"), "--minutes", "0.01", "--epochs", "1"])
    train_store, validation_store = ladder.stores(options)
    threads = torch.get_num_threads()
    rows = {}
    for comparison in ("time", "epochs"):
        config = ladder.configuration(options, train_store, validation_store, "gcn", comparison)
        rows[comparison] = [ladder.climb(config)]
        assert ladder.climb(config) == rows[comparison][0]
    torch.set_num_threads(threads)
    assert rows["epochs"][0]["atoms_seen"] == 48
    assert rows["time"][0]["equivariance"] < 1e-4
    about = ladder.describe(options, train_store, validation_store, 1.0)
    text = ladder.write_report(tmp_path / "report", rows, about)
    assert text.count("| gcn |") == 2 and "12 frames" in text
    content = json.loads((tmp_path / "report" / "ladder.json").read_text(encoding="utf-8"))
    assert content["time"][0] == rows["time"][0]


def test_forces_that_do_not_turn_with_the_structure_are_found_out(
    ladder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = NETWORKS["painn"]((13, 29), channels=8, n_layers=1)
    structures = [shaken(seed) for seed in range(3)]
    assert ladder.equivariance_error(potential_around(network).with_dtype(torch.float64), structures) < 1e-10
    features = network.features
    direction = torch.tensor([1.0, 0.5, -0.2], dtype=torch.float64)

    def lopsided(graph, vectors, exchange=None):
        scalars, energies = features(graph, vectors, exchange)
        return scalars, energies.index_add(0, graph.edge_index[0], (vectors @ direction).cos())

    monkeypatch.setattr(network, "features", lopsided)
    assert ladder.equivariance_error(potential_around(network).with_dtype(torch.float64), structures) > 1e-2


def test_one_store_alone_is_refused(ladder: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ladder.parse(["--train", "somewhere"])
    assert "neither of them" in capsys.readouterr().err
    assert np.isclose(ladder.parse(["--quick"]).minutes, ladder.QUICK["minutes"])
