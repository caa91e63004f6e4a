"""The contract of a calculator: every check that needs nothing but ASE's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from ase.calculators.calculator import Calculator

from forcefield.testing import derivatives, state, symmetry
from forcefield.testing.results import LIMITS, Check, CheckResult, Limits, Subject, observe, run_checks, selected
from forcefield.testing.structures import TestStructures, build_structures, candidate_pairs

CALCULATOR_CHECKS: Mapping[str, Check] = {
    "global state": state.leaves_global_state,
    "input not mutated": state.leaves_atoms,
    "translation": symmetry.translation,
    "rotation": symmetry.rotation,
    "reflection": symmetry.reflection,
    "permutation": symmetry.permutation,
    "lattice-vector shift": symmetry.lattice_shift,
    "cell basis": symmetry.cell_basis,
    "supercell": symmetry.supercell,
    "one-atom cell": symmetry.one_atom,
    "no neighbours": symmetry.no_neighbours,
    "far fragments": symmetry.far_fragments,
    "net force": symmetry.net_force,
    "smooth: dimer": derivatives.smooth_dimer,
    "smooth: crystal": derivatives.smooth_crystal,
    **{
        f"forces: {name}": partial(derivatives.forces_are_slopes, structure=name)
        for name in ("triclinic", "left_handed", "slab", "molecule", "one_atom_cell")
    },
    **{
        f"stress: {name}": partial(derivatives.stress_is_slope, structure=name)
        for name in ("triclinic", "left_handed", "one_atom_cell")
    },
    "energy conservation": derivatives.conserved_energy,
    "no memory": state.forgets,
    "pickle": state.survives_pickle,
    "deep copy": state.survives_deepcopy,
}
"""Name of each check and what runs it."""


def check_calculator(
    calculator: Calculator | Callable[[], Calculator],
    *,
    elements: Sequence[str | int] | None = None,
    precision: str | None = None,
    limits: Limits | None = None,
    only: Sequence[str] | None = None,
    progress: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Put any ASE calculator through the physics contract.

    Args:
        calculator: a calculator, or a class or function that makes one when called without arguments; only the
            latter shows what its construction does to the process.
        elements: symbols or atomic numbers that it knows; without them, usual pairs are tried until one is accepted.
        precision: "float64" or "float32", which sets the limits; read from the calculator's ``dtype`` if not given,
            and float64 where it has none.
        limits: other limits than those of the precision.
        only: names of the checks wanted, see `CALCULATOR_CHECKS`.
        progress: called with each result as it comes.

    Returns:
        One result for each check, in the order of `CALCULATOR_CHECKS`.

    Raises:
        ValueError: the calculator accepted none of the test structures, or an argument is unknown.
    """
    only = selected(only, list(CALCULATOR_CHECKS))
    factory = None if isinstance(calculator, Calculator) else calculator
    instance = calculator if isinstance(calculator, Calculator) else calculator()
    subject = Subject(instance, accepted_structures(instance, elements), _limits(instance, precision, limits), factory)
    return run_checks(CALCULATOR_CHECKS, subject, only, progress)


def _limits(calculator: Calculator, precision: str | None, limits: Limits | None) -> Limits:
    if limits is not None:
        return limits
    if precision is None:
        precision = "float32" if "float32" in str(getattr(calculator, "dtype", "float64")) else "float64"
    if precision not in LIMITS:
        raise ValueError(f"unknown precision {precision!r}; choose from {list(LIMITS)}")
    return LIMITS[precision]


def accepted_structures(calculator: Calculator, elements: Sequence[str | int] | None) -> TestStructures:
    """Test structures of the first pair of elements for which the calculator gives a finite energy.

    Args:
        calculator: the calculator.
        elements: what it knows; None to find out.

    Raises:
        ValueError: it gave one for none of them.
    """
    if elements is not None and len(elements) == 0:
        raise ValueError("elements is empty; name at least one that the calculator knows, or leave it out")
    refusals = []
    for pair in candidate_pairs(elements):
        structures = build_structures(*pair)
        try:
            seen = observe(calculator, structures.triclinic)
        except Exception as error:  # how a calculator refuses an element is its own affair
            refusals.append(f"{'-'.join(pair)}: {type(error).__name__}: {error}")
            continue
        if np.isfinite(seen.energy) and np.isfinite(seen.forces).all():
            return structures
        refusals.append(f"{'-'.join(pair)}: energy {seen.energy}")
    raise ValueError(
        "the calculator accepted no test structure; name the elements that it knows with elements=[...]. "
        f"What it said: {'; '.join(refusals)}"
    )
