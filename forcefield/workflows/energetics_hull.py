"""Energy above the convex hull among given structures: `energy_above_hull(structures, calculator)`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from forcefield.workflows.energetics import energetics
from forcefield.workflows.energetics_references import ElementReferences
from forcefield.workflows.outcome import require_package
from forcefield.workflows.relax_setup import choose_calculator

ON_HULL = 1.0e-4  # eV/atom; relaxed energies of one phase from two files agree to about this


class HullEntry(NamedTuple):
    """A phase: its name, how many atoms of each element, and the total energy (eV) of these."""

    name: str
    composition: Mapping[str, float]
    energy: float


@dataclass(frozen=True)
class HullPoint:
    """Where a phase lies against the hull.

    Attributes:
        name: of the phase.
        formula: reduced formula.
        energy_per_atom: in eV.
        formation_energy: per atom, against the lowest entry of each element (eV).
        above_hull: energy above the hull, per atom (eV); 0 on it.
        decomposition: into which phases it would decompose, and the fraction of atoms in each; itself if on the hull.
    """

    name: str
    formula: str
    energy_per_atom: float
    formation_energy: float
    above_hull: float
    decomposition: Mapping[str, float]

    @property
    def stable(self) -> bool:
        """Whether it lies on the hull."""
        return self.above_hull <= ON_HULL


def hull(entries: Sequence[HullEntry]) -> tuple[HullPoint, ...]:
    """Construct the convex hull of phases (pymatgen's PhaseDiagram, https://doi.org/10.1021/cm702327g).

    Args:
        entries: phases with total energies of one calculator, at least one for each element alone.

    Returns:
        One point for each entry, in the same order.

    Raises:
        ImportError: without pymatgen.
        ValueError: if an element has no entry of its own.
    """
    require_package("pymatgen")
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition

    present = {symbol for entry in entries for symbol in entry.composition}
    alone = {next(iter(entry.composition)) for entry in entries if len(entry.composition) == 1}
    missing = sorted(present - alone)
    if missing or not entries:
        raise ValueError(
            f"A hull needs an entry for each element alone, but {', '.join(missing) or 'every one'} has none. Add "
            "the elements, for example with energetics(...).references."
        )
    made = [PDEntry(Composition(dict(entry.composition)), entry.energy, name=entry.name) for entry in entries]
    diagram = PhaseDiagram(made)
    return tuple(_point(diagram, entry) for entry in made)


def _point(diagram: Any, entry: Any) -> HullPoint:
    above_hull = max(float(diagram.get_e_above_hull(entry)), 0.0)
    # of phases that share a corner of the hull only one belongs to it
    decomposition = {entry: 1.0} if above_hull <= ON_HULL else diagram.get_decomposition(entry.composition)
    return HullPoint(
        name=entry.name,
        formula=entry.composition.reduced_formula,
        energy_per_atom=float(entry.energy_per_atom),
        formation_energy=float(diagram.get_form_energy_per_atom(entry)),
        above_hull=above_hull,
        decomposition={phase.name: float(amount) for phase, amount in decomposition.items()},
    )


def energy_above_hull(
    structures: Mapping[str, Any] | Sequence[Any],
    calculator: Any = None,
    *,
    relaxation: str = "cell",
    fmax: float = 1.0e-3,
    steps: int = 1000,
    references: Mapping[str, float] | ElementReferences | None = None,
    callback: Callable[[str], None] | None = None,
) -> tuple[HullPoint, ...]:
    """Compute the energies of structures and where each lies above the hull of them and their elements.

    Args:
        structures: structures by name, or in a sequence (numbered from 0).
        calculator: an ASE calculator; None takes the default model.
        relaxation: as in `energetics`, for each structure.
        fmax: largest force the relaxations accept (eV/Å).
        steps: most steps of each.
        references: as in `energetics`.
        callback: told what is about to be computed.

    Returns:
        One point for each structure, in their order; only the phases given and the elements count as competitors.

    Raises:
        ValueError: as `energetics` and `hull`.
    """
    named = dict(structures) if isinstance(structures, Mapping) else {str(k): s for k, s in enumerate(structures)}
    calculator = choose_calculator(None, calculator)
    if not isinstance(references, ElementReferences):
        references = ElementReferences(calculator, dict(references or {}), fmax=fmax, steps=steps, callback=callback)
    entries = []
    for name, structure in named.items():
        if callback is not None:
            callback(name)
        result = energetics(structure, calculator, relaxation=relaxation, fmax=fmax, steps=steps, references=references)
        entries.append(HullEntry(name, Counter(result.atoms.get_chemical_symbols()), result.energy))
    elements = sorted({symbol for entry in entries for symbol in entry.composition})
    return hull([*entries, *element_entries(references, elements)])[: len(entries)]


def element_entries(references: ElementReferences, symbols: Sequence[str]) -> list[HullEntry]:
    """Make a hull entry for the ground state of each element."""
    states = [references.ground_state(symbol) for symbol in symbols]
    return [HullEntry(f"{state.symbol} ({state.label})", {state.symbol: 1}, state.energy) for state in states]
