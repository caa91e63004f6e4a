"""The force field as a model of torch-sim (extra `torchsim`): `ForceFieldModel`; see docs/engines.md."""

from __future__ import annotations

from forcefield.torchsim.model import ForceFieldModel

__all__ = ["ForceFieldModel"]
