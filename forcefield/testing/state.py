"""Checks that a calculator leaves the user's objects and the process as it found them."""

from __future__ import annotations

import copy
import os
import pickle
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms

from forcefield.testing.results import CheckResult, Deviation, Subject, compare, deviations, judge, observe


def global_state() -> dict[str, Any]:
    """Settings of the process that no calculator has any business to change."""
    return {
        "torch default dtype": torch.get_default_dtype(),
        "torch default device": str(torch.get_default_device()),
        "torch threads": torch.get_num_threads(),
        "torch gradient mode": torch.is_grad_enabled(),
        "torch deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch matmul precision": torch.get_float32_matmul_precision(),
        "cudnn flags": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "torch random state": torch.get_rng_state().numpy().tobytes(),
        "numpy random state": pickle.dumps(np.random.get_state()),
        "python random state": random.getstate(),
        "numpy error handling": np.geterr(),
        "numpy print options": str(np.get_printoptions()),
        "warning filters": [str(entry) for entry in warnings.filters],
        "environment variables": dict(os.environ),
        "working directory": os.getcwd(),
    }


def changed_settings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of the settings that differ."""
    return [name for name in before if before[name] != after[name]]


def leaves_global_state(subject: Subject) -> CheckResult:
    """Build the calculator (where a factory was given) and compute; compare the process before and after."""
    before = global_state()
    calculator = subject.calculator if subject.factory is None else subject.factory()
    for atoms in (subject.structures.left_handed, subject.structures.molecule):
        observe(calculator, atoms)
    changed = changed_settings(before, global_state())
    message = f"changed: {', '.join(changed)}" if changed else f"{len(before)} settings of the process unchanged"
    return CheckResult("global state", not changed, float(len(changed)), 0.0, message)


def leaves_atoms(subject: Subject) -> CheckResult:
    """The user's Atoms keep every array, cell, flag, constraint and info entry, also with atoms outside the cell."""
    changed: list[str] = []
    for name, atoms in subject.structures.named():
        given = atoms.copy()
        given.positions[0] += 3.0 * given.cell.array[0] * given.pbc[0]
        given.info["note"] = {"kept": [1, 2]}
        given.new_array("label", np.arange(len(given)))
        given.set_constraint(FixAtoms([0]))
        before = _contents(given)
        given.calc = subject.calculator
        given.get_potential_energy()
        given.get_forces()
        if np.all(given.pbc) and "stress" in subject.calculator.implemented_properties:
            given.get_stress()
        after = _contents(given)
        changed += [
            f"{key} of the {name} structure" for key in {**before, **after} if before.get(key) != after.get(key)
        ]
    message = (
        f"changed: {', '.join(changed)}" if changed else "positions, cell, pbc, arrays, info, constraints unchanged"
    )
    return CheckResult("input not mutated", not changed, float(len(changed)), 0.0, message)


def _contents(atoms: Atoms) -> dict[str, Any]:
    contents: dict[str, Any] = {name: (values.dtype.str, values.tobytes()) for name, values in atoms.arrays.items()}
    contents.update(cell=atoms.cell.array.tobytes(), pbc=atoms.pbc.tobytes(), info=repr(atoms.info))
    contents.update(constraints=repr([constraint.todict() for constraint in atoms.constraints]))
    return contents


def survives_pickle(subject: Subject) -> CheckResult:
    """A pickled and reloaded calculator gives the same results."""
    return _copied(subject, "pickle", lambda calculator: pickle.loads(pickle.dumps(calculator)))


def survives_deepcopy(subject: Subject) -> CheckResult:
    """A deep copy gives the same results."""
    return _copied(subject, "deep copy", copy.deepcopy)


def _copied(subject: Subject, name: str, duplicate: Callable[[Calculator], Calculator]) -> CheckResult:
    atoms = subject.structures.left_handed
    expected = subject.observe(atoms)
    calculator = duplicate(subject.calculator)
    calculator.reset()  # results that were copied along would prove nothing
    return compare(name, subject.limits, expected, subject.observe(atoms, calculator))


def forgets(subject: Subject) -> CheckResult:
    """Results do not depend on what was computed before: other cells, numbers of atoms, small and large motion."""
    structures = subject.structures
    moved = structures.triclinic.copy()
    moved.positions[2] += 0.3
    strained = moved.copy()
    strained.set_cell(moved.cell.array * 1.1, scale_atoms=True)
    swapped = structures.triclinic.copy()
    swapped.symbols[[0, 1]] = swapped.symbols[[1, 0]]
    free = structures.triclinic.copy()
    free.pbc = False
    sequence: list[Atoms] = [structures.triclinic, moved, strained, swapped, structures.molecule, free]
    sequence += [structures.slab, moved]
    expected = {}
    for k, atoms in enumerate(sequence):
        fresh = copy.deepcopy(subject.calculator) if subject.factory is None else subject.factory()
        observe(fresh, structures.atom)  # a calculator without a factory drops what it knows of the sequence
        expected[k] = observe(fresh, atoms)
    differences: list[Deviation] = []
    for k, atoms in enumerate(sequence):
        differences += deviations(subject.limits, expected[k], subject.observe(atoms), len(atoms))
    return judge("no memory", differences)
