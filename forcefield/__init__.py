"""Universal machine-learned force field for materials.

from forcefield import GNNCalculator
atoms.calc = GNNCalculator()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from forcefield.version import __version__

if TYPE_CHECKING:
    from forcefield.calculator import GNNCalculator, OverlapWarning
    from forcefield.models import ModelError, list_models, load_model
    from forcefield.prediction import predict
    from forcefield.screening import screen

_HOME = {
    "GNNCalculator": "forcefield.calculator",
    "OverlapWarning": "forcefield.calculator",
    "ModelError": "forcefield.models",
    "list_models": "forcefield.models",
    "load_model": "forcefield.models",
    "predict": "forcefield.prediction",
    "screen": "forcefield.screening",
}

__all__ = [
    "GNNCalculator",
    "ModelError",
    "OverlapWarning",
    "__version__",
    "list_models",
    "load_model",
    "predict",
    "screen",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that ``import forcefield`` and ``forcefield --help`` are instant."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'forcefield' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
