"""Workflows: functions (structure, calculator, *, options) -> result dataclass."""

from __future__ import annotations

from forcefield.workflows.adsorption import adsorption
from forcefield.workflows.barrier import neb
from forcefield.workflows.barrier_saddle import saddle
from forcefield.workflows.batched import BatchOutcome, relax_many
from forcefield.workflows.conductivity import ConductivityResult, thermal_conductivity
from forcefield.workflows.defects import defects
from forcefield.workflows.elastic import ElasticResult, elastic_constants
from forcefield.workflows.energetics import energetics
from forcefield.workflows.energetics_hull import energy_above_hull
from forcefield.workflows.equation_of_state import EquationOfStateResult, equation_of_state
from forcefield.workflows.gruneisen import GruneisenResult, gruneisen_parameters
from forcefield.workflows.molecular_dynamics import molecular_dynamics
from forcefield.workflows.phonons import phonons
from forcefield.workflows.phonons_result import PhononResult
from forcefield.workflows.qha import QuasiHarmonicResult, quasi_harmonic
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import RelaxResult, RelaxStep
from forcefield.workflows.relax_setup import OPTIMIZERS, RelaxOptions
from forcefield.workflows.surfaces import surfaces
from forcefield.workflows.symmetry import SpaceGroup, find_space_group
from forcefield.workflows.trajectory_analysis import analyse_trajectory

__all__ = [
    "adsorption",
    "neb",
    "saddle",
    "defects",
    "energetics",
    "energy_above_hull",
    "molecular_dynamics",
    "surfaces",
    "analyse_trajectory",
    "OPTIMIZERS",
    "BatchOutcome",
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
    "relax_many",
    "thermal_conductivity",
]
