"""Every network of the package fulfils the physics contract in float64."""

from __future__ import annotations

from functools import cache

import pytest

from forcefield.networks import NETWORKS
from forcefield.testing import NETWORK_CHECKS, check_network

ELEMENTS = [11, 17]
SMALL = {
    "density": {
        "cutoff": 4.0,
        "channels": 6,
        "n_radial": 4,
        "species_channels": 4,
        "message_scalars": 4,
        "message_vectors": 3,
        "hidden": 8,
    },
    "mace": {"cutoff": 4.0, "channels": 4, "n_radial": 4, "radial_hidden": (8,), "readout_hidden": 4},
    "nequip": {"cutoff": 4.0, "channels": (6, 4, 3), "n_radial": 4, "radial_hidden": (8,)},
}
"""Hyperparameters that keep every part of the architecture and make it quick."""


@cache
def results(name):
    """All checks of one network by name of the check, run once."""
    options = SMALL[name]
    found = check_network(lambda: NETWORKS[name](ELEMENTS, **options), hyperparameters=options)
    return dict(zip(NETWORK_CHECKS, found, strict=True))


def test_every_network_is_covered():
    assert set(NETWORKS) <= set(SMALL), "give the new network small hyperparameters here"


@pytest.mark.parametrize("check", NETWORK_CHECKS)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_contract(name, check):
    result = results(name)[check]
    assert result.passed, result.message
    assert not result.skipped, result.message
