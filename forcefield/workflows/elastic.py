"""Elastic constants of a crystal in one call: `elastic_constants(structure, calculator)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.units import GPA
from forcefield.workflows.crystal import CrystalOptions, start_from
from forcefield.workflows.elastic_strains import Engine, from_energies, from_stresses
from forcefield.workflows.elastic_tensor import (
    Array,
    Moduli,
    eigenvalues,
    moduli,
    point_group_rotations,
    symmetrise,
)
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import stress_or_none
from forcefield.workflows.symmetry import SpaceGroup, find_space_group

METHODS = ("auto", "stress", "energy")
STABLE = "stable"
UNSTABLE = "mechanically unstable"
NOTABLE_STRESS = 0.1  # GPa
NOTABLE_RESIDUAL = 0.05
NOTABLE_ASYMMETRY = 0.02


@dataclass(frozen=True)
class ElasticOptions(CrystalOptions):
    """Options of `elastic_constants`, checked; see there for their meaning."""

    strains: tuple[float, ...] = (0.0025, 0.005)
    method: str = "auto"
    internal: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        super().__post_init__()
        if not self.strains or not all(0.0 < strain <= 0.1 for strain in self.strains):
            raise ValueError(f"strains is {self.strains}, but must be one or more numbers between 0 and 0.1.")
        if len(set(self.strains)) != len(self.strains):
            raise ValueError(f"strains is {self.strains}, but each must be different.")
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, but must be one of {', '.join(METHODS)}.")


@dataclass(frozen=True)
class ElasticResult:
    """Elastic constants of a crystal.

    Attributes:
        atoms: the structure they belong to.
        verdict: "stable" or "mechanically unstable", by the eigenvalues.
        warnings: what else to know, one sentence each.
        method: "stress" or "energy", where the numbers come from.
        tensor: (6, 6) in GPa, Voigt order xx, yy, zz, yz, xz, xy, for the structure's Cartesian axes; the coefficients
            of stress against strain, which under a stress already hold its correction.
        tensor_raw: the same before it was symmetrised.
        asymmetry: largest change by symmetrising, relative to the largest constant.
        eigenvalues: (6,) in Kelvin's notation (GPa), lowest first; all positive for a stable crystal.
        moduli: averages over directions; None where unstable.
        stress: (6,) of the unstrained structure (GPa).
        residual: how far the slopes at the different strains are from the extrapolated ones, relative to the largest
            constant; 0 with a single strain.
        spacegroup: of the structure; None where spglib finds none.
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    method: str
    tensor: Array
    tensor_raw: Array
    asymmetry: float
    eigenvalues: Array
    moduli: Moduli | None
    stress: Array
    residual: float
    spacegroup: SpaceGroup | None
    options: ElasticOptions

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy."""
        return self.verdict == STABLE

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ok": self.stable,
            **vars(self),
        }


def elastic_constants(
    atoms: Any,
    calculator: Any = None,
    *,
    strains: tuple[float, ...] = (0.0025, 0.005),
    method: str = "auto",
    relaxation: str = "cell",
    internal: bool = True,
    fmax: float = 1.0e-4,
    smax: float = 0.01,
    steps: int = 1000,
    symmetry: bool = True,
    symprec: float = 0.01,
    store: ForceStore | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> ElasticResult:
    """Compute the 6x6 elastic tensor of a crystal by central differences, with relaxed atoms at every strain.

    Slopes at several strains are extrapolated to none, and the tensor is averaged over the crystal's point group.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        strains: sizes of the strains, both signs of each.
        method: "stress" (its slopes), "energy" (its curvatures), or "auto": energy for a calculator without stress.
        relaxation: before: "cell" for atoms and cell, "positions" for a fixed cell, "none".
        internal: relax the atoms in the strained cells; without, the clamped-ion tensor.
        fmax: largest force the relaxations accept (eV/Å).
        smax: largest stress the one before accepts (GPa).
        steps: most steps of each.
        symmetry: keep the space group in the relaxation before.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
        store: keeps strained structures, for example in a file, so that an interrupted run can go on.
        callback: told before each strained cell how many are done, of how many.

    Raises:
        ValueError: for a molecule or slab, impossible options, a relaxation that failed, or a calculator without
            stress where one is needed (method "stress", relaxation "cell").
    """
    options = ElasticOptions(
        strains=tuple(strains),
        method=method,
        relaxation=relaxation,
        internal=internal,
        fmax=fmax,
        smax=smax,
        steps=steps,
        symmetry=symmetry,
        symprec=symprec,
    )
    start = start_from(atoms, calculator, options, store, workflow="elastic constants", instead="Give a bulk cell.")
    way = _choose_method(start.atoms, options)
    derive = from_stresses if way == "stress" else from_energies
    raw, stress, residual = derive(Engine(start, options, callback))
    return _sum_up(start.atoms, way, raw / GPA, stress / GPA, residual, options, start.notes)


def _choose_method(start: Atoms, options: ElasticOptions) -> str:
    """Take stresses where there are any.

    Raises:
        ValueError: if they were asked for and there are none.
    """
    if options.method == "energy":
        return "energy"
    if stress_or_none(start) is not None:
        return "stress"
    if options.method == "stress":
        raise ValueError(
            f'method="stress" needs a stress, but {type(start.calc).__name__} gives none. Use method="energy".'
        )
    return "energy"


def _sum_up(
    start: Atoms, way: str, raw: Array, stress: Array, residual: float, options: ElasticOptions, notes: list[str]
) -> ElasticResult:
    tensor = symmetrise(raw, point_group_rotations(start, symprec=options.symprec))
    asymmetry = float(np.abs(tensor - raw).max() / np.abs(tensor).max())
    values = eigenvalues(tensor)
    if np.abs(stress).max() > NOTABLE_STRESS:
        notes.append(
            f"the structure is under a stress of up to {np.abs(stress).max():.2f} GPa; the constants and the verdict "
            "are those of the stressed crystal"
        )
    if residual > NOTABLE_RESIDUAL:
        notes.append(f"stress is not linear in strain: slopes differ by {100.0 * residual:.1f} %; use smaller strains")
    if asymmetry > NOTABLE_ASYMMETRY:
        notes.append(
            f"symmetrising changed the tensor by {100.0 * asymmetry:.1f} % of its largest constant; the forces may be "
            "noisy or a strained cell may have fallen into another minimum"
        )
    return ElasticResult(
        atoms=start,
        verdict=STABLE if values.min() > 0.0 else UNSTABLE,
        warnings=tuple(notes),
        method=way,
        tensor=tensor,
        tensor_raw=raw,
        asymmetry=asymmetry,
        eigenvalues=values,
        moduli=moduli(tensor),
        stress=stress,
        residual=residual,
        spacegroup=find_space_group(start, symprec=options.symprec),
        options=options,
    )
