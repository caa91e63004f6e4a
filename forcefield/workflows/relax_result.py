"""What a relaxation reports: one `RelaxStep` a step, and a `RelaxResult` at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from ase import Atoms

from forcefield.workflows.symmetry import SpaceGroup

CONVERGED = "converged"
STEP_LIMIT = "step limit"
CELL_EXPLODING = "cell exploding"
NON_FINITE = "non-finite forces"
STUCK = "optimizer stuck"
INTERRUPTED = "interrupted"


class RelaxStep(NamedTuple):
    """One step as a callback sees it.

    Energy in eV, largest force in eV/Å, largest deviation of the stress from the target in GPa (None for a fixed cell),
    volume in Å³ (None without a cell).
    """

    step: int
    energy: float
    max_force: float
    max_stress: float | None
    volume: float | None


@dataclass(frozen=True)
class RelaxResult:
    """What a relaxation gave.

    Attributes:
        atoms: the final structure with the input's constraints and the final energy, forces and stress attached.
        converged: whether forces (and stress, for a variable cell) of the final structure are below the limits.
        reason: why it stopped: "converged", "step limit", "cell exploding", "non-finite forces", "optimizer stuck" or
            "interrupted".
        steps: optimizer steps taken.
        energy: final energy (eV).
        energy_per_atom: final energy per atom (eV).
        max_force: length of the largest force left after constraints (eV/Å).
        stress: final stress in Voigt order xx, yy, zz, yz, xz, xy, positive under tension (GPa); None without a stress.
        pressure: final pressure, minus a third of the trace of the stress (GPa); None without a stress.
        target_pressure: the pressure asked for (GPa).
        volume_change: final / initial volume - 1; None where not periodic along three axes.
        spacegroup_before: space group of the input; None where not periodic along three axes.
        spacegroup_after: space group of the final structure, likewise.
        pieces_before: groups of atoms that hold together in the input (see `forcefield.workflows.pieces`).
        pieces_after: likewise of the final structure; more than before where an atom left.
        notice: what `cell=None` has chosen that one may not expect: a cell with vacuum that was kept.
    """

    atoms: Atoms
    converged: bool
    reason: str
    steps: int
    energy: float
    energy_per_atom: float
    max_force: float
    stress: tuple[float, ...] | None
    pressure: float | None
    target_pressure: float
    volume_change: float | None
    spacegroup_before: SpaceGroup | None
    spacegroup_after: SpaceGroup | None
    pieces_before: int | None = None
    pieces_after: int | None = None
    notice: str | None = None

    @property
    def verdict(self) -> str:
        """The reason for stopping, and whether the structure came apart."""
        apart = (self.pieces_after or 0) > (self.pieces_before or 0) > 0
        return f"{self.reason}, came apart" if apart else self.reason

    def to_dict(self) -> dict[str, Any]:
        """Give all but the atoms as plain numbers, strings and lists for JSON; what is not finite becomes None."""
        plain: dict[str, Any] = {"formula": self.atoms.get_chemical_formula(), "n_atoms": len(self.atoms)}
        for name, value in vars(self).items():
            if name == "atoms":
                continue
            if isinstance(value, SpaceGroup):
                plain[name] = value._asdict()
            elif name == "stress" and value is not None:
                plain[name] = [_finite_or_none(component) for component in value]
            else:
                plain[name] = _finite_or_none(value)
        return plain


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
