"""Formation energies of neutral point defects in one call: `defects(structure, calculator)`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import make_supercell

from forcefield.structures import as_atoms
from forcefield.workflows.defects_sites import distinct_atoms, spacious_voids
from forcefield.workflows.energetics_references import ElementReferences, check_element
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
from forcefield.workflows.phonons_setup import choose_supercell
from forcefield.workflows.relax_setup import choose_calculator
from forcefield.workflows.vacuum import describe_vacuum

RELAXED, MOVED, NOT_CONVERGED = "relaxed", "moved", "not converged"
COMPLETE, INCOMPLETE = "complete", "some defects have no energy"
FAR = 1.0  # Å; an atom that moved further has changed its place
RATTLE = 0.01  # Å, standard deviation of displacements that break the symmetry of the start
CLOSE_IMAGES = 7.0  # Å


@dataclass(frozen=True)
class DefectOptions:
    """Options of `defects`, checked; see there for their meaning."""

    vacancies: tuple[str, ...] = ("all",)
    interstitials: tuple[str, ...] = ()
    substitutions: tuple[tuple[str, str], ...] = ()
    supercell_length: float = 10.0
    supercell: tuple[int, int, int] | None = None
    references: tuple[tuple[str, float], ...] = ()
    relaxation: str = "cell"
    fmax: float = 0.02
    steps: int = 500
    symprec: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        for symbol in itertools.chain(self.vacancies, self.interstitials, *self.substitutions):
            if not (symbol == "all" and symbol in self.vacancies):
                check_element(symbol)
        for old, new in self.substitutions:
            if old == new:
                raise ValueError(f"The substitution {old}={new} replaces an element by itself.")
        if not (self.vacancies or self.interstitials or self.substitutions):
            raise ValueError("No defect was asked for; give vacancies, interstitials or substitutions.")
        if not 0.0 < self.supercell_length <= 200.0:
            raise ValueError(f"supercell_length is {self.supercell_length} Å, but must lie between 0 and 200.")
        if self.supercell is not None and (len(self.supercell) != 3 or min(self.supercell) < 1):
            raise ValueError(f"supercell is {self.supercell}, but must be three whole numbers of 1 or more.")
        if not self.symprec > 0.0:
            raise ValueError(f"symprec is {self.symprec}, but must be positive.")
        ElementReferences(None, dict(self.references))
        check_choice("relaxation", self.relaxation, RELAXATIONS)
        check_relaxation(self.fmax, self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Defect:
    """A neutral point defect.

    Attributes:
        name: in Kröger-Vink's manner, such as "v_Cu", "O_i" or "Ag_Cu", with a number where there are several.
        verdict: "relaxed", "moved" (an atom went further than 1 Å, so it may be another defect) or "not converged".
        formation_energy: eV, each exchanged atom at the energy of its elemental reference; None if not converged.
        limits: for a host of two elements the formation energy (eV) in equilibrium with the host and one of them, by
            name such as "O-rich".
        exchanged: atoms added (positive) and removed (negative) by element.
        position: of the defect in the supercell before relaxation, (3,) in Å.
        multiplicity: equivalent atoms in the host's cell, of a vacancy or substitution; None of an interstitial.
        void_radius: distance to the nearest atoms before relaxation (Å), of an interstitial.
        unrelaxed_energy: formation energy before relaxation (eV).
        displacement: how far the atom that moved most went (Å).
        atoms: the relaxed supercell.
    """

    name: str
    verdict: str
    formation_energy: float | None
    limits: Mapping[str, float]
    exchanged: Mapping[str, int]
    position: np.ndarray
    multiplicity: int | None
    void_radius: float | None
    unrelaxed_energy: float
    displacement: float
    atoms: Atoms


@dataclass(frozen=True)
class DefectsResult:
    """Point defects of a crystal.

    Attributes:
        atoms: the relaxed crystal.
        verdict: "complete" or "some defects have no energy".
        warnings: what else to know, one sentence each.
        defects: vacancies, interstitials, substitutions.
        supercell: (3, 3) whole numbers; rows, times the cell, are the supercell's vectors.
        n_supercell: atoms of the perfect supercell.
        image_distance: between a defect and its nearest image (Å).
        chemical_potentials: energy per atom of each exchanged element (eV).
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    defects: tuple[Defect, ...]
    supercell: np.ndarray
    n_supercell: int
    image_distance: float
    chemical_potentials: Mapping[str, float]
    options: DefectOptions

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ok": self.verdict == COMPLETE,
            **vars(self),
        }


def defects(
    atoms: Any,
    calculator: Any = None,
    *,
    vacancies: Iterable[str] = ("all",),
    interstitials: Iterable[str] = (),
    substitutions: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    supercell_length: float = 10.0,
    supercell: tuple[int, int, int] | None = None,
    references: Mapping[str, float] | ElementReferences | None = None,
    relaxation: str = "cell",
    fmax: float = 0.02,
    steps: int = 500,
    symprec: float = 0.01,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
) -> DefectsResult:
    """Compute formation energies E(defect) - E(perfect) - sum n_i mu_i of neutral point defects at fixed volume.

    One of each symmetry-distinct kind is computed. mu_i is the energy of the element's reference phase (of an elemental
    crystal, of the crystal itself). There are no charges and no corrections for images.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model.
        vacancies: elements to remove, or "all".
        interstitials: elements to put into the voids of the Voronoi diagram.
        substitutions: pairs (element of the host, element instead).
        supercell_length: shortest length of a supercell vector (Å).
        supercell: multiples of the cell's vectors instead.
        references: energies per atom (eV) by element that replace computed ones, or references shared between calls.
        relaxation: of the crystal before: "cell" for atoms and cell, "positions", "none".
        fmax: largest force the relaxations accept (eV/Å).
        steps: most steps of each.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
        store: keeps relaxed structures, for example in a file, so that an interrupted run can go on.
        callback: told what is about to be computed.

    Raises:
        ValueError: for a molecule or slab, impossible options, a host whose relaxation failed, a missing elemental
            reference, or no void for an interstitial.
    """
    given = dict(references.given if isinstance(references, ElementReferences) else references or {})
    listed = substitutions.items() if isinstance(substitutions, Mapping) else substitutions
    pairs = tuple((old, new) for old, new in listed)
    limits: dict[str, Any] = {"relaxation": relaxation, "fmax": fmax, "steps": steps}
    kinds: dict[str, Any] = {"vacancies": tuple(vacancies), "interstitials": tuple(interstitials)}
    cell: dict[str, Any] = {"supercell_length": supercell_length, "supercell": supercell, "symprec": symprec}
    energies = tuple(sorted(given.items()))
    options = DefectOptions(substitutions=pairs, references=energies, **kinds, **cell, **limits)
    structure = as_atoms(atoms)
    require_crystal(structure, "point defects", instead="Give a bulk cell.")
    _require_elements(structure, options)
    calculator = choose_calculator(atoms, calculator)
    store = ForceStore() if store is None else store
    if not isinstance(references, ElementReferences):
        references = ElementReferences(calculator, given, callback=callback)
    host, note = relax_host(structure, calculator, store, **limits)
    engine = _Engine(host, calculator, options, references, store, callback)
    vacuum = describe_vacuum(host)
    repeated = None if vacuum is None else f"the cell has {vacuum}; name the supercell to repeat only what is filled"
    return engine.run([text for text in (note, repeated) if text])


def _require_elements(structure: Atoms, options: DefectOptions) -> None:
    """Refuse to remove what is not there.

    Raises:
        ValueError: naming the elements.
    """
    present = set(structure.get_chemical_symbols())
    removed = {symbol for symbol in options.vacancies if symbol != "all"} | {old for old, _ in options.substitutions}
    if removed - present:
        raise ValueError(
            f"{', '.join(sorted(removed - present))} cannot be removed from {structure.get_chemical_formula()}, which "
            f"has {', '.join(sorted(present))}."
        )


@dataclass(frozen=True)
class _Plan:
    """A defect to compute: the supercell with it, before relaxation."""

    name: str
    atoms: Atoms
    exchanged: Mapping[str, int]
    position: np.ndarray
    multiplicity: int | None = None
    void_radius: float | None = None


@dataclass(frozen=True)
class _Engine:
    host: Atoms
    calculator: Any
    options: DefectOptions
    references: ElementReferences
    store: ForceStore
    callback: Callable[[str], None] | None

    def run(self, notes: list[str]) -> DefectsResult:
        """Compute every defect."""
        if self.options.supercell is not None:
            matrix = np.diag(self.options.supercell)
        else:
            matrix = choose_supercell(self.host, self.options.supercell_length, symprec=self.options.symprec)
        perfect = make_supercell(self.host, matrix)
        plans = [*self._vacancies(perfect), *self._interstitials(perfect), *self._substitutions(perfect)]
        plans = [_numbered(plan, plans, k) for k, plan in enumerate(plans)]
        energy = single_point(perfect, self.calculator)
        potentials = self._potentials(plans, energy / len(perfect))
        conditions = self._conditions(energy / len(perfect))
        found = tuple(self._compute(plan, energy, potentials, conditions) for plan in plans)
        distance = _image_distance(perfect)
        complete = all(defect.formation_energy is not None for defect in found)
        exchanged = {symbol for plan in plans for symbol in plan.exchanged}
        notes += self.references.notes(
            exchanged if len(set(self.host.numbers)) > 1 else exchanged - set(self.host.symbols)
        )
        return DefectsResult(
            atoms=self.host,
            verdict=COMPLETE if complete else INCOMPLETE,
            warnings=(*notes, *_notes(found, distance)),
            defects=found,
            supercell=matrix,
            n_supercell=len(perfect),
            image_distance=distance,
            chemical_potentials=potentials,
            options=self.options,
        )

    def _sites(self, perfect: Atoms, wanted: Iterable[str]) -> list[tuple[int, str, int]]:
        """List index in the supercell, symbol and multiplicity of the distinct atoms of some elements."""
        chosen = set(wanted)
        found = []
        for site in distinct_atoms(self.host, symprec=self.options.symprec):
            if "all" in chosen or site.symbol in chosen:
                offsets = perfect.cell.scaled_positions(perfect.positions - self.host.positions[site.atom])
                distances = np.linalg.norm((offsets - np.rint(offsets)) @ perfect.cell.array, axis=1)
                found.append((int(distances.argmin()), site.symbol, site.multiplicity))
        return found

    def _vacancies(self, perfect: Atoms) -> list[_Plan]:
        plans = []
        for index, symbol, multiplicity in self._sites(perfect, self.options.vacancies):
            atoms = perfect.copy()
            del atoms[index]
            plans.append(_Plan(f"v_{symbol}", atoms, {symbol: -1}, perfect.positions[index], multiplicity))
        return plans

    def _substitutions(self, perfect: Atoms) -> list[_Plan]:
        plans = []
        for old, new in self.options.substitutions:
            for index, _, multiplicity in self._sites(perfect, [old]):
                atoms = perfect.copy()
                atoms.symbols[index] = new
                exchanged = {old: -1, new: 1}
                plans.append(_Plan(f"{new}_{old}", atoms, exchanged, perfect.positions[index], multiplicity))
        return plans

    def _interstitials(self, perfect: Atoms) -> list[_Plan]:
        plans = []
        for symbol in self.options.interstitials:
            for void in spacious_voids(self.host, symbol, symprec=self.options.symprec):
                atoms = perfect + Atoms(symbol, positions=[void.position])
                plans.append(_Plan(f"{symbol}_i", atoms, {symbol: 1}, void.position, None, void.radius))
        return plans

    def _potentials(self, plans: Sequence[_Plan], host_energy: float) -> dict[str, float]:
        """Give the energy per atom (eV) of each exchanged element."""
        symbols = sorted({symbol for plan in plans for symbol in plan.exchanged})
        alone = set(self.host.get_chemical_symbols())
        own = len(alone) == 1 and not self.references.given.keys() & alone
        return {
            symbol: host_energy if own and symbol in alone else self.references.ground_state(symbol).energy
            for symbol in symbols
        }

    def _conditions(self, host_energy: float) -> dict[str, dict[str, float]]:
        """Give, for a host of two elements, both chemical potentials (eV) in equilibrium with it and one element."""
        counts = Counter(self.host.get_chemical_symbols())
        if len(counts) != 2:
            return {}
        found = {}
        for rich, other in itertools.permutations(counts):
            rich_energy = self.references.ground_state(rich).energy
            rest = host_energy * len(self.host) - counts[rich] * rich_energy
            found[f"{rich}-rich"] = {rich: rich_energy, other: rest / counts[other]}
        return found

    def _compute(
        self,
        plan: _Plan,
        perfect: float,
        potentials: Mapping[str, float],
        conditions: Mapping[str, Mapping[str, float]],
    ) -> Defect:
        if self.callback is not None:
            self.callback(f"{plan.name}, {len(plan.atoms)} atoms")

        def formation(total: float, energies: Mapping[str, float]) -> float:
            return total - perfect - sum(n * energies[symbol] for symbol, n in plan.exchanged.items())

        unrelaxed = formation(single_point(plan.atoms.copy(), self.calculator), potentials)
        start = plan.atoms.copy()
        start.positions += np.random.default_rng(0).normal(scale=RATTLE, size=(len(start), 3))
        limits: dict[str, Any] = {"fmax": self.options.fmax, "steps": self.options.steps}
        relaxed = relax_fixed_cell(plan.name, start, self.calculator, self.store, **limits)
        displacement = float(movement(plan.atoms, relaxed.atoms).max())
        energies = {name: formation(relaxed.energy, {**potentials, **limit}) for name, limit in conditions.items()}
        settled = MOVED if displacement > FAR else RELAXED
        return Defect(
            name=plan.name,
            verdict=settled if relaxed.converged else NOT_CONVERGED,
            formation_energy=formation(relaxed.energy, potentials) if relaxed.converged else None,
            limits=energies if relaxed.converged else {},
            exchanged=plan.exchanged,
            position=plan.position,
            multiplicity=plan.multiplicity,
            void_radius=plan.void_radius,
            unrelaxed_energy=unrelaxed,
            displacement=displacement,
            atoms=relaxed.atoms,
        )


def _numbered(plan: _Plan, plans: Sequence[_Plan], position: int) -> _Plan:
    """Add a number to the name of a defect that there are several of."""
    same = [k for k, other in enumerate(plans) if other.name == plan.name]
    return plan if len(same) == 1 else _Plan(**{**vars(plan), "name": f"{plan.name}-{same.index(position) + 1}"})


def _image_distance(perfect: Atoms) -> float:
    """Give the length (Å) of the shortest lattice vector of the supercell."""
    steps = np.array([step for step in itertools.product((-1, 0, 1), repeat=3) if any(step)])
    return float(np.linalg.norm(steps @ perfect.cell.array, axis=1).min())


def _notes(found: Sequence[Defect], distance: float) -> list[str]:
    notes = []
    if distance < CLOSE_IMAGES:
        notes.append(f"defects are only {distance:.1f} Å from their images; use a longer supercell")
    moved = [defect.name for defect in found if defect.verdict == MOVED]
    notes += [f"{', '.join(moved)}: an atom moved by more than {FAR:.0f} Å; it may be another defect"] if moved else []
    negative = [d.name for d in found if min([d.formation_energy or 0.0, *d.limits.values()]) < 0.0]
    if negative:
        notes.append(
            f"{', '.join(negative)}: the formation energy is negative, so the host is not stable against it or the "
            "calculator is wrong about it"
        )
    return notes
