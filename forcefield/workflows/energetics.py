"""Cohesive and formation energy of a structure: `energetics(structure, calculator)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.structures import as_atoms, check_structure
from forcefield.workflows.energetics_references import ElementReferences, Reference
from forcefield.workflows.energetics_relax import check_choice, check_relaxation, relax_gas, relax_host
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import RELAXATIONS
from forcefield.workflows.relax_setup import choose_calculator
from forcefield.workflows.symmetry import SpaceGroup, find_space_group
from forcefield.workflows.vacuum import describe_vacuum

BOUND = "stable against the elements"
UNBOUND = "unstable against the elements"
ELEMENT = "element"
NOT_GROUND_STATE = "element, not in its reference phase"
SAME_PHASE = 1.0e-3  # eV/atom


@dataclass(frozen=True)
class EnergeticsOptions:
    """Options of `energetics`, checked; see there for their meaning."""

    relaxation: str = "cell"
    fmax: float = 1.0e-3
    steps: int = 1000
    references: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        check_choice("relaxation", self.relaxation, RELAXATIONS)
        check_relaxation(self.fmax, self.steps)
        ElementReferences(None, dict(self.references))

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class EnergeticsResult:
    """Energies of a structure against its atoms and its elements.

    Attributes:
        atoms: the relaxed structure.
        verdict: "stable against the elements", "unstable against the elements", "element" or "element, not in its
            reference phase".
        warnings: what else to know, one sentence each.
        energy: total energy (eV).
        cohesive_energy: energy of the free atoms less that of the structure, per atom (eV); positive where bound.
        formation_energy: energy of the structure less that of its elements, per atom (eV); negative where stable.
        free_atoms: energy of each free atom (eV).
        references: the elemental states.
        spacegroup: of the relaxed structure; None for a molecule or slab.
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    energy: float
    cohesive_energy: float
    formation_energy: float
    free_atoms: Mapping[str, float]
    references: Mapping[str, Reference]
    spacegroup: SpaceGroup | None
    options: EnergeticsOptions

    @property
    def energy_per_atom(self) -> float:
        """Total energy per atom (eV)."""
        return self.energy / len(self.atoms)

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {
            "formula": self.atoms.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ok": True,
            "composition": dict(Counter(self.atoms.get_chemical_symbols())),
            "energy_per_atom": self.energy_per_atom,
            **vars(self),
        }


def energetics(
    atoms: Any,
    calculator: Any = None,
    *,
    relaxation: str = "cell",
    fmax: float = 1.0e-3,
    steps: int = 1000,
    references: Mapping[str, float] | ElementReferences | None = None,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
) -> EnergeticsResult:
    """Compute the energy of a structure against free atoms and against its elements, all with the same calculator.

    Elements are taken in the lowest of the phases of `reference_structures`, relaxed; gases as molecules.

    Args:
        atoms: a crystal, slab or molecule as `ase.Atoms` or of pymatgen.
        calculator: an ASE calculator; None takes the one attached, else the default model.
        relaxation: "cell" for atoms and cell (of a molecule or slab the atoms only), "positions", or "none".
        fmax: largest force the relaxations accept (eV/Å).
        steps: most steps of each.
        references: energies per atom (eV) by element that replace computed ones, or references shared between calls.
        store: keeps the relaxed structure, for example in a file.
        callback: told what is about to be computed.

    Raises:
        ValueError: for an impossible structure or option, a relaxation that failed, or a missing elemental reference.
    """
    given = dict(references.given if isinstance(references, ElementReferences) else references or {})
    options = EnergeticsOptions(relaxation, fmax, steps, tuple(sorted(given.items())))
    structure = as_atoms(atoms)
    check_structure(structure)
    calculator = choose_calculator(atoms, calculator)
    store = ForceStore() if store is None else store
    if not isinstance(references, ElementReferences):
        references = ElementReferences(calculator, given, fmax=fmax, steps=steps, callback=callback)
    final, energy, notes = _relax(structure, calculator, options, store)
    symbols = set(final.get_chemical_symbols())
    known = {symbol: references.ground_state(symbol) for symbol in sorted(symbols)}
    free = {symbol: references.free_atom(symbol) for symbol in sorted(symbols)}
    counts = Counter(final.get_chemical_symbols())
    n = len(final)
    formation = (energy - sum(count * known[symbol].energy for symbol, count in counts.items())) / n
    return EnergeticsResult(
        atoms=final,
        verdict=_verdict(formation, len(symbols)),
        warnings=tuple(notes + references.notes(symbols)),
        energy=energy,
        cohesive_energy=(sum(count * free[symbol] for symbol, count in counts.items()) - energy) / n,
        formation_energy=formation,
        free_atoms=free,
        references=known,
        spacegroup=find_space_group(final),
        options=options,
    )


def _relax(
    structure: Atoms, calculator: Any, options: EnergeticsOptions, store: ForceStore
) -> tuple[Atoms, float, list[str]]:
    """Relax what can be relaxed and give structure, energy and notes."""
    vacuum = describe_vacuum(structure)
    if options.relaxation == "none" or (structure.pbc.all() and vacuum is None):
        settings: dict[str, Any] = {"relaxation": options.relaxation, "fmax": options.fmax, "steps": options.steps}
        final, note = relax_host(structure, calculator, store, **settings)
        notes = [note] if note else []
    else:
        name = structure.get_chemical_formula()
        final = relax_gas(name, structure, calculator, store, fmax=options.fmax, steps=options.steps).atoms
        about = vacuum or "not periodic along three axes"
        notes = [f"{about}: atoms relaxed, cell kept"] if structure.pbc.any() else []
    final.calc = calculator
    energy = float(final.get_potential_energy())
    if not np.isfinite(energy):
        raise ValueError(f"{type(calculator).__name__} gave the energy {energy} for {final.get_chemical_formula()}.")
    return final, energy, notes


def _verdict(formation: float, n_elements: int) -> str:
    if n_elements == 1:
        return ELEMENT if abs(formation) < SAME_PHASE else NOT_GROUND_STATE
    return BOUND if formation < 0.0 else UNBOUND
