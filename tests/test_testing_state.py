"""The contract's watch over the process: whatever setting a calculator changes is named."""

from __future__ import annotations

import os
import random
import warnings

import numpy as np
import pytest
import torch
from ase.calculators.emt import EMT

from forcefield.testing import check_calculator


def _changes():
    return {
        "torch default dtype": lambda: torch.set_default_dtype(torch.float64),
        "torch random state": lambda: torch.manual_seed(1),
        "torch gradient mode": lambda: torch.set_grad_enabled(False),
        "torch deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
        "torch matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
        "torch threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        "numpy random state": lambda: np.random.seed(7),
        "python random state": lambda: random.seed(7),
        "numpy error handling": lambda: np.seterr(under="raise"),
        "warning filters": lambda: warnings.simplefilter("ignore", ImportWarning),
        "environment variables": lambda: os.environ.update(FORCEFIELD_TEST="1"),
    }


@pytest.mark.parametrize("setting", _changes())
@pytest.mark.parametrize("when", ["construction", "calculation"])
def test_changed_global_state_is_caught(setting, when):
    change = _changes()[setting]

    class Careless(EMT):
        def __init__(self):
            super().__init__()
            if when == "construction":
                self.disturb()

        def disturb(self):
            if armed:
                change()

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            if when == "calculation":
                self.disturb()

    armed = False
    results = check_calculator(Careless, elements=["Cu", "Al"], only=["global state"])
    assert results[0].passed, results[0].message
    with _everything_restored():
        subject_checks = iter([True])

        def factory():
            nonlocal armed
            calculator = Careless() if next(subject_checks, None) else None
            if calculator is None:  # the second one is made inside the check
                armed = True
                calculator = Careless()
            return calculator

        result = check_calculator(factory, elements=["Cu", "Al"], only=["global state"])[0]
    assert not result.passed
    assert result.message == f"changed: {setting}"


class _everything_restored:
    def __enter__(self):
        self.torch = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.precision = torch.get_float32_matmul_precision()
        self.random = torch.get_rng_state(), np.random.get_state(), random.getstate()
        self.errors, self.environment = np.geterr(), dict(os.environ)
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()

    def __exit__(self, *details):
        self.warnings.__exit__(*details)
        torch.set_default_dtype(self.torch[0])
        torch.set_num_threads(self.torch[1])
        torch.set_grad_enabled(self.torch[2])
        torch.use_deterministic_algorithms(self.deterministic)
        torch.set_float32_matmul_precision(self.precision)
        torch.set_rng_state(self.random[0])
        np.random.set_state(self.random[1])
        random.setstate(self.random[2])
        np.seterr(**self.errors)
        os.environ.clear()
        os.environ.update(self.environment)
