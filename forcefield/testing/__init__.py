"""The physics contract: what any network or calculator must fulfil, measured.

`check_network` puts a network (ours or a reader's) through it, `check_calculator` any ASE calculator. Both return a
list of `CheckResult`, each with the value that was measured and the limit it was held against. `overfit` says whether a
network trains: how far it learns a few structures by heart.
"""

from __future__ import annotations

from forcefield.testing.checks_calculator import CALCULATOR_CHECKS, check_calculator
from forcefield.testing.checks_network import NETWORK_CHECKS, check_network
from forcefield.testing.overfit import Overfit, overfit
from forcefield.testing.results import LIMITS, CheckResult, Limits

__all__ = [
    "CALCULATOR_CHECKS",
    "LIMITS",
    "NETWORK_CHECKS",
    "CheckResult",
    "Limits",
    "Overfit",
    "check_calculator",
    "check_network",
    "overfit",
]
