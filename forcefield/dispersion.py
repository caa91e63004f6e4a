"""Dispersion on top of a calculator: Grimme's D3 by the package `dftd3` (extra `dispersion`).

Labels of PBE, and models trained on them, lack the attraction between layers and molecules. D3 adds it pair by pair:
Grimme et al., J. Chem. Phys. 132, 154104 (2010), doi:10.1063/1.3382344; damping of Becke and Johnson in Grimme,
Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011), doi:10.1002/jcc.21759.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes

from forcefield.calculator import GNNCalculator
from forcefield.neighbours import completed_cell

NEEDS = 'dispersion needs the package dftd3; install it with: pip install "gnn-forcefield[dispersion]"'


class DispersionCorrected(Calculator):
    """A calculator plus D3 dispersion: energy, forces and stress are sums of both.

    Without arguments it is the default model with D3(BJ) for PBE, so that every command and workflow takes it as
    ``--calculator forcefield.dispersion:DispersionCorrected``.

    Args:
        calculator: what to add to; `GNNCalculator()` if not given. It must not hold dispersion already.
        functional: of the calculator's labels, as D3 calls it.
        damping: ``d3bj`` (Becke-Johnson), ``d3zero``, ``d3bjm``, ``d3zerom`` or ``d3op``.

    Raises:
        ImportError: `dftd3` is not installed.
        ValueError: there are no parameters for this functional and damping.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self, calculator: BaseCalculator | None = None, *, functional: str = "PBE", damping: str = "d3bj"
    ) -> None:
        super().__init__()
        self.calculator = GNNCalculator() if calculator is None else calculator
        self.dispersion = _d3(functional, damping)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate both; errors of the model, such as a stress without a volume, come as they are."""
        super().calculate(atoms, properties, system_changes)
        structure = self.atoms
        assert structure is not None  # set by the base class
        wanted = sorted({"energy", "forces", *properties} - {"free_energy"})
        model = self.calculator
        self.results = {name: model.get_property(name, structure.copy()) for name in wanted}  # errors come first
        enclosed = _enclosed(structure)
        for name in wanted:
            share = enclosed.get_volume() / structure.get_volume() if name == "stress" else 1.0
            self.results[name] = self.results[name] + share * self.dispersion.get_property(name, enclosed)
        self.results["free_energy"] = self.results["energy"]


def _enclosed(atoms: Atoms) -> Atoms:
    """The structure in a cell that encloses it along axes that do not repeat: D3 folds atoms into the cell."""
    enclosed = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if atoms.pbc.all() or len(atoms) == 0:
        return enclosed
    cell = completed_cell(atoms.cell.array, atoms.pbc)
    scaled = np.linalg.solve(cell.T, atoms.positions.T).T
    lowest = scaled.min(axis=0)
    lengths = np.ptp(scaled, axis=0) + 1
    free = ~atoms.pbc
    enclosed.cell = np.where(free[:, None], lengths[:, None] * cell, cell)
    enclosed.positions -= np.where(free, lowest - 0.5, 0) @ cell
    return enclosed


def _d3(functional: str, damping: str) -> Any:
    """ASE calculator of the dispersion energy alone, its parameters checked."""
    try:
        from dftd3 import ase, interface
    except ModuleNotFoundError as error:
        raise ImportError(NEEDS) from error
    kinds = {
        "d3bj": interface.RationalDampingParam,
        "d3zero": interface.ZeroDampingParam,
        "d3bjm": interface.ModifiedRationalDampingParam,
        "d3zerom": interface.ModifiedZeroDampingParam,
        "d3op": interface.OptimizedPowerDampingParam,
    }
    if damping not in kinds:
        raise ValueError(f"damping is {damping!r}, but must be one of {', '.join(kinds)}")
    try:
        kinds[damping](method=functional)
    except RuntimeError as error:
        raise ValueError(f"D3 has no parameters of {damping} for the functional {functional!r} ({error})") from error
    return ase.DFTD3(method=functional, damping=damping)
