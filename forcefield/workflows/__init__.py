"""Workflows: functions (structure, calculator, *, options) -> result dataclass."""

from __future__ import annotations

from forcefield.workflows.conductivity import ConductivityResult, thermal_conductivity
from forcefield.workflows.elastic import ElasticResult, elastic_constants
from forcefield.workflows.equation_of_state import EquationOfStateResult, equation_of_state
from forcefield.workflows.gruneisen import GruneisenResult, gruneisen_parameters
from forcefield.workflows.phonons import phonons
from forcefield.workflows.phonons_result import PhononResult
from forcefield.workflows.qha import QuasiHarmonicResult, quasi_harmonic
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import RelaxResult, RelaxStep
from forcefield.workflows.relax_setup import OPTIMIZERS, RelaxOptions
from forcefield.workflows.symmetry import SpaceGroup, find_space_group

__all__ = [
    "OPTIMIZERS",
    "ConductivityResult",
    "ElasticResult",
    "EquationOfStateResult",
    "GruneisenResult",
    "PhononResult",
    "QuasiHarmonicResult",
    "RelaxOptions",
    "RelaxResult",
    "RelaxStep",
    "SpaceGroup",
    "elastic_constants",
    "equation_of_state",
    "find_space_group",
    "gruneisen_parameters",
    "phonons",
    "quasi_harmonic",
    "relax",
    "thermal_conductivity",
]
