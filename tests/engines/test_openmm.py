"""The force field in OpenMM against the ASE calculator: energies, forces, dynamics, pressure, and files."""

from __future__ import annotations

import builtins
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLength
from ase.md.verlet import VelocityVerlet

from forcefield import GNNCalculator
from forcefield.openmm import CalculatorForce, OpenMMStructure, openmm_structure, reduced_box
from forcefield.units import FS, KELVIN, KJ_PER_MOL

openmm = pytest.importorskip("openmm")
unit = pytest.importorskip("openmm.unit")


@pytest.fixture(scope="module")
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, dtype="float64", device="cpu", check_overlaps=False)


def slab() -> Atoms:
    atoms = fcc111("Cu", (1, 1, 3), vacuum=5)
    atoms.pbc = (True, True, False)
    return atoms


def strange_cell() -> Atoms:
    """Left-handed, skewed and turned."""
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    cell = atoms.cell.array[[1, 0, 2]] + np.array([[0, 0, 0], [0.3, 0.1, 0], [0, 0, 0.2]])
    cell[2] += 2 * cell[0] - cell[1]
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


STRUCTURES = {
    "crystal": lambda: bulk("Cu", cubic=True),
    "primitive cell": lambda: bulk("Si"),
    "strange cell": strange_cell,
    "slab": slab,
    "molecule": lambda: molecule("CH3CH2OH"),
    "atom": lambda: Atoms("Na"),
}


def context_of(structure: OpenMMStructure, step: float = 1.0) -> openmm.Context:
    """In double precision, with a time step in fs."""
    integrator = openmm.VerletIntegrator(step * unit.femtosecond)
    context = openmm.Context(structure.system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(structure.positions)
    return context


def energy_of(state: openmm.State) -> float:
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * KJ_PER_MOL


@pytest.mark.parametrize("name", STRUCTURES)
def test_energy_and_forces_are_those_of_the_calculator(calculator: GNNCalculator, name: str) -> None:
    atoms = STRUCTURES[name]()
    atoms.rattle(0.05, seed=1)
    structure = openmm_structure(atoms, calculator)
    state = context_of(structure).getState(energy=True, forces=True, positions=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom) * KJ_PER_MOL
    atoms.calc = calculator
    assert energy_of(state) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(forces @ structure.rotation.T, atoms.get_forces(), rtol=0, atol=1e-10)
    back = structure.atoms(state)
    np.testing.assert_allclose(back.positions, atoms.positions, atol=1e-10)
    assert back.symbols.get_chemical_formula() == atoms.symbols.get_chemical_formula()
    assert abs(back.cell.volume) == pytest.approx(abs(atoms.cell.volume))
    assert structure.topology.getNumAtoms() == len(atoms)
    assert structure.system.usesPeriodicBoundaryConditions() == atoms.pbc.all()


@pytest.mark.parametrize("name", ["crystal", "molecule"])
def test_constant_energy_follows_the_same_trajectory_as_ase(calculator: GNNCalculator, name: str) -> None:
    """OpenMM's Verlet keeps velocities half a step off, so they start where ASE's end up after half a kick."""
    atoms = STRUCTURES[name]()
    atoms.calc = calculator
    momenta = (
        np.random.default_rng(1).normal(size=(len(atoms), 3)) * np.sqrt(300 * KELVIN * atoms.get_masses())[:, None]
    )
    atoms.set_momenta(momenta)
    structure = openmm_structure(atoms, calculator)
    context = context_of(structure, step=0.5)
    half = atoms.get_velocities() - 0.25 * FS * atoms.get_forces() / atoms.get_masses()[:, None]
    context.setVelocities(half @ structure.rotation * FS * 1000 * unit.angstrom / unit.picosecond)
    energies = []
    for _ in range(10):
        context.getIntegrator().step(2)
        state = context.getState(energy=True, positions=True, velocities=True)
        energies.append(energy_of(state) + state.getKineticEnergy() / unit.kilojoule_per_mole * KJ_PER_MOL)
    VelocityVerlet(atoms, timestep=0.5 * FS).run(20)
    found = structure.atoms(state)
    np.testing.assert_allclose(found.positions, atoms.positions, atol=1e-9)
    assert np.ptp(energies) < 2e-3 * len(atoms)
    expected = atoms.get_velocities() - 0.25 * FS * atoms.get_forces() / atoms.get_masses()[:, None]
    np.testing.assert_allclose(found.get_velocities(), expected, atol=1e-9)


def test_constant_pressure_changes_the_box() -> None:
    """A compressed crystal of argon expands with OpenMM's barostat."""
    atoms = bulk("Ar", a=4.9, cubic=True).repeat(2)
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, smooth=True)
    structure = openmm_structure(atoms, calculator)
    structure.system.addForce(openmm.MonteCarloBarostat(1 * unit.bar, 40 * unit.kelvin, 2))
    integrator = openmm.LangevinMiddleIntegrator(40 * unit.kelvin, 1 / unit.picosecond, 4 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(structure.system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(structure.positions)
    integrator.step(60)
    assert structure.atoms(context.getState(positions=True)).get_volume() > 1.005 * atoms.get_volume()


def test_a_system_is_saved_with_its_force(calculator: GNNCalculator) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    structure = openmm_structure(atoms, calculator)
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(structure.system))
    again = OpenMMStructure(system, structure.topology, structure.positions, structure.start, structure.rotation)
    states = [context_of(one).getState(energy=True) for one in (structure, again)]
    assert energy_of(states[0]) == pytest.approx(energy_of(states[1]), abs=1e-12)
    assert isinstance(pickle.loads(pickle.dumps(CalculatorForce(atoms, calculator))), CalculatorForce)


def test_fixed_atoms_have_no_mass_and_stay(calculator: GNNCalculator) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_constraint(FixAtoms([1]))
    structure = openmm_structure(atoms, calculator)
    context = context_of(structure, step=5.0)
    context.getIntegrator().step(5)
    moved = np.linalg.norm(structure.atoms(context.getState(positions=True)).positions - atoms.positions, axis=1)
    assert moved[1] < 1e-12 and moved[[0, 2, 3]].min() > 1e-4
    water = molecule("H2O")
    water.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ValueError, match="constraint FixBondLengths; only FixAtoms"):
        openmm_structure(water, calculator)


def test_an_unknown_element_is_refused_at_once(calculator: GNNCalculator) -> None:
    with pytest.raises(ValueError, match="Unknown to the model: Au"):
        openmm_structure(bulk("Au"), calculator)


def test_an_error_in_a_step_reaches_the_caller(calculator: GNNCalculator) -> None:
    structure = openmm_structure(bulk("Cu", cubic=True), calculator)
    context = context_of(structure)
    context.setPositions(np.full((4, 3), np.nan))
    with pytest.raises((ValueError, openmm.OpenMMException), match=r"(?i)not finite|nan"):
        context.getState(energy=True)


@pytest.mark.parametrize("seed", range(5))
def test_a_reduced_box_spans_the_same_lattice(seed: int) -> None:
    cell = np.random.default_rng(seed).normal(size=(3, 3)) * 4
    box, rotation = reduced_box(cell)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    combination = box @ np.linalg.inv(cell @ rotation)
    np.testing.assert_allclose(combination, np.rint(combination), atol=1e-9)
    assert abs(np.linalg.det(combination)) == pytest.approx(1.0)
    assert np.all(np.diag(box) > 0) and not box[np.triu_indices(3, 1)].any()
    assert abs(box[1, 0]) <= 0.5 * box[0, 0] + 1e-9 and abs(box[2, 1]) <= 0.5 * box[1, 1] + 1e-9
    assert abs(box[2, 0]) <= 0.5 * box[0, 0] + 1e-9


def test_without_openmm_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: object, **options: object) -> object:
        if name == "openmm":
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"gnn-forcefield\[openmm\]"):
        openmm_structure(Atoms("Na"))
