"""Workflows: functions (structure, calculator, *, options) -> result dataclass."""

from __future__ import annotations

from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import RelaxResult, RelaxStep
from forcefield.workflows.relax_setup import OPTIMIZERS, RelaxOptions
from forcefield.workflows.symmetry import SpaceGroup, find_space_group

__all__ = ["OPTIMIZERS", "RelaxOptions", "RelaxResult", "RelaxStep", "SpaceGroup", "find_space_group", "relax"]
