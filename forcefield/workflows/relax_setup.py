"""Before a relaxation: its options, checked, and whether structure and calculator allow them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, optimize
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize.optimize import Optimizer

from forcefield.workflows.symmetry import describe_axes
from forcefield.workflows.vacuum import describe_vacuum, kept_cell_notice

OPTIMIZERS = ("FIRE", "FIRE2", "BFGS", "LBFGS", "BFGSLineSearch", "LBFGSLineSearch", "MDMin")
AXES = "abc"


@dataclass(frozen=True)
class RelaxOptions:
    """Options of `relax`, checked; see there for their meaning."""

    cell: bool = False
    cell_axes: str = AXES
    fmax: float = 0.02
    smax: float = 0.05
    steps: int = 500
    optimizer: str = "FIRE"
    pressure: float = 0.0
    symmetry: bool = False
    symprec: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        for name in ("fmax", "smax", "symprec"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, but must be 0 or more.")
        if not math.isfinite(self.pressure):
            raise ValueError(f"pressure is {self.pressure}, but must be a finite number of GPa.")
        find_optimizer(self.optimizer)
        if not self.cell_axes or set(self.cell_axes) - set(AXES) or len(set(self.cell_axes)) < len(self.cell_axes):
            raise ValueError(f"cell_axes is {self.cell_axes!r}, but must be one, two or all of the letters a, b and c.")

    @property
    def all_axes(self) -> bool:
        """Whether all vectors of a relaxed cell may change."""
        return set(self.cell_axes) == set(AXES)

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


class Settled(NamedTuple):
    """The options of one structure, and what was chosen that the user may not expect."""

    options: RelaxOptions
    notice: str | None = None


def settle_cell(atoms: Atoms, options: RelaxOptions, *, automatic_cell: bool) -> Settled:
    """Settle whether the cell of a structure is relaxed.

    Args:
        atoms: the structure.
        options: options of all structures.
        automatic_cell: relax the cell of crystals, and of no slabs, wires and molecules, be they in a periodic cell or
            not (`forcefield.workflows.vacuum`), unless some of its axes were named.

    Raises:
        ValueError: if a pressure has no meaning for it.
    """
    if not automatic_cell:
        return Settled(options)
    if not options.all_axes:
        return Settled(replace(options, cell=True))
    vacuum = describe_vacuum(atoms)
    cell = bool(atoms.pbc.all()) and vacuum is None
    if not cell and options.pressure != 0.0:
        why = f"there is {vacuum}" if vacuum else f"the structure is periodic along {describe_axes(atoms)}"
        raise ValueError(
            f"pressure is {options.pressure} GPa, but {why}, where a pressure has no meaning. Use pressure=0."
        )
    return Settled(replace(options, cell=cell), None if cell else kept_cell_notice(atoms))


def find_optimizer(name: str) -> Callable[..., Optimizer]:
    """Look an ASE optimizer up by name, upper or lower case.

    Raises:
        ValueError: for a name that is not in `OPTIMIZERS`.
    """
    for known in OPTIMIZERS:
        if known.lower() == name.lower():
            return getattr(optimize, known)
    raise ValueError(f"Unknown optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}.")


def choose_calculator(structure: Any, calculator: Any) -> Any:
    """Take the calculator given, else the structure's own, else the default model."""
    if calculator is not None:
        return calculator
    attached = getattr(structure, "calc", None) if isinstance(structure, Atoms) else None
    if attached is not None and not isinstance(attached, SinglePointCalculator):
        return attached
    from forcefield.calculator import GNNCalculator  # loads torch and a model, needed in this case only

    return GNNCalculator()


def strain_mask(atoms: Atoms, options: RelaxOptions) -> np.ndarray | None:
    """Say which strain components (Voigt, 6) may change: those within the span of the periodic vectors that may.

    Returns:
        Ones and zeros, or None for a fixed cell.

    Raises:
        ValueError: if the structure has no cell to relax, a pressure has no meaning for it, or the periodic vectors of
            a slab or wire, or those that may change, are not aligned with the Cartesian axes.
    """
    if not options.cell:
        if options.pressure != 0.0:
            raise ValueError(f"pressure is {options.pressure} GPa, but the cell is fixed. Use cell=True or pressure=0.")
        if not options.all_axes:
            raise ValueError(f"cell_axes is {options.cell_axes!r}, but the cell is fixed. Use cell=True too.")
        return None
    if not atoms.pbc.any():
        raise ValueError(
            "cell=True came for a structure without periodic axes: it has no cell to relax. Use cell=False."
        )
    moving = np.array([axis in options.cell_axes for axis in AXES]) & atoms.pbc
    if moving.all():
        return np.ones(6)
    if not moving.any():
        raise ValueError(
            f"cell_axes is {options.cell_axes!r}, but the structure is periodic along {describe_axes(atoms)}."
        )
    if options.pressure != 0.0:
        why = (
            f"the structure is periodic along {describe_axes(atoms)}" if options.all_axes else "not all axes may change"
        )
        raise ValueError(
            f"pressure is {options.pressure} GPa, but {why}, where a pressure has no meaning. Use pressure=0."
        )
    return _mask_within(atoms, moving)


def _mask_within(atoms: Atoms, moving: np.ndarray) -> np.ndarray:
    """Free the strain components of the Cartesian plane or axis that some of the cell's vectors (3, booleans) span."""
    vectors = atoms.cell.array[moving]
    spanned = (np.abs(vectors) > 1.0e-6 * np.linalg.norm(vectors, axis=1)[:, None]).any(axis=0)  # (3,) Cartesian axes
    if spanned.sum() != len(vectors) or cell_volume(atoms) is None:
        raise ValueError(
            f"The cell vectors {' and '.join(np.array(list(AXES))[moving])} alone can be relaxed when they span a "
            "Cartesian plane or axis and no other cell vector is zero. "
            f"The cell is {atoms.cell.array.tolist()}; rotate it and add vacuum (atoms.center), or use cell=False."
        )
    free = spanned.astype(float)
    return np.array([free[a] * free[b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])


def require_stress(atoms: Atoms, *, asked: str = "cell=True", instead: str = "cell=False (--fixed-cell)") -> None:
    """Compute the stress of a structure with its calculator, which keeps it for the first step.

    Args:
        atoms: the structure, with its calculator.
        asked: the option that needs a stress.
        instead: the option that needs none.

    Raises:
        ValueError: if the calculator has no stress for it.
    """
    partly = atoms.pbc.any() and not atoms.pbc.all()
    try:
        atoms.get_stress()
    except PropertyNotImplementedError as error:
        raise ValueError(
            f"{asked} needs a stress, but {type(atoms.calc).__name__} gives none for a structure periodic along "
            f"{describe_axes(atoms)}: {error}. Use {instead}, or another calculator"
            + ("; a layer with vacuum relaxes in its plane with pbc=True and cell_axes='ab'." if partly else ".")
        ) from error


def cell_volume(atoms: Atoms) -> float | None:
    """Give the volume of the cell (Å³), or None where the three vectors span none."""
    return float(atoms.get_volume()) if atoms.cell.rank == 3 else None
