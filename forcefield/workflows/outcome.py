"""What the workflows share: choice of calculator, refusals in one voice, a relaxed crystal to start from, JSON."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.structures import as_atoms, check_structure
from forcefield.workflows import relax_result as ended
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import CONVERGED, INTERRUPTED, RelaxResult
from forcefield.workflows.relax_setup import choose_calculator, require_stress
from forcefield.workflows.symmetry import describe_axes
from forcefield.workflows.vacuum import describe_vacuum

RELAXATIONS = ("cell", "positions", "none")
ADVICE = {  # after a relaxation that ended early
    ended.STEP_LIMIT: "Allow more steps, a larger fmax, or start from another structure.",
    ended.STUCK: "Start from another structure, or allow a larger fmax (a model in float32 has noise).",
    ended.CELL_EXPLODING: "Start from another structure or cell; the calculator may know nothing like it.",
    ended.NON_FINITE: "Look for atoms that coincide; else the calculator is broken for this structure.",
}
PACKAGES = {  # import name of an optional package -> the extra of this package that brings it
    "phonopy": "phonopy",
    "seekpath": "phonopy",
    "phono3py": "phono3py",
    "matplotlib": "plot",
    "pymatgen": "pymatgen",
    "yaml": "train",
}


def precise_calculator(structure: Any, calculator: Any = None) -> Any:
    """Choose the calculator of a workflow that takes finite differences: the default model comes in float64.

    Args:
        structure: what the user gave; a calculator attached to it counts, stored results of a file do not.
        calculator: an ASE calculator, or None.
    """
    attached = getattr(structure, "calc", None) if isinstance(structure, Atoms) else None
    if calculator is not None or (attached is not None and not isinstance(attached, SinglePointCalculator)):
        return choose_calculator(structure, calculator)
    from forcefield.calculator import GNNCalculator  # loads torch and a model, needed in this case only

    return GNNCalculator(dtype="float64")


def precision_warning(calculator: Any) -> str | None:
    """Say, for a model of this package in single precision, what that does to finite differences; else None."""
    if getattr(calculator, "dtype", None) == "float32":
        return 'the model runs in float32, which adds noise to finite differences; use GNNCalculator(dtype="float64")'
    return None


def require_crystal(atoms: Atoms, workflow: str, *, instead: str) -> None:
    """Refuse what is no crystal.

    Args:
        atoms: the structure.
        workflow: what was asked for, as in "phonons need ...".
        instead: what to use for a molecule or slab.

    Raises:
        ValueError: if the structure is not computable or not periodic along all three axes.
    """
    check_structure(atoms)
    if not atoms.pbc.all():
        raise ValueError(
            f"{workflow} need a crystal, periodic along three axes, but the structure {atoms.get_chemical_formula()} "
            f"is periodic along {describe_axes(atoms)}. {instead}"
        )


def require_package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ImportError: in one line, naming the extra to install, and the reason where the package is there but broken.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        if not (isinstance(error, ModuleNotFoundError) and error.name in (package, name)):
            reason = " ".join(str(error).split())
            raise ImportError(f"{name} is installed but cannot be imported: {reason}") from error
        raise ImportError(
            f"{name} is not installed; it comes with pip install 'gnn-forcefield[{PACKAGES[package]}]'."
        ) from error


def stress_or_none(atoms: Atoms) -> np.ndarray | None:
    """Compute the stress, (6,) in eV/Å³ and Voigt order, or None for a calculator that has none."""
    try:
        return np.asarray(atoms.get_stress(), dtype=float)
    except PropertyNotImplementedError:
        return None


def prepare_crystal(
    structure: Any,
    calculator: Any,
    *,
    relaxation: str = "cell",
    fmax: float = 1.0e-4,
    smax: float = 0.01,
    steps: int = 1000,
    pressure: float = 0.0,
    symmetry: bool = True,
    symprec: float = 0.01,
) -> tuple[Atoms, RelaxResult | None]:
    """Bring a crystal to the minimum that a workflow starts from.

    Args:
        structure: a crystal.
        calculator: an ASE calculator.
        relaxation: "cell" for atoms and cell, "positions" for a fixed cell, "none" to take the structure as it is.
        fmax: largest force accepted (eV/Å).
        smax: largest stress deviation accepted (GPa).
        steps: most optimizer steps.
        pressure: external pressure (GPa), with "cell".
        symmetry: keep the space group.
        symprec: distance within which atoms count as symmetry-equivalent (Å).

    Returns:
        The crystal, with the calculator attached and without constraints, and how the relaxation went (None without).

    Raises:
        ValueError: for an unknown kind of relaxation, one that did not converge (with the reason), or a vacuum in a
            cell that is to be relaxed.
        KeyboardInterrupt: after Ctrl-C.
    """
    if relaxation not in RELAXATIONS:
        raise ValueError(f"relaxation is {relaxation!r}, but must be one of {', '.join(RELAXATIONS)}.")
    start = as_atoms(structure)
    start.set_constraint()
    if relaxation == "none":
        start.calc = calculator
        return start, None
    if relaxation == "cell":
        _refuse_vacuum(start)
        start.calc = calculator
        require_stress(start, asked='relaxation="cell"', instead='relaxation="positions"')
        start.calc = None
    options: dict[str, Any] = {
        **{"cell": relaxation == "cell", "fmax": fmax, "smax": smax, "steps": steps, "pressure": pressure},
        **{"symmetry": symmetry, "symprec": symprec},
    }
    result = relax(start, calculator, optimizer="LBFGS", **options)
    if result.reason not in (CONVERGED, INTERRUPTED):  # a second way that does not rely on a quadratic surface
        result = relax(start, calculator, optimizer="FIRE", **options)
    require_converged(result, f'relaxation="{relaxation}"')
    atoms = result.atoms.copy()
    atoms.calc = calculator
    return atoms, result


def _refuse_vacuum(atoms: Atoms) -> None:
    vacuum = describe_vacuum(atoms)
    if vacuum is not None:
        raise ValueError(
            f'relaxation="cell" needs a crystal, but {atoms.get_chemical_formula()} has {vacuum}, which would change. '
            'Give a bulk cell, or use relaxation="positions"; what is per volume then counts the vacuum.'
        )


def require_converged(result: RelaxResult, what: str) -> None:
    """Stop a workflow whose relaxation failed.

    Raises:
        ValueError: if it did not converge; the text says why and what to try.
        KeyboardInterrupt: if Ctrl-C ended it.
    """
    if result.reason == INTERRUPTED:
        raise KeyboardInterrupt
    if not result.converged:
        pressure = "" if result.pressure is None else f" and a pressure of {result.pressure:.3g} GPa"
        raise ValueError(
            f"{what} did not converge: {result.reason} after {result.steps} steps with a largest force of "
            f"{result.max_force:.2e} eV/Å{pressure}. {ADVICE[result.reason]}"
        )


def symmetry_change(result: RelaxResult | None) -> str | None:
    """Say which space group became which in a relaxation; None where it stayed or is unknown."""
    if result is None or result.spacegroup_before == result.spacegroup_after:
        return None
    return f"the relaxation changed the space group from {result.spacegroup_before} to {result.spacegroup_after}"


def plain(value: Any) -> Any:
    """Turn a result into what JSON knows: dataclasses, tuples, arrays, paths; a number that is not finite becomes None.

    Atoms become a dictionary of symbols, cell, scaled positions and pbc; complex arrays get a last axis (real, imag).
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Atoms):
        return _plain_atoms(value)
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(
            np.stack([value.real, value.imag], axis=-1).tolist() if value.dtype.kind == "c" else value.tolist()
        )
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    raise TypeError(f"A {type(value).__name__} cannot be written as JSON.")


def _plain_atoms(atoms: Atoms) -> dict[str, Any]:
    return {
        "symbols": list(atoms.symbols),
        "cell": atoms.cell.array.tolist(),
        "scaled_positions": atoms.get_scaled_positions(wrap=False).tolist(),
        "pbc": atoms.pbc.tolist(),
    }


def write_result(path: Path, content: Any) -> None:
    """Write JSON as `write_whole` does.

    Raises:
        OSError: see there.
    """
    write_whole(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text whole or not at all: a reader, or a kill at any moment, never meets half a file.

    Raises:
        OSError: if it cannot be written, for example because the disk is full or the folder read-only.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
