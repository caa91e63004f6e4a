"""What every test runs under: a fixed random seed, and PyTorch's and NumPy's global state left as it was found."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers
from hypothesis import HealthCheck, settings

from forcefield.models import save_model
from forcefield.networks import build_network
from forcefield.potential import Potential

settings.register_profile(
    "forcefield",
    deadline=None,  # the machine may be busy with other work
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("forcefield")


def global_state() -> dict[str, Any]:
    """Settings of the process that the package must never change."""
    return {
        "default dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "NumPy error handling": np.geterr(),
    }


def restore_global_state(state: dict[str, Any]) -> None:
    """Put the settings of `global_state` back, so that one failing test does not fail the next."""
    torch.set_default_dtype(state["default dtype"])
    torch.set_num_threads(state["threads"])
    torch.set_grad_enabled(state["gradients enabled"])
    torch.use_deterministic_algorithms(state["deterministic algorithms"])
    np.seterr(**state["NumPy error handling"])


@pytest.fixture(autouse=True)
def global_state_is_left_alone() -> Iterator[None]:
    """Seed PyTorch for the test alone and fail the test if it leaves a global setting changed."""
    before = global_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    after = global_state()
    if after != before:
        restore_global_state(before)
    assert after == before, "the test, or the code it called, changed a global setting"


TINY_ELEMENTS = {
    "H": -1.1,
    "C": -1.3,
    "O": -1.6,
    "Na": -0.2,
    "Mg": -0.1,
    "Al": -0.3,
    "Si": -0.8,
    "Cl": -0.3,
    "Cu": -0.7,
}
"""Elements of the tiny model with the energies of their free atoms (eV)."""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a complete but small and untrained model, smooth enough for molecular dynamics."""
    hyperparameters = {
        **{"cutoff": 4.0, "channels": 8, "n_radial": 4, "species_channels": 4, "message_scalars": 4},
        **{"message_vectors": 4, "hidden": 8, "mean_neighbours": 15.0},
    }
    isolated = {atomic_numbers[symbol]: energy for symbol, energy in TINY_ELEMENTS.items()}
    bound = {number: -2.0 - 0.02 * number for number in isolated}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build_network("density", sorted(isolated), **hyperparameters)
    potential = Potential(network, isolated_energies=isolated, bound_energies=bound, scale=0.3)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_model(folder, potential, network="density", hyperparameters=hyperparameters, licence="MIT")


@pytest.fixture(autouse=True, scope="session")
def interrupts_reach_subprocesses() -> Iterator[None]:
    """Under nohup or in the background Ctrl-C is ignored, and processes started by tests would inherit that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)
    else:
        yield
