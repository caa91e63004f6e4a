"""What workflows of a crystal begin with: it is relaxed, by the same options and with the same refusals for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase import Atoms

from forcefield.structures import as_atoms
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import (
    RELAXATIONS,
    precise_calculator,
    precision_warning,
    prepare_crystal,
    require_crystal,
    require_package,
    symmetry_change,
)
from forcefield.workflows.relax_result import RelaxResult
from forcefield.workflows.vacuum import describe_vacuum


@dataclass(frozen=True)
class CrystalOptions:
    """How a crystal is relaxed before a workflow, checked; `prepare_crystal` says what they mean.

    The options of a workflow are these and its own.
    """

    relaxation: str = "cell"
    fmax: float = 1.0e-4
    smax: float = 0.01
    steps: int = 1000
    symmetry: bool = True
    symprec: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        if self.relaxation not in RELAXATIONS:
            raise ValueError(f"relaxation is {self.relaxation!r}, but must be one of {', '.join(RELAXATIONS)}.")
        for name in ("fmax", "smax", "symprec"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, but must be 1 or more.")

    def relaxation_options(self, **changes: Any) -> dict[str, Any]:
        """Give the options of `prepare_crystal`, some of them changed."""
        names = ("relaxation", "fmax", "smax", "steps", "symmetry", "symprec")
        return {name: getattr(self, name) for name in names} | changes

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass
class Start:
    """A crystal as a workflow takes it up.

    Attributes:
        atoms: the relaxed crystal, with the calculator attached.
        calculator: an ASE calculator.
        store: keeps forces and structures.
        notes: what to warn of, one sentence each.
        relaxation: how it went; None where it was not done, or in an earlier run.
    """

    atoms: Atoms
    calculator: Any
    store: ForceStore
    notes: list[str]
    relaxation: RelaxResult | None


def start_from(
    structure: Any,
    calculator: Any,
    options: CrystalOptions,
    store: ForceStore | None,
    *,
    workflow: str,
    instead: str,
    packages: Sequence[str] = (),
) -> Start:
    """Relax a crystal, or take it relaxed from the store.

    Args:
        structure: what the user gave: `ase.Atoms` or a pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        options: how to relax.
        store: keeps the relaxed structure; None for none but this run's.
        workflow: what was asked for, as in "phonons need ...".
        instead: what to use for a molecule or slab.
        packages: optional packages that are needed.

    Raises:
        ValueError: if the structure is no crystal, or did not relax.
        ImportError: if a package is not installed.
    """
    given = as_atoms(structure)
    require_crystal(given, workflow, instead=instead)
    for package in packages:
        require_package(package)
    engine = precise_calculator(structure, calculator)
    store = ForceStore() if store is None else store
    outcome: list[RelaxResult | None] = [None]

    def make() -> Atoms:
        atoms, outcome[0] = prepare_crystal(given, engine, **options.relaxation_options())
        return atoms

    atoms = store.structure("relaxed", given, make)
    atoms.calc = engine
    vacuum = describe_vacuum(atoms)
    notes = [precision_warning(engine), symmetry_change(outcome[0])]
    notes.append(None if vacuum is None else f"the cell has {vacuum}: what is per volume counts it")
    return Start(atoms, engine, store, [note for note in notes if note is not None], outcome[0])
