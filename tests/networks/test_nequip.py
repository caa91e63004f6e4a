"""NequIP's own mechanics: what it sends, reach, options; what all networks share is tested in the files beside."""

from __future__ import annotations

from typing import Any

import ase
import pytest
from torch import Tensor

from forcefield.graph import graph_from_atoms
from forcefield.networks.nequip import NequIP
from forcefield.testing.checks_network import with_ghosts

NEQUIP_FORMS = ["nequip", "nequip: Nequix", "nequip: one layer", "nequip: scalars only"]


@pytest.mark.parametrize("nequip_form", NEQUIP_FORMS)
def test_messages_are_exchanged_once_between_any_two_layers(
    nequip_form: str, small: Any, rattled_crystal: ase.Atoms
) -> None:
    form = small(nequip_form)
    network = form.make().double()
    graph = graph_from_atoms(rattled_crystal, network.cutoff)
    ghosted, owners, _ = with_ghosts(graph, graph.n_atoms)
    shapes = []

    def exchange(features: Tensor) -> Tensor:
        shapes.append(tuple(features.shape))
        return features.index_select(0, owners)

    network(ghosted, ghosted.edge_vectors(), exchange)
    channels = form.hyperparameters["channels"]
    width = sum((2 * l + 1) * c for l, c in enumerate(channels))
    assert shapes == [(graph.n_atoms, width)] * (len(network.layers) - 1)


def test_far_atoms_are_seen_through_the_layers_only(small: Any) -> None:
    atoms = ase.Atoms("NaClOH", positions=[[0, 0, 0], [3.0, 0, 0], [6.0, 0.3, 0], [9.0, 0, 0.4]])
    moved = atoms.copy()
    moved.positions[2, 1] += 0.5
    changes = {}
    for n_layers in (1, 2):
        network = small("nequip", n_layers=n_layers).make().double()
        graphs = [graph_from_atoms(a, network.cutoff) for a in (atoms, moved)]
        before, after = (network(graph, graph.edge_vectors()) for graph in graphs)
        changes[n_layers] = (after - before).abs().tolist()
    assert changes[1][0] == 0.0
    assert changes[2][0] > 1e-8


def test_each_element_has_its_own_self_connection_only_if_asked_for(small: Any) -> None:
    network = small("nequip").make()
    own = sum(p.numel() for p in network.parameters())
    shared = sum(p.numel() for p in small("nequip", self_connection="shared").make().parameters())
    into_hidden, into_last = 6 * 13 + 4 * 4 + 3 * 3, 6 * 6
    assert own - shared == (len(network.elements) - 1) * (into_hidden + into_last)


def test_without_parity_there_are_more_paths_and_only_reflections_are_lost(small: Any, quick: list[str]) -> None:
    options = {"parity": False, "trained_waves": True, "self_connection": "shared"}
    kept = [check for check in quick if check != "reflection"]
    assert not small("nequip", **options).failures(kept)
    assert small("nequip", **options).failures(["reflection"])
    with_parity, without = (small("nequip", parity=parity).make() for parity in (True, False))
    more = set(without.layers[1].convolution.paths) - set(with_parity.layers[1].convolution.paths)
    assert more == {(1, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}


def test_energy_follows_the_switched_cutoff_to_its_end(small: Any) -> None:
    """A dimer leaves the cutoff with one continuous derivative."""
    network = small("nequip", cutoff_onset=3.0).make().double()
    energies = []
    for distance in (3.999, 4.0, 4.001):
        graph = graph_from_atoms(ase.Atoms("OH", positions=[[0, 0, 0], [distance, 0, 0]]), 5.0)
        energies.append(network(graph, graph.edge_vectors()).sum().item())
    assert energies[1] == pytest.approx(energies[2], abs=1e-12)
    assert 1e-12 < abs(energies[0] - energies[1]) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (8, 0)}, "channels"),
        ({"n_layers": 0}, "n_layers"),
        ({"self_connection": "none"}, "'species' or 'shared'"),
        ({"norm": "layer"}, "None or 'rms'"),
        ({"cutoff_onset": 6.0}, "between 0 and the cutoff"),
    ],
)
def test_unknown_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NequIP((11, 17), **options)
