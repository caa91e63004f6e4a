"""Energies of the elements with the same calculator: free atoms, and ground states as chemical potentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers

from forcefield.workflows.energetics_prototypes import MOLECULES, reference_structures
from forcefield.workflows.outcome import require_converged
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_result import INTERRUPTED

MOLECULE_NOTE = (
    "gases (H2, N2, O2, F2, Cl2) are measured from their molecules as the calculator has them; the error of PBE for O2 "
    "and the like is not corrected"
)


@dataclass(frozen=True)
class Reference:
    """The state of an element that energies are measured from.

    Attributes:
        symbol: of the element.
        label: the phase, such as "fcc" or "O2 molecule", or "given" for an energy from the user.
        energy: per atom (eV).
        atoms: the relaxed structure; None where the energy was given.
    """

    symbol: str
    label: str
    energy: float
    atoms: Atoms | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give all but the structure."""
        return {"symbol": self.symbol, "label": self.label, "energy": self.energy}


@dataclass
class ElementReferences:
    """Ground states and free atoms of the elements, computed when first asked for and kept.

    Args:
        calculator: an ASE calculator.
        given: energies per atom (eV) that replace computed ground states, by symbol.
        fmax: largest force accepted (eV/Å).
        steps: most steps of a relaxation.
        callback: told which reference is about to be computed.
    """

    calculator: Any
    given: Mapping[str, float] = field(default_factory=dict)
    fmax: float = 1.0e-3
    steps: int = 1000
    callback: Callable[[str], None] | None = None
    _known: dict[str, Reference] = field(default_factory=dict, init=False, repr=False)
    _free: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no element.

        Raises:
            ValueError: for an unknown symbol.
        """
        for symbol in self.given:
            check_element(symbol)

    def ground_state(self, symbol: str) -> Reference:
        """Give the lowest of the element's candidate phases, relaxed with the calculator.

        Raises:
            ValueError: if there is no candidate, the calculator cannot compute it, or its relaxation failed.
        """
        check_element(symbol)
        if symbol in self.given:
            return Reference(symbol, "given", float(self.given[symbol]))
        if symbol not in self._known:
            candidates = reference_structures(symbol)
            computed = [self._compute(symbol, label, atoms) for label, atoms in candidates.items()]
            self._known[symbol] = min(computed, key=lambda reference: reference.energy)
        return self._known[symbol]

    def _compute(self, symbol: str, label: str, atoms: Atoms) -> Reference:
        if self.callback is not None:
            self.callback(f"{symbol} ({label})")
        periodic = bool(atoms.pbc.all())
        options: dict[str, Any] = {"cell": periodic, "symmetry": periodic, "fmax": self.fmax, "smax": 0.02}
        try:
            result = relax(atoms, self.calculator, steps=self.steps, optimizer="LBFGS", **options)
            if not result.converged and result.reason != INTERRUPTED:
                result = relax(atoms, self.calculator, steps=self.steps, optimizer="FIRE", **options)
            require_converged(result, "the relaxation")
        except (ValueError, NotImplementedError, KeyError) as error:
            raise ValueError(
                f"The elemental reference of {symbol} ({label}) cannot be computed with "
                f"{type(self.calculator).__name__}: {error} Or give its energy per atom (eV) yourself, as "
                f"references={{'{symbol}': energy}} (--reference {symbol}=energy)."
            ) from error
        return Reference(symbol, label, result.energy_per_atom, result.atoms)

    def free_atom(self, symbol: str) -> float:
        """Give the energy of a free atom (eV).

        Raises:
            ValueError: if the calculator cannot compute it.
        """
        if symbol not in self._free:
            atom = Atoms([symbol])
            atom.calc = self.calculator
            try:
                self._free[symbol] = float(atom.get_potential_energy())
            except (ValueError, NotImplementedError, KeyError) as error:
                raise ValueError(
                    f"The free atom {symbol} cannot be computed with {type(self.calculator).__name__}: {error}"
                ) from error
        return self._free[symbol]

    def notes(self, symbols: set[str]) -> list[str]:
        """Say what to know about the references of some elements."""
        gases = [symbol for symbol in symbols if f"{symbol}2" in MOLECULES and symbol not in self.given]
        return [MOLECULE_NOTE] if gases else []


def check_element(symbol: str) -> None:
    """Refuse what is no chemical symbol.

    Raises:
        ValueError: naming it.
    """
    if symbol not in atomic_numbers or symbol == "X":
        raise ValueError(f"{symbol!r} is no chemical symbol; write elements as in Cu or O.")
