"""Energy against volume: `equation_of_state(structure, calculator)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.units import GPA
from forcefield.workflows.crystal import CrystalOptions, Start, start_from
from forcefield.workflows.equation_fit import EQUATIONS, Array, EquationFit, fit_equation
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import prepare_crystal, require_converged
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_setup import require_stress
from forcefield.workflows.symmetry import find_space_group

SHAPES = ("fixed", "relaxed")
LARGEST_RESIDUAL = 1.0e-3  # eV/atom; a worse fit is warned of

MINIMUM = "minimum found"
OUTSIDE = "no minimum within the volumes"


@dataclass(frozen=True)
class EquationOptions(CrystalOptions):
    """Options of `equation_of_state`, checked; see there for their meaning."""

    fmax: float = 1.0e-3
    volume_range: float = 0.06
    n_volumes: int = 9
    shape: str = "fixed"
    equation: str = "birch-murnaghan"

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        super().__post_init__()
        if not 0.0 < self.volume_range < 0.5:
            raise ValueError(f"volume_range is {self.volume_range}, but must lie between 0 and 0.5.")
        if self.n_volumes < 5:
            raise ValueError(f"n_volumes is {self.n_volumes}, but must be 5 or more for four parameters.")
        if self.shape not in SHAPES:
            raise ValueError(f"shape is {self.shape!r}, but must be one of {', '.join(SHAPES)}.")
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation is {self.equation!r}, but must be one of {', '.join(EQUATIONS)}.")


@dataclass(frozen=True)
class EquationOfStateResult:
    """Energy against volume of a crystal.

    Attributes:
        atoms: the structure the volumes were made from.
        verdict: "minimum found" or "no minimum within the volumes".
        warnings: what else to know, one sentence each.
        volumes: (points,) of the cell (Å³).
        energies: (points,) of the cell (eV).
        spacegroups_kept: whether every volume has the space group of `atoms`.
        fit: by the equation that was chosen, for the whole cell.
        fits: by all equations.
        equilibrium_volume: (Å³/atom).
        equilibrium_energy: (eV/atom).
        bulk_modulus: (GPa).
        bulk_modulus_derivative: by pressure.
        residual: root mean square of the fit (eV/atom).
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    volumes: Array
    energies: Array
    spacegroups_kept: bool
    fit: EquationFit
    fits: tuple[EquationFit, ...]
    equilibrium_volume: float
    equilibrium_energy: float
    bulk_modulus: float
    bulk_modulus_derivative: float
    residual: float
    options: EquationOptions

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        ok = self.verdict == MINIMUM
        return {"formula": self.atoms.get_chemical_formula(), "n_atoms": len(self.atoms), "ok": ok, **vars(self)}


def equation_of_state(
    atoms: Any,
    calculator: Any = None,
    *,
    volume_range: float = 0.06,
    n_volumes: int = 9,
    shape: str = "fixed",
    equation: str = "birch-murnaghan",
    relaxation: str = "cell",
    fmax: float = 1.0e-3,
    smax: float = 0.01,
    steps: int = 1000,
    symmetry: bool = True,
    symprec: float = 0.01,
    store: ForceStore | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> EquationOfStateResult:
    """Compute the energy at several volumes, atoms relaxed at each, and fit an equation of state.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        volume_range: largest relative change of the volume, both ways.
        n_volumes: how many volumes.
        shape: "fixed" scales the cell, "relaxed" relaxes its shape too (by pressures that give about these volumes).
        equation: "birch-murnaghan" or "vinet".
        relaxation: before: "cell" for atoms and cell, "positions" for a fixed cell; with "none" atoms never move.
        fmax: largest force the relaxations accept (eV/Å).
        smax: largest stress the one before accepts, and with shape "relaxed" the others too (GPa).
        steps: most steps of each.
        symmetry: keep the space group in them.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
        store: keeps the structures, for example in a file, so that an interrupted run can go on.
        callback: told before each volume how many are done, of how many.

    Raises:
        ValueError: for a molecule or slab, impossible options, a relaxation that failed, energies that bend downwards,
            or a calculator without stress where one is needed ("cell", shape "relaxed").
    """
    options = EquationOptions(
        volume_range=volume_range,
        n_volumes=n_volumes,
        shape=shape,
        equation=equation,
        relaxation=relaxation,
        fmax=fmax,
        smax=smax,
        steps=steps,
        symmetry=symmetry,
        symprec=symprec,
    )
    start = start_from(
        atoms, calculator, options, store, workflow="equations of state", instead="A molecule or slab has no volume."
    )
    scan = scan_volumes(start, options, callback)
    return _sum_up(start.atoms, scan, start.calculator, options, start.notes)


def scan_volumes(
    start: Start,
    options: EquationOptions,
    callback: Callable[[int, int], None] | None = None,
    *,
    factors: Array | None = None,
) -> list[Atoms]:
    """Scale a crystal to several volumes and relax the atoms in each, and the shape of the cell if asked.

    Args:
        start: the crystal, its calculator, and what keeps the structures.
        options: volumes, and how to relax; with shape "relaxed" the volumes become about those asked for.
        callback: told before each volume how many are done, of how many.
        factors: volumes relative to that of the crystal; None takes those of the options.

    Raises:
        ValueError: if the calculator has no stress, by which shapes are relaxed.
    """
    if options.shape == "relaxed":
        require_stress(start.atoms, asked='shape="relaxed"', instead='shape="fixed"')
    if factors is None:
        factors = np.linspace(1.0 - options.volume_range, 1.0 + options.volume_range, options.n_volumes)
    kind = "none" if options.relaxation == "none" else "positions"  # of the atoms at each volume
    found = []
    for number, factor in enumerate(factors):
        if callback is not None:
            callback(number, len(factors))

        def make(factor: float = float(factor)) -> Atoms:
            scaled = start.atoms.copy()
            scaled.set_cell(scaled.cell.array * factor ** (1.0 / 3.0), scale_atoms=True)
            return prepare_crystal(scaled, start.calculator, **options.relaxation_options(relaxation=kind))[0]

        found.append(start.store.structure(f"volume {factor:.6f}", start.atoms, make))
    return _relax_shapes(found, start, options, callback) if options.shape == "relaxed" else found


def _relax_shapes(
    scan: list[Atoms], start: Start, options: EquationOptions, callback: Callable[[int, int], None] | None
) -> list[Atoms]:
    """Relax the cells under the pressures that the scaled ones are under, which keeps their volumes about the same."""
    volumes = np.array([atoms.get_volume() for atoms in scan])
    fit = fit_equation(volumes, potential_energies(scan, start.calculator), equation=options.equation)
    step = 1.0e-4 * volumes
    pressures = -(fit(volumes + step) - fit(volumes - step)) / (2.0 * step) / GPA
    found = []
    for number, (atoms, pressure) in enumerate(zip(scan, pressures, strict=True)):
        if callback is not None:
            callback(number, len(scan))

        def make(atoms: Atoms = atoms, pressure: float = float(pressure)) -> Atoms:
            settings = options.relaxation_options()
            del settings["relaxation"]
            result = relax(atoms, start.calculator, cell=True, pressure=pressure, **settings)
            require_converged(result, f"the cell at {pressure:.2f} GPa")
            return result.atoms

        found.append(start.store.structure(f"shape {number}", atoms, make))
    return found


def potential_energies(scan: list[Atoms], calculator: Any) -> Array:
    """Give the energy (eV) of each structure."""
    energies = []
    for atoms in scan:
        work = atoms.copy()
        work.calc = calculator
        energies.append(float(work.get_potential_energy()))
    return np.array(energies)


def _sum_up(
    start: Atoms, scan: list[Atoms], calculator: Any, options: EquationOptions, notes: list[str]
) -> EquationOfStateResult:
    volumes, energies = np.array([atoms.get_volume() for atoms in scan]), potential_energies(scan, calculator)
    fits = tuple(fit_equation(volumes, energies, equation=name) for name in EQUATIONS)
    fit = next(fit for fit in fits if fit.equation == options.equation)
    n = len(start)
    residual = fit.residual / n
    if residual > LARGEST_RESIDUAL:
        notes.append(f"the fit misses the energies by {1000.0 * residual:.2f} meV/atom; the curve may have a kink")
    groups = {find_space_group(atoms, symprec=options.symprec) for atoms in (start, *scan)}
    if len(groups) > 1:
        notes.append(f"the space group changes along the volumes: {', '.join(sorted(map(str, groups)))}")
    return EquationOfStateResult(
        atoms=start,
        verdict=MINIMUM if fit.inside else OUTSIDE,
        warnings=tuple(notes),
        volumes=volumes,
        energies=energies,
        spacegroups_kept=len(groups) == 1,
        fit=fit,
        fits=fits,
        equilibrium_volume=fit.volume / n,
        equilibrium_energy=fit.energy / n,
        bulk_modulus=fit.bulk_modulus,
        bulk_modulus_derivative=fit.bulk_modulus_derivative,
        residual=residual,
        options=options,
    )
