"""What every test runs under: a fixed random seed, and PyTorch's and NumPy's global state left as it was found."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

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
