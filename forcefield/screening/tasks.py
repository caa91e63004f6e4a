"""What can be done with each structure: workflows of this package by name, or any function.

A task gives a mapping. Its "ok" and "verdict" say how it went, "atoms" is a structure to keep, and the rest are the
values of the table: numbers, texts, lists, or mappings of these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from forcefield.suggest import nearest
from forcefield.workflows.elastic import ElasticOptions, elastic_constants
from forcefield.workflows.equation_of_state import EquationOptions, equation_of_state
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import INTERRUPTED, RelaxResult
from forcefield.workflows.relax_setup import RelaxOptions

Function = Callable[..., Any]
RELAXED = ("formula", "n_atoms", "steps", "energy", "energy_per_atom", "max_force", "pressure", "volume_change")
VOLUMES = (
    *("formula", "n_atoms", "equilibrium_volume", "equilibrium_energy", "bulk_modulus", "bulk_modulus_derivative"),
    "residual",
)
TENSORS = ("formula", "n_atoms", "moduli", "tensor", "eigenvalues", "residual")


@dataclass(frozen=True)
class NoOptions:
    """Options of a task that has none."""


@dataclass(frozen=True)
class NamedTask:
    """A task of this package.

    Attributes:
        function: (atoms, calculator, **options) -> mapping.
        options: dataclass that knows and checks the options.
        precision: of the model, where the user names no calculator.
    """

    function: Function
    options: type
    precision: str

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse impossible options before any structure is read.

        Raises:
            ValueError: in one line.
        """
        known = [field.name for field in dataclasses.fields(self.options)]
        for name in options:
            if name not in known:
                raise ValueError(f"there is no option {name!r}{nearest(name, known) if known else ''}")
        given = dict(options)
        if self.options is RelaxOptions:
            given["cell"] = bool(given.get("cell"))  # None chooses for each structure
        try:
            self.options(**given)
        except TypeError as error:  # a text where a number belongs
            raise ValueError(f"the options {given} cannot be used ({error})") from error


def predict_one(atoms: Atoms, calculator: Any) -> dict[str, Any]:
    """Energy, largest force and pressure of a structure as it is."""
    result = relax(atoms, calculator, steps=0)
    values = _chosen(result, ("formula", "n_atoms", "energy", "energy_per_atom", "max_force", "pressure"))
    return {"ok": True, "verdict": "computed", "atoms": result.atoms, **values}


def relax_one(atoms: Atoms, calculator: Any, **options: Any) -> dict[str, Any]:
    """Relax a structure; of a crystal the cell too, unless `cell` says otherwise. "note" tells of a cell with vacuum.

    Raises:
        KeyboardInterrupt: after Ctrl-C, since a relaxation that was cut short is not done.
    """
    result = relax(atoms, calculator, **{"cell": None, **options})
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt
    before, after = result.spacegroup_before, result.spacegroup_after
    groups = {
        "spacegroup_before": None if before is None else str(before),
        "spacegroup_after": None if after is None else str(after),
    }
    kept = {**_chosen(result, RELAXED), **groups, "note": result.notice}
    return {"ok": result.converged, "verdict": result.verdict, "atoms": result.atoms, **kept}


def eos_one(atoms: Atoms, calculator: Any, **options: Any) -> dict[str, Any]:
    """Equilibrium volume and bulk modulus of a crystal."""
    record = equation_of_state(atoms, calculator, **options).to_dict()
    return {name: record[name] for name in ("ok", "verdict", *VOLUMES)}


def elastic_one(atoms: Atoms, calculator: Any, **options: Any) -> dict[str, Any]:
    """Elastic tensor and moduli of a crystal."""
    record = elastic_constants(atoms, calculator, **options).to_dict()
    return {name: record[name] for name in ("ok", "verdict", "atoms", *TENSORS)}


def _chosen(result: RelaxResult, names: tuple[str, ...]) -> dict[str, Any]:
    record = result.to_dict()
    return {name: record[name] for name in names}


TASKS: dict[str, NamedTask] = {
    "predict": NamedTask(predict_one, NoOptions, "float32"),
    "relax": NamedTask(relax_one, RelaxOptions, "float32"),
    "eos": NamedTask(eos_one, EquationOptions, "float64"),
    "elastic": NamedTask(elastic_one, ElasticOptions, "float64"),
}
"""Tasks by name."""


def find_task(name: str) -> NamedTask:
    """Look a task of this package up.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}{nearest(name, TASKS)}")
    return TASKS[name]
