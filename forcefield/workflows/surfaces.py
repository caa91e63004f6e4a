"""Surface energies of a crystal and its Wulff shape in one call: `surfaces(structure, calculator)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.structures import as_atoms
from forcefield.workflows.energetics_relax import (
    check_choice,
    check_relaxation,
    movement,
    relax_fixed_cell,
    relax_host,
    single_point,
)
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import RELAXATIONS, require_crystal
from forcefield.workflows.relax_setup import choose_calculator
from forcefield.workflows.surfaces_build import (
    SAME_SHIFT,
    Miller,
    Slab,
    check_miller,
    conventional_cell,
    distinct_indices,
    format_miller,
    make_slabs,
)
from forcefield.workflows.surfaces_wulff import WulffResult, wulff_shape
from forcefield.workflows.vacuum import describe_vacuum

JOULE_PER_M2 = 1.602176634e-19 / 1.0e-20  # 1 eV/Å² in J/m²; exact value of the elementary charge (SI, 2019)
RELAXED, NOT_CONVERGED, RECONSTRUCTED = "relaxed", "not converged", "reconstructed"
LEFT, NOT_STOICHIOMETRIC = "atoms left", "not stoichiometric"
FAR = 1.0  # Å; an atom that moved further has changed its place
ABOVE = 2.0  # Å above the slab cut; an atom higher up has left it
THICKER = 1.5  # factor between thicknesses
THICKNESSES = 4  # most of them

COMPLETE, INCOMPLETE = "complete", "some surfaces have no energy"


@dataclass(frozen=True)
class SurfaceOptions:
    """Options of `surfaces`, checked; see there for their meaning."""

    max_index: int = 1
    miller: tuple[Miller, ...] = ()
    min_slab: float = 12.0
    min_vacuum: float = 12.0
    thickness_tolerance: float | None = None
    relaxation: str = "cell"
    fmax: float = 0.02
    steps: int = 500

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        if self.max_index < 1:
            raise ValueError(f"max_index is {self.max_index}, but must be 1 or more.")
        for index in self.miller:
            check_miller(index)
        for name in ("min_slab", "min_vacuum"):
            if not 1.0 <= getattr(self, name) <= 500.0:
                raise ValueError(f"{name} is {getattr(self, name)} Å, but must lie between 1 and 500.")
        if self.thickness_tolerance is not None and not self.thickness_tolerance > 0.0:
            raise ValueError(f"thickness_tolerance is {self.thickness_tolerance} J/m², but must be positive.")
        check_choice("relaxation", self.relaxation, RELAXATIONS)
        check_relaxation(self.fmax, self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Surface:
    """One surface of a crystal.

    Attributes:
        miller: its index in the conventional cell.
        termination: number of the cut among those of this index.
        verdict: "relaxed", "reconstructed" (an atom moved by more than 1 Å), "not converged", "atoms left" (an atom is
            more than 2 Å above the slab) or "not stoichiometric".
        energy: surface energy (eV/Å²), the mean over both sides of the slab; None unless relaxed or reconstructed.
        unrelaxed_energy: the same of the slab as cut.
        symmetric: whether both sides are the same.
        polar: whether the slab has a dipole by formal charges (Tasker III); None where these are unknown.
        area: of one side (Å²).
        thickness: height of the atoms of the slab as cut (Å).
        displacement: how far the atom that moved most went (Å).
        convergence: (thickness, surface energy in eV/Å²) of every thickness computed.
        thickness_converged: whether the last two agree; None without a tolerance.
        atoms: the slab as it ended.
    """

    miller: Miller
    termination: int
    verdict: str
    energy: float | None
    unrelaxed_energy: float | None
    symmetric: bool
    polar: bool | None
    area: float
    thickness: float
    displacement: float
    convergence: tuple[tuple[float, float], ...]
    thickness_converged: bool | None
    atoms: Atoms

    @property
    def energy_joule(self) -> float | None:
        """Surface energy in J/m²."""
        return None if self.energy is None else self.energy * JOULE_PER_M2

    @property
    def label(self) -> str:
        """Name it as in "(1 1 0) cut 0"."""
        return f"{format_miller(self.miller)} cut {self.termination}"

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON."""
        return {**vars(self), "n_atoms": len(self.atoms), "energy_joule_per_m2": self.energy_joule}


@dataclass(frozen=True)
class SurfacesResult:
    """Surfaces of a crystal.

    Attributes:
        atoms: the relaxed crystal, as the conventional cell that Miller indices refer to.
        verdict: "complete" or "some surfaces have no energy".
        warnings: what else to know, one sentence each.
        surfaces: in order of the index.
        wulff: equilibrium shape from the lowest surface of each index; None where there is none (see the warnings).
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    wulff: WulffResult | None
    options: SurfaceOptions

    def lowest(self) -> dict[Miller, Surface]:
        """Give the surface of lowest energy of each index that has one."""
        found: dict[Miller, Surface] = {}
        for surface in sorted(self.surfaces, key=lambda item: np.inf if item.energy is None else item.energy):
            if surface.energy is not None:
                found.setdefault(surface.miller, surface)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ok": self.verdict == COMPLETE,
            **vars(self),
            "surfaces": [surface.to_dict() for surface in self.surfaces],
        }


def surfaces(
    atoms: Any,
    calculator: Any = None,
    *,
    max_index: int = 1,
    miller: Sequence[Sequence[int]] | None = None,
    min_slab: float = 12.0,
    min_vacuum: float = 12.0,
    thickness_tolerance: float | None = None,
    relaxation: str = "cell",
    fmax: float = 0.02,
    steps: int = 500,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
) -> SurfacesResult:
    """Compute relaxed energies of a crystal's surfaces, (E_slab - n e_bulk) / 2A, and its Wulff shape.

    Slabs hold whole oriented unit cells, so they have the crystal's composition; e_bulk is the energy per atom of that
    oriented cell. Of a slab with two different sides, the energy is the mean of both.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model.
        max_index: all symmetry-distinct Miller indices up to this one are taken ...
        miller: ... unless these are given; they refer to the conventional cell (`conventional_cell`).
        min_slab: shortest height of the repeated layers (Å).
        min_vacuum: shortest height of vacuum (Å).
        thickness_tolerance: thicken each slab by half, at most three times, until its energy changes less (J/m²).
        relaxation: of the crystal before: "cell" for atoms and cell, "positions", "none".
        fmax: largest force the relaxations accept (eV/Å).
        steps: most steps of each.
        store: keeps relaxed structures, for example in a file, so that an interrupted run can go on.
        callback: told what is about to be computed.

    Raises:
        ImportError: without pymatgen.
        ValueError: for a molecule or slab, also in a periodic cell, impossible options, or a crystal whose relaxation
            failed, for example because the calculator has no stress.
    """
    indices = tuple(dict.fromkeys(check_miller(index) for index in miller or ()))
    options = SurfaceOptions(max_index, indices, min_slab, min_vacuum, thickness_tolerance, relaxation, fmax, steps)
    structure = as_atoms(atoms)
    require_crystal(structure, "surfaces", instead="Give a bulk cell; for a slab of your own use relax and predict.")
    _refuse_slab(structure)
    calculator = choose_calculator(atoms, calculator)
    store = ForceStore() if store is None else store
    host, note = relax_host(structure, calculator, store, relaxation=relaxation, fmax=fmax, steps=steps)
    engine = _Engine(conventional_cell(host), calculator, options, store, callback)
    found = [
        surface for index in indices or distinct_indices(engine.host, max_index) for surface in engine.index(index)
    ]
    shape, objection = _wulff(engine.host, found)
    notes = [note, *_notes(found), objection]
    complete = all(surface.energy is not None for surface in found)
    return SurfacesResult(
        atoms=engine.host,
        verdict=COMPLETE if complete else INCOMPLETE,
        warnings=tuple(text for text in notes if text),
        surfaces=tuple(found),
        wulff=shape,
        options=options,
    )


def _refuse_slab(structure: Atoms) -> None:
    """Refuse a cell with vacuum, of which slabs would have an empty layer inside.

    Raises:
        ValueError: saying where the vacuum is.
    """
    vacuum = describe_vacuum(structure)
    if vacuum is not None:
        raise ValueError(
            f"surfaces are cut from a crystal, but {structure.get_chemical_formula()} has {vacuum}. Give a bulk cell; "
            "for a slab of your own use relax and predict."
        )


@dataclass(frozen=True)
class _Engine:
    host: Atoms
    calculator: Any
    options: SurfaceOptions
    store: ForceStore
    callback: Callable[[str], None] | None

    def _slabs(self, index: Miller, height: float) -> list[Slab]:
        return make_slabs(self.host, index, min_slab=height, min_vacuum=self.options.min_vacuum)

    def index(self, index: Miller) -> list[Surface]:
        """Compute every cut of a Miller index."""
        return [self._converge(slab) for slab in self._slabs(index, self.options.min_slab)]

    def _converge(self, slab: Slab) -> Surface:
        """Compute a cut, thicker and thicker if asked."""
        surface = self._compute(slab)
        tolerance = self.options.thickness_tolerance
        if tolerance is None or surface.energy is None:
            return surface
        height, series, settled = self.options.min_slab, [surface], False
        while not settled and len(series) < THICKNESSES:
            height *= THICKER
            again = [cut for cut in self._slabs(slab.miller, height) if abs(cut.shift - slab.shift) < SAME_SHIFT]
            thicker = self._compute(again[0]) if again else None
            if thicker is None or thicker.energy is None or series[-1].energy is None:
                break
            settled = abs(thicker.energy - series[-1].energy) * JOULE_PER_M2 < tolerance
            series.append(thicker)
        trend = tuple((item.thickness, item.energy) for item in series if item.energy is not None)
        known = {**vars(series[-1]), "termination": slab.termination}
        return Surface(**{**known, "convergence": trend, "thickness_converged": settled})

    def _compute(self, slab: Slab) -> Surface:
        if self.callback is not None:
            self.callback(f"{slab.label}, {len(slab.atoms)} atoms")
        if not slab.stoichiometric:
            return _sum_up(slab, slab.atoms, NOT_STOICHIOMETRIC, None, None)
        per_atom = single_point(slab.bulk.copy(), self.calculator) / len(slab.bulk)

        def excess(total: float) -> float:
            return (total - len(slab.atoms) * per_atom) / (2.0 * slab.area)

        unrelaxed = excess(single_point(slab.atoms.copy(), self.calculator))
        limits: dict[str, Any] = {"fmax": self.options.fmax, "steps": self.options.steps}
        relaxed = relax_fixed_cell(f"slab {slab.label}", slab.atoms, self.calculator, self.store, **limits)
        verdict = RELAXED if relaxed.converged else NOT_CONVERGED
        if relaxed.converged and movement(slab.atoms, relaxed.atoms).max() > FAR:
            verdict = RECONSTRUCTED
        if _has_left(slab, relaxed.atoms):
            verdict = LEFT
        energy = excess(relaxed.energy) if verdict in (RELAXED, RECONSTRUCTED) else None
        return _sum_up(slab, relaxed.atoms, verdict, energy, unrelaxed)


def _has_left(slab: Slab, after: Atoms) -> bool:
    """Say whether an atom is well above or below where the slab was, relative to the slab's median."""
    before, now = slab.atoms.positions[:, 2], after.positions[:, 2]
    now = now - np.median(now - before)
    return bool(now.max() > before.max() + ABOVE or now.min() < before.min() - ABOVE)


def _sum_up(slab: Slab, atoms: Atoms, verdict: str, energy: float | None, unrelaxed: float | None) -> Surface:
    return Surface(
        miller=slab.miller,
        termination=slab.termination,
        verdict=verdict,
        energy=energy,
        unrelaxed_energy=unrelaxed,
        symmetric=slab.symmetric,
        polar=slab.polar,
        area=slab.area,
        thickness=slab.thickness,
        displacement=float(movement(slab.atoms, atoms).max()),
        convergence=() if energy is None else ((slab.thickness, energy),),
        thickness_converged=None,
        atoms=atoms,
    )


def _wulff(host: Atoms, found: Sequence[Surface]) -> tuple[WulffResult | None, str | None]:
    """Construct the shape from the lowest energies, or say why there is none."""
    lowest: dict[Miller, float] = {}
    for surface in found:
        if surface.energy is not None:
            lowest[surface.miller] = min(surface.energy, lowest.get(surface.miller, np.inf))
    try:
        return wulff_shape(host, lowest), None
    except ValueError as error:
        return None, f"no Wulff shape: {error}"


def _notes(found: Sequence[Surface]) -> list[str]:
    """Say what to know about the surfaces."""

    def named(chosen: list[Surface], text: str) -> list[str]:
        return [f"{', '.join(surface.label for surface in chosen)}: {text}"] if chosen else []

    return [
        *named(
            [s for s in found if s.polar],
            "polar by formal charges (Tasker III), so the energy of the bulk-like cut diverges with thickness in "
            "reality; a reconstruction or charge transfer that this slab does not have is needed",
        ),
        *named(
            [s for s in found if not s.symmetric and s.energy is not None],
            "the two sides differ, the energy is their mean (half the work of cleavage)",
        ),
        *named([s for s in found if s.verdict == RECONSTRUCTED], f"an atom moved by more than {FAR:.0f} Å"),
        *named([s for s in found if s.verdict in (NOT_CONVERGED, LEFT)], "not relaxed to a slab, no energy given"),
        *named([s for s in found if s.energy is not None and s.energy < 0.0], "the surface energy is negative"),
        *named([s for s in found if s.thickness_converged is False], "not converged with thickness"),
    ]
