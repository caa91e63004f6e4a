"""Adsorption energy of a molecule on a slab in one call: `adsorption(slab, molecule, calculator)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule as molecule_by_name
from ase.constraints import FixAtoms

from forcefield.structures import as_atoms, check_structure
from forcefield.workflows.adsorption_places import (
    ADSORBED,
    DISSOCIATED,
    ORIENTATIONS,
    SITES,
    Place,
    distinct_orientations,
    find_places,
    judge,
    orient,
    place_molecule,
    prepare_slab,
)
from forcefield.workflows.energetics_relax import (
    check_choice,
    check_relaxation,
    movement,
    relax_fixed_cell,
    relax_gas,
)
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.relax_setup import choose_calculator

NOT_CONVERGED = "not converged"
NONE_FOUND = "nothing adsorbed"
WEAK = "adsorbed, endothermic"
FAR = 1.5  # Å; an atom of the slab that is further from its place makes another surface


@dataclass(frozen=True)
class AdsorptionOptions:
    """Options of `adsorption`, checked; see there for their meaning."""

    sites: tuple[str, ...] = SITES
    orientations: tuple[str, ...] = ORIENTATIONS
    height: float = 1.8
    min_width: float = 8.0
    frozen: float = 0.5
    fmax: float = 0.03
    steps: int = 300

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        for site in self.sites:
            check_choice("sites", site, SITES)
        for orientation in self.orientations:
            check_choice("orientations", orientation, ORIENTATIONS)
        if not (self.sites and self.orientations):
            raise ValueError("sites and orientations must each name one or more.")
        if not 0.5 <= self.height <= 10.0:
            raise ValueError(f"height is {self.height} Å, but must lie between 0.5 and 10.")
        if not (math.isfinite(self.min_width) and 0.0 <= self.min_width <= 100.0):
            raise ValueError(f"min_width is {self.min_width} Å, but must lie between 0 and 100.")
        if not 0.0 <= self.frozen < 1.0:
            raise ValueError(f"frozen is {self.frozen}, but must be a fraction of the slab, from 0 to below 1.")
        check_relaxation(self.fmax, self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Adsorbate:
    """A molecule relaxed on the slab.

    Attributes:
        site: where it was put, such as "hollow 0".
        orientation: how it was put: "upright", "flipped" or "flat".
        verdict: "adsorbed", "desorbed", "dissociated", "surface changed" or "not converged".
        energy: E(slab + molecule) - E(slab) - E(molecule) in eV, negative where bound; None if not converged.
        height: of the molecule's lowest atom above the highest of the slab (Å).
        atoms: slab and molecule, the molecule's atoms last.
    """

    site: str
    orientation: str
    verdict: str
    energy: float | None
    height: float
    atoms: Atoms


@dataclass(frozen=True)
class AdsorptionResult:
    """A molecule on a slab.

    Attributes:
        atoms: the relaxed clean slab.
        molecule: the relaxed molecule.
        verdict: "adsorbed", "adsorbed, endothermic" (it costs energy) or "nothing adsorbed".
        warnings: what else to know, one sentence each.
        best: the intact adsorbate of lowest energy; None where there is none.
        adsorbates: all that were tried, lowest energy first.
        slab_energy: of the clean slab (eV).
        molecule_energy: of the molecule (eV).
        options: what it was computed with.
    """

    atoms: Atoms
    molecule: Atoms
    verdict: str
    warnings: tuple[str, ...]
    best: Adsorbate | None
    adsorbates: tuple[Adsorbate, ...]
    slab_energy: float
    molecule_energy: float
    options: AdsorptionOptions

    @property
    def energy(self) -> float | None:
        """Adsorption energy of the best adsorbate (eV)."""
        return None if self.best is None else self.best.energy

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "molecule_formula": self.molecule.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ok": self.verdict == ADSORBED,
            "adsorption_energy": self.energy,
            **vars(self),
        }


def adsorption(
    atoms: Any,
    molecule: Any,
    calculator: Any = None,
    *,
    sites: Sequence[str] = SITES,
    orientations: Sequence[str] = ORIENTATIONS,
    height: float = 1.8,
    min_width: float = 8.0,
    frozen: float = 0.5,
    fmax: float = 0.03,
    steps: int = 300,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
) -> AdsorptionResult:
    """Compute the adsorption energy of a molecule: on every distinct site, in several orientations, relaxed.

    Args:
        atoms: a slab with vacuum along c, as `ase.Atoms` or pymatgen `Structure`; its constraints hold.
        molecule: the molecule, or a name that `ase.build.molecule` knows, such as "CO", or a chemical symbol.
        calculator: an ASE calculator; None takes the one attached to the slab, else the default model.
        sites: "ontop", "bridge", "hollow".
        orientations: "upright" (the longest axis along the normal, the lighter end below), "flipped", "flat".
        height: of the molecule's lowest atom above the surface to begin with (Å).
        min_width: the slab is repeated along the surface until it is this wide (Å).
        frozen: share of the slab's height, from below, that is held; 0 to hold nothing but the slab's own constraints.
        fmax: largest force the relaxations accept (eV/Å).
        steps: most steps of each.
        store: keeps relaxed structures, for example in a file, so that an interrupted run can go on.
        callback: told what is about to be computed.

    Raises:
        ImportError: without pymatgen.
        ValueError: for a structure that is no slab, a molecule that is none, impossible options, or a clean slab or
            molecule whose relaxation failed.
    """
    options = AdsorptionOptions(tuple(sites), tuple(orientations), height, min_width, frozen, fmax, steps)
    slab = as_atoms(atoms)
    check_structure(slab)
    gas = as_molecule(molecule)
    calculator = choose_calculator(atoms, calculator)
    store = ForceStore() if store is None else store
    limits: dict[str, Any] = {"fmax": fmax, "steps": steps}
    wide = _freeze(prepare_slab(slab, min_width), frozen)
    say = callback or (lambda _: None)
    say(f"clean slab, {len(wide)} atoms")
    clean = relax_gas("clean slab", wide, calculator, store, **limits)
    say(f"molecule {gas.get_chemical_formula()}")
    free = relax_gas("molecule", gas, calculator, store, **limits)
    engine = _Engine(clean.atoms, free.atoms, clean.energy + free.energy, calculator, options, store)
    tried = []
    for place in find_places(clean.atoms, options.sites):
        for orientation in distinct_orientations(free.atoms, options.orientations):
            say(f"{place} {orientation}, {len(wide) + len(gas)} atoms")
            tried.append(engine.compute(place, orientation))
    return _sum_up(clean.atoms, free.atoms, (clean.energy, free.energy), tried, options)


def as_molecule(molecule: Any) -> Atoms:
    """Make a molecule from a name or structure, without periodic axes.

    Raises:
        ValueError: for an unknown name, or a structure that is periodic.
    """
    if isinstance(molecule, str):
        try:
            named = molecule_by_name(molecule)
        except (KeyError, NotImplementedError) as error:
            raise ValueError(
                f"No molecule is called {molecule!r}; give a name that ase.build.molecule knows (CO, H2O, CH3OH, ...), "
                "a chemical symbol or a structure."
            ) from error
        return Atoms(named.numbers, positions=named.positions)
    found = as_atoms(molecule)
    if found.pbc.any():
        raise ValueError(
            f"The molecule {found.get_chemical_formula()} is periodic; give it without periodic axes (pbc=False)."
        )
    check_structure(found)
    return found


def _freeze(slab: Atoms, share: float) -> Atoms:
    """Hold the lower part of a slab, beside its own constraints."""
    heights = slab.positions[:, 2] - slab.positions[:, 2].min()
    held = np.flatnonzero(heights < share * heights.max() - 1.0e-6) if share > 0.0 else np.array([], dtype=int)
    if len(held):
        slab.set_constraint([*slab.constraints, FixAtoms(held)])
    return slab


@dataclass(frozen=True)
class _Engine:
    slab: Atoms
    molecule: Atoms
    apart: float  # energy of slab and molecule far from each other (eV)
    calculator: Any
    options: AdsorptionOptions
    store: ForceStore

    def compute(self, place: Place, orientation: str) -> Adsorbate:
        """Put the molecule on a place, relax, and say what became of it."""
        start = place_molecule(self.slab, orient(self.molecule, orientation), place, self.options.height)
        limits: dict[str, Any] = {"fmax": self.options.fmax, "steps": self.options.steps}
        relaxed = relax_fixed_cell(f"{place} {orientation}", start, self.calculator, self.store, **limits)
        n = len(self.slab)
        moved = movement(start[:n], relaxed.atoms[:n])
        outcome = judge(start, relaxed.atoms, n, moved, FAR)
        z = relaxed.atoms.positions[:, 2]
        return Adsorbate(
            site=str(place),
            orientation=orientation,
            verdict=outcome if relaxed.converged else NOT_CONVERGED,
            energy=relaxed.energy - self.apart if relaxed.converged else None,
            height=float(z[n:].min() - z[:n].max()),
            atoms=relaxed.atoms,
        )


def _sum_up(
    slab: Atoms,
    molecule: Atoms,
    energies: tuple[float, float],
    tried: Sequence[Adsorbate],
    options: AdsorptionOptions,
) -> AdsorptionResult:
    ordered = sorted(tried, key=lambda item: math.inf if item.energy is None else item.energy)
    bound = [item for item in ordered if item.verdict == ADSORBED and item.energy is not None]
    best = bound[0] if bound else None
    verdict = NONE_FOUND
    if best is not None and best.energy is not None:
        verdict = ADSORBED if best.energy < 0.0 else WEAK
    notes = []
    broken = [item for item in ordered if item.verdict == DISSOCIATED and item.energy is not None]
    if broken and (best is None or best.energy is None or (broken[0].energy or 0.0) < best.energy):
        notes.append(f"the molecule came apart on {broken[0].site}, which is lower: {broken[0].energy:.3f} eV")
    lost = [f"{item.site} {item.orientation}" for item in tried if item.verdict == NOT_CONVERGED]
    notes += [f"not converged: {', '.join(lost)}"] if lost else []
    return AdsorptionResult(
        atoms=slab,
        molecule=molecule,
        verdict=verdict,
        warnings=tuple(notes),
        best=best,
        adsorbates=tuple(ordered),
        slab_energy=energies[0],
        molecule_energy=energies[1],
        options=options,
    )
