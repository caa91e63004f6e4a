"""The force field in OpenMM (extra `openmm`): a `System` whose one force is computed in Python by an ASE calculator.

OpenMM: Eastman et al., J. Phys. Chem. B 128, 109 (2024), doi:10.1021/acs.jpcb.3c06662. Lengths are nm and energies
kJ/mol there; here everything is Å and eV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from forcefield.structures import as_atoms, check_structure
from forcefield.units import KJ_PER_MOL

NEEDS = 'OpenMM 8.5 or newer is needed; install it with: pip install "gnn-forcefield[openmm]"'
NM = 10.0
"""1 nm in Å."""


def import_openmm() -> Any:
    """The module `openmm`.

    Raises:
        ImportError: it is not installed, or too old to call Python.
    """
    try:
        import openmm
    except ModuleNotFoundError as error:
        raise ImportError(NEEDS) from error
    if not hasattr(openmm, "PythonForce"):
        raise ImportError(f"{NEEDS}; this one is {openmm.version.version}")
    return openmm


class CalculatorForce:
    """Energy and forces of a state of OpenMM; can be pickled if the calculator can, so that a `System` can be saved.

    Args:
        atoms: the structure, as OpenMM holds it.
        calculator: ASE calculator with energy and forces.
    """

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        self.atoms, self.calculator = atoms.copy(), calculator

    def __call__(self, state: Any) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol) and forces (atoms, 3) in kJ/mol/nm; called by OpenMM."""
        from openmm.unit import angstrom

        atoms = self.atoms.copy()
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(angstrom)
        if atoms.pbc.all():
            atoms.cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(angstrom)
        energy = self.calculator.get_property("energy", atoms)
        forces = self.calculator.get_property("forces", atoms)
        return energy / KJ_PER_MOL, forces * (NM / KJ_PER_MOL)


@dataclass(frozen=True)
class OpenMMStructure:
    """A structure in OpenMM.

    Attributes:
        system: `openmm.System` with its masses, box and force.
        topology: `openmm.app.Topology`, for simulations and reporters.
        positions: (atoms, 3) with OpenMM's unit, turned as OpenMM wants its box.
        start: the structure as it was given.
        rotation: (3, 3) turns a vector of `start` into one of OpenMM's, as row vectors ``v @ rotation``.
    """

    system: Any
    topology: Any
    positions: Any
    start: Atoms
    rotation: NDArray[np.float64]

    def atoms(self, state: Any) -> Atoms:
        """The structure of a state of OpenMM (with positions), turned back; velocities and results where it has them.

        Args:
            state: from ``context.getState(positions=True, velocities=True, ...)``.

        Returns:
            a copy of the structure given, with the calculator of none.
        """
        from openmm.unit import angstrom, picosecond

        from forcefield.units import PS

        atoms = self.start.copy()
        back = self.rotation.T
        if atoms.pbc.all():
            box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(angstrom)
            atoms.cell = box @ back
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(angstrom) @ back
        if _has(state, "Velocities"):
            velocities = state.getVelocities(asNumpy=True).value_in_unit(angstrom / picosecond)
            atoms.set_velocities(velocities / PS @ back)
        return atoms


def openmm_structure(atoms: Any, calculator: Any = None) -> OpenMMStructure:
    """Put a structure into OpenMM.

    Crystals get their periodic box and can be run at constant pressure; molecules get none. Slabs and wires keep their
    cell, which only the calculator knows, so they have no barostat. OpenMM wants a box with the first vector along x
    and the second in the xy plane, so a crystal is turned, and its box is another one of the same lattice.

    Args:
        atoms: `ase.Atoms`, or a pymatgen structure or molecule; atoms held by `FixAtoms` get no mass, which holds them
            in OpenMM.
        calculator: ASE calculator; the one attached to the atoms if not given, else the default model.

    Raises:
        ImportError: OpenMM is not installed.
        ValueError: the structure is impossible, or has constraints other than `FixAtoms`.
    """
    openmm = import_openmm()
    from openmm import unit

    start = as_atoms(atoms)
    elements = getattr(getattr(calculator, "model", None), "config", {}).get("elements")
    check_structure(start, elements)
    engine = _calculator(atoms, calculator)
    box, rotation = reduced_box(start.cell.array) if start.pbc.all() else (start.cell.array, np.eye(3))
    turned = start.copy()
    turned.set_constraint()
    turned.cell, turned.positions = box, start.positions @ rotation
    system = openmm.System()
    for mass in _masses(start):
        system.addParticle(mass)
    force = openmm.PythonForce(CalculatorForce(turned, engine))
    force.setName("forcefield")
    force.setUsesPeriodicBoundaryConditions(bool(start.pbc.all()))
    system.addForce(force)
    topology = _topology(start)
    if start.pbc.all():
        vectors = [openmm.Vec3(*row) for row in box / NM]
        system.setDefaultPeriodicBoxVectors(*vectors)
        topology.setPeriodicBoxVectors([vector * unit.nanometer for vector in vectors])
    return OpenMMStructure(system, topology, turned.positions * unit.angstrom, start, rotation)


def reduced_box(cell: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The box that OpenMM wants for a lattice, and the rotation into its frame.

    OpenMM's vectors are ``(ax, 0, 0)``, ``(bx, by, 0)``, ``(cx, cy, cz)`` with ``ax, by, cz > 0``,
    ``|bx| <= ax / 2``, ``|cx| <= ax / 2`` and ``|cy| <= by / 2``.

    Args:
        cell: (3, 3) lattice vectors as rows (Å).

    Returns:
        box (3, 3) in Å, and rotation (3, 3): ``vectors @ rotation`` are in the box's frame.
    """
    lattice = np.array(cell, dtype=float)
    if np.linalg.det(lattice) < 0:
        lattice = -lattice  # the same lattice, right-handed
    frame, triangle = np.linalg.qr(lattice.T)  # lattice = triangle.T @ frame.T
    signs = np.sign(np.diag(triangle))
    rotation = frame * signs
    box = (triangle.T * signs).copy()
    for row, pivot in ((2, 1), (2, 0), (1, 0)):
        box[row] -= box[pivot] * np.rint(box[row, pivot] / box[pivot, pivot])
    box[np.triu_indices(3, 1)] = 0.0
    return box, rotation


def _calculator(atoms: Any, calculator: Any) -> Any:
    from forcefield.workflows.relax_setup import choose_calculator

    return choose_calculator(atoms, calculator)


def _masses(atoms: Atoms) -> NDArray[np.float64]:
    masses = atoms.get_masses()
    for constraint in atoms.constraints:
        if type(constraint) is not FixAtoms:
            raise ValueError(
                f"OpenMM cannot keep the constraint {type(constraint).__name__}; only FixAtoms is possible here"
            )
        masses[constraint.index] = 0.0
    return masses


def _topology(atoms: Atoms) -> Any:
    from openmm.app import Element, Topology

    topology = Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for number, (symbol, z) in enumerate(zip(atoms.symbols, atoms.numbers, strict=True), start=1):
        topology.addAtom(f"{symbol}{number}", Element.getByAtomicNumber(int(z)), residue)
    return topology


def _has(state: Any, part: str) -> bool:
    from openmm import State

    return bool(state.getDataTypes() & getattr(State, part))
