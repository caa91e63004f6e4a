"""Relaxations against independent values, with ASE's EMT and Lennard-Jones potentials."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.optimize import minimize_scalar

from forcefield.units import GPA
from forcefield.workflows import OPTIMIZERS, RelaxOptions, find_space_group, relax
from forcefield.workflows.symmetry import cell_steps_accepted


def copper_enthalpy_minimum(pressure):
    """Lattice constant (Å) of EMT copper at a pressure (GPa), from energies alone, without stress or relaxation."""

    def enthalpy(lattice_constant):
        atoms = bulk("Cu", a=lattice_constant)
        atoms.calc = EMT()
        return atoms.get_potential_energy() + pressure * GPA * atoms.get_volume()

    return minimize_scalar(enthalpy, bounds=(3.2, 3.9), method="bounded", options={"xatol": 1e-6}).x


class Explosive(Calculator):
    """A calculator under constant tension or with forces that become NaN: what a broken model looks like."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, *, tension=0.0, finite_calls=10**9):
        super().__init__()
        self.tension = tension
        self.finite_calls = finite_calls
        self.calls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        finite = self.calls <= self.finite_calls
        self.results = {
            "energy": self.tension * atoms.get_volume(),
            "forces": np.full((len(atoms), 3), 0.3 if finite else np.nan),
            "stress": np.array([self.tension] * 3 + [0.0] * 3),
        }


class Forces(Calculator):
    """Energy and forces of EMT, without a stress."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        work = atoms.copy()
        work.calc = EMT()
        self.results = {"energy": work.get_potential_energy(), "forces": work.get_forces(apply_constraint=False)}


@pytest.mark.parametrize("pressure", [0.0, 20.0, -3.0])
def test_lattice_constant_minimises_the_enthalpy(pressure):
    result = relax(bulk("Cu", a=3.7), EMT(), cell=True, pressure=pressure, optimizer="BFGS", smax=0.005)
    assert result.converged and result.reason == "converged"
    assert result.atoms.cell.cellpar()[0] * 2**0.5 == pytest.approx(copper_enthalpy_minimum(pressure), abs=2e-3)
    assert result.pressure == pytest.approx(pressure, abs=0.01)
    np.testing.assert_allclose(result.stress, [-pressure] * 3 + [0] * 3, atol=0.01)
    assert result.volume_change == pytest.approx(result.atoms.get_volume() / (3.7**3 / 4) - 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_finds_the_same_crystal(optimizer):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    result = relax(atoms, EMT(), cell=True, optimizer=optimizer.lower(), fmax=0.01)
    assert result.converged
    assert result.max_force <= 0.01 and max(map(abs, result.stress)) <= 0.05
    assert result.energy_per_atom == pytest.approx(-0.00703, abs=2e-4)
    assert result.spacegroup_before.number == 1
    assert find_space_group(result.atoms, symprec=0.05).number == 225


def test_dimer_reaches_its_known_distance_in_a_fixed_cell():
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 1.3]])
    result = relax(dimer, LennardJones(sigma=1.0, epsilon=1.0, rc=20.0, smooth=False), fmax=1e-3, optimizer="BFGS")
    assert result.converged
    assert result.atoms.get_distance(0, 1) == pytest.approx(2 ** (1 / 6), abs=1e-4)
    assert result.energy == pytest.approx(-1.0, abs=1e-6)
    assert result.stress is None and result.pressure is None and result.volume_change is None
    assert result.spacegroup_before is None and result.spacegroup_after is None


def test_input_is_not_modified():
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=2)
    atoms.set_constraint(FixAtoms([0]))
    before = atoms.copy()
    relax(atoms, EMT(), cell=True, steps=5)
    assert atoms == before and atoms.calc is None and len(atoms.constraints) == 1


def test_final_state_is_what_is_reported():
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=2)
    result = relax(atoms, EMT(), cell=True, fmax=0.01)
    again = result.atoms.copy()
    again.calc = EMT()
    assert result.energy == pytest.approx(again.get_potential_energy(), abs=1e-12)
    assert result.max_force == pytest.approx(np.linalg.norm(again.get_forces(), axis=1).max(), abs=1e-12)
    np.testing.assert_allclose(result.stress, again.get_stress() / GPA, atol=1e-9)
    np.testing.assert_allclose(result.atoms.get_forces(), again.get_forces(), atol=1e-12)


def test_fixed_cell_keeps_the_cell_and_reports_its_stress():
    atoms = bulk("Cu", a=3.5, cubic=True)
    atoms.rattle(0.05, seed=3)
    result = relax(atoms, EMT(), fmax=0.01)
    assert result.converged and result.volume_change == 0.0
    np.testing.assert_array_equal(result.atoms.cell, atoms.cell)
    assert result.pressure > 5.0
    assert result.atoms.get_stress()[0] / GPA == pytest.approx(result.stress[0])


def test_constraints_hold_and_are_kept():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6)
    slab.rattle(0.1, seed=4)
    fixed = [atom.index for atom in slab if atom.tag == 3]
    slab.set_constraint(FixAtoms(fixed))
    result = relax(slab, EMT())
    assert result.converged
    np.testing.assert_array_equal(result.atoms.positions[fixed], slab.positions[fixed])
    np.testing.assert_array_equal(result.atoms.constraints[0].index, fixed)
    # The criterion is about free atoms: those held still feel more than the limit.
    free_forces = np.linalg.norm(result.atoms.get_forces(apply_constraint=False), axis=1)
    assert result.max_force <= 0.02 < free_forces[fixed].max()


def strained_crystal():
    """Copper-gold (L1_0, P4/mmm) far from its minimum, with noise below the symmetry precision."""
    atoms = Atoms("CuAu", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.7, 2.7, 3.9], pbc=True).repeat(2)
    atoms.rattle(0.001, seed=5)
    return atoms


def test_symmetry_is_kept():
    result = relax(strained_crystal(), EMT(), cell=True, symmetry=True, fmax=0.005)
    assert result.converged
    assert result.spacegroup_before == result.spacegroup_after == ("P4/mmm", 123)
    assert find_space_group(result.atoms, symprec=1e-5).number == 123
    a, b, c, *angles = result.atoms.cell.cellpar()
    assert a == pytest.approx(b, abs=1e-9) and abs(c - a) > 0.1
    np.testing.assert_allclose(angles, 90, atol=1e-9)
    assert result.atoms.constraints == []  # the constraint of symmetry is not left behind


def test_symmetry_together_with_fixed_atoms():
    atoms = strained_crystal()
    atoms.set_constraint(FixAtoms([0]))
    result = relax(atoms, EMT(), symmetry=True)
    assert result.spacegroup_after.number == 123
    assert [type(constraint) for constraint in result.atoms.constraints] == [FixAtoms]


def test_environment_is_left_alone(monkeypatch):
    monkeypatch.delenv("SPGLIB_OLD_ERROR_HANDLING", raising=False)
    import os

    before = dict(os.environ)
    relax(strained_crystal(), EMT(), symmetry=True, steps=1)
    assert dict(os.environ) == before


def test_slab_relaxes_only_its_periodic_directions():
    slab = fcc111("Al", (1, 1, 4), a=4.3, vacuum=8)
    slab.pbc = (True, True, False)
    result = relax(slab, EMT(), cell=True, fmax=0.005, smax=0.01)
    assert result.converged
    assert result.atoms.cell.lengths()[0] < slab.cell.lengths()[0] - 0.05
    np.testing.assert_array_equal(result.atoms.cell[2], slab.cell[2])
    np.testing.assert_allclose(np.array(result.stress)[[0, 1, 5]], 0.0, atol=0.01)
    assert result.volume_change is None and result.spacegroup_after is None


def test_layer_in_a_periodic_cell_relaxes_in_its_plane():
    """Against the minimum over the lattice constant of a square layer of copper, and a chain along one axis."""
    for axes, repeat in (("ab", (1, 1, 0)), ("b", (0, 1, 0))):
        free = np.array(repeat, dtype=bool)

        def atoms_at(a, free=free):
            return Atoms("Cu", cell=np.where(free, a, 12.0), pbc=True)

        def energy(a, atoms_at=atoms_at):
            return EMT().get_potential_energy(atoms_at(a))

        expected = minimize_scalar(energy, bounds=(2.0, 2.7), method="bounded", options={"xatol": 1e-6}).x
        result = relax(atoms_at(2.6), EMT(), cell=None, cell_axes=axes, smax=1e-4, fmax=1e-3, optimizer="BFGS")
        assert result.converged and result.notice is None
        assert result.atoms.cell.lengths() == pytest.approx(np.where(free, expected, 12.0), abs=2e-4)


def test_cell_is_chosen_by_vacuum_and_the_choice_is_told():
    slab = fcc111("Cu", (1, 1, 3), vacuum=8.0, periodic=True)
    kept = relax(slab, EMT(), cell=None, fmax=0.1)
    assert kept.volume_change == 0.0 and kept.notice.startswith("a vacuum of 16.0 Å along c, as of a slab")
    assert "cell_axes='ab' (--cell-axes ab)" in kept.notice and kept.to_dict()["notice"] == kept.notice
    crystal = relax(bulk("Cu", a=3.7), EMT(), cell=None, fmax=0.1)
    assert crystal.volume_change < -0.05 and crystal.notice is None


def test_step_limit_is_a_result():
    atoms = bulk("Cu", a=3.9, cubic=True)
    atoms.rattle(0.1, seed=6)
    result = relax(atoms, EMT(), cell=True, steps=3)
    assert (result.converged, result.reason, result.steps) == (False, "step limit", 3)
    assert relax(atoms, EMT(), steps=0).steps == 0


def test_converged_at_the_start():
    result = relax(bulk("Cu", a=copper_enthalpy_minimum(0.0)), EMT(), cell=True)
    assert result.converged and result.steps == 0


@pytest.mark.parametrize(("tension", "factor"), [(-0.5, 5.0), (0.5, 0.2)])
def test_exploding_cell_is_stopped(tension, factor):
    result = relax(bulk("Cu"), Explosive(tension=tension), cell=True, fmax=1.0)
    assert (result.converged, result.reason) == (False, "cell exploding")
    ratio = result.volume_change + 1.0
    assert ratio > factor if factor > 1 else ratio < factor
    assert 0.05 < ratio < 20.0  # stopped right away


class Hill(Calculator):
    """Energy that falls on both sides of a volume (Å³) and rises again far from it."""

    implemented_properties = ("energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        volume = self.atoms.get_volume()
        x = np.log(volume / 40.0)
        slope = (4.0 * x**3 - 2.0 * x) / volume
        stress = np.array([slope] * 3 + [0.0] * 3)
        self.results = {"energy": x**4 - x**2, "forces": np.zeros((len(self.atoms), 3)), "stress": stress}


def test_optimizer_that_goes_back_and_forth_is_stuck():
    def start(optimizer):
        atoms = bulk("Cu", a=3.42, cubic=True)
        return relax(atoms, Hill(), cell=True, pressure=5.0, optimizer=optimizer, steps=1000)

    stuck = start("LBFGS")
    assert not stuck.converged and stuck.reason == "optimizer stuck" and stuck.steps < 150
    down = start("FIRE")
    assert down.converged and down.pressure == pytest.approx(5.0, abs=0.05)


def test_cell_that_flew_apart_did_not_converge():
    result = relax(bulk("Cu", a=4.8), EMT(), cell=True, optimizer="LBFGS")
    assert (result.reason, result.max_force) == ("cell exploding", 0.0)  # no atom feels another any more


def test_large_step_of_a_symmetric_cell_is_no_warning(recwarn):
    result = relax(bulk("Cu", a=3.6), Explosive(tension=-1.0), cell=True, symmetry=True, optimizer="LBFGS")
    assert result.reason == "cell exploding" and not recwarn.list


def test_rounding_in_the_logarithm_of_a_strain_is_no_warning():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with cell_steps_accepted():
            for error in (2.7e-13, 3.1e-4):
                warnings.warn(f"logm result may be inaccurate, approximate err = {error}", RuntimeWarning, stacklevel=1)
    assert [str(one.message).split()[-1] for one in caught] == ["0.00031"]


def test_non_finite_forces_give_the_last_finite_state():
    result = relax(bulk("Cu", cubic=True), Explosive(finite_calls=4), fmax=0.01)
    assert (result.converged, result.reason) == (False, "non-finite forces")
    assert result.steps == 3 and np.isfinite(result.max_force) and np.isfinite(result.atoms.positions).all()


def test_non_finite_from_the_start():
    result = relax(bulk("Cu"), Explosive(finite_calls=0), cell=True)
    assert (result.converged, result.reason, result.steps) == (False, "non-finite forces", 0)
    assert result.to_dict()["max_force"] is None
    json.dumps(result.to_dict(), allow_nan=False)


def test_interruption_keeps_what_was_done(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=7)

    def stop_at_third_step(step):
        if step.step == 3:
            raise KeyboardInterrupt

    result = relax(atoms, EMT(), fmax=1e-6, trajectory=tmp_path / "run.traj", callback=stop_at_third_step)
    assert (result.converged, result.reason, result.steps) == (False, "interrupted", 3)
    frames = read(tmp_path / "run.traj", ":")
    assert len(frames) == 4
    np.testing.assert_allclose(frames[-1].positions, result.atoms.positions, atol=1e-12)


def test_trajectory_and_callback_see_every_step(tmp_path):
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.set_constraint(FixAtoms([0]))
    seen = []
    result = relax(atoms, EMT(), cell=True, trajectory=str(tmp_path / "run.traj"), callback=seen.append)
    frames = read(tmp_path / "run.traj", ":")
    assert [step.step for step in seen] == list(range(result.steps + 1))
    assert len(frames) == len(seen)
    np.testing.assert_allclose([frame.get_potential_energy() for frame in frames], [step.energy for step in seen])
    np.testing.assert_allclose([frame.get_volume() for frame in frames], [step.volume for step in seen])
    assert len(frames[0].constraints) == 1
    assert seen[-1].max_stress <= 0.05 < seen[0].max_stress


def test_pymatgen_structure_can_be_relaxed():
    core = pytest.importorskip("pymatgen.core")
    crystal = core.Structure(
        core.Lattice.cubic(3.7), ["Cu"] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    )
    result = relax(crystal, EMT(), cell=True)
    assert result.converged and result.spacegroup_after == ("Fm-3m", 225)


def test_attached_calculator_is_used_and_stored_results_are_not():
    atoms = bulk("Cu", a=3.7)
    atoms.calc = EMT()
    assert relax(atoms, cell=True).converged
    stored = bulk("Cu", a=3.7)
    stored.calc = SinglePointCalculator(stored, energy=0.0, forces=np.zeros((1, 3)))
    result = relax(stored, EMT(), cell=True)
    assert result.steps > 0


def test_without_a_calculator_the_default_model_is_taken(monkeypatch):
    monkeypatch.setattr("forcefield.calculator.GNNCalculator", EMT)
    assert relax(bulk("Cu", a=3.7), cell=True, steps=60).reason == "converged"


def test_result_for_json():
    result = relax(strained_crystal(), EMT(), cell=True, symmetry=True)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["formula"] == "Au8Cu8" and plain["n_atoms"] == 16
    assert plain["converged"] is True and len(plain["stress"]) == 6
    assert plain["spacegroup_after"] == {"symbol": "P4/mmm", "number": 123}
    assert "atoms" not in plain


def tilted_slab():
    slab = fcc111("Al", (1, 1, 2), vacuum=5)
    slab.pbc = (True, True, False)
    slab.rotate(30, "x", rotate_cell=True)
    return slab


@pytest.mark.parametrize(
    ("atoms", "options", "message"),
    [
        (Atoms(), {}, "no atoms"),
        (molecule("CO"), {"cell": True}, "without periodic axes"),
        (molecule("CO"), {"symmetry": True}, "three periodic axes"),
        (bulk("Cu"), {"pressure": 5.0}, "cell is fixed"),
        (fcc111("Al", (1, 1, 2), vacuum=5), {"cell": True, "pressure": 1.0}, "periodic along a, b, where a pressure"),
        (tilted_slab(), {"cell": True}, "Cartesian plane"),
        (bulk("Cu"), {"cell": True, "cell_axes": "a"}, "vectors a alone can be relaxed when they span"),
        (bulk("Cu"), {"cell_axes": "ab"}, "cell_axes is 'ab', but the cell is fixed"),
        (bulk("Cu"), {"cell": True, "cell_axes": "ax"}, "one, two or all of the letters"),
        (fcc111("Al", (1, 1, 2), vacuum=5), {"cell": True, "cell_axes": "c"}, "periodic along a, b"),
        (bulk("Cu", cubic=True), {"cell": True, "cell_axes": "ab", "pressure": 1.0}, "not all axes may change"),
        (bulk("Cu"), {"optimizer": "Newton"}, "Unknown optimizer 'Newton'; choose one of FIRE"),
        (bulk("Cu"), {"fmax": 0.0}, "fmax is 0.0"),
        (bulk("Cu"), {"fmax": float("nan")}, "fmax is nan"),
        (bulk("Cu"), {"steps": -1}, "steps is -1"),
        (bulk("Cu"), {"pressure": float("inf"), "cell": True}, "pressure is inf"),
        (Atoms("Cu2", positions=np.zeros((2, 3)), cell=[3, 3, 3], pbc=True), {"symmetry": True}, "no space group"),
    ],
)
def test_refusals_come_before_any_work(atoms, options, message):
    calculator = Explosive()
    with pytest.raises(ValueError, match=message):
        relax(atoms, calculator, **options)
    assert calculator.calls == 0


def test_variable_cell_needs_a_stress():
    with pytest.raises(ValueError, match="Forces gives none"):
        relax(bulk("Cu"), Forces(), cell=True)
    result = relax(bulk("Cu", cubic=True), Forces())
    assert result.converged and result.stress is None


def test_other_runtime_errors_are_not_swallowed():
    class Broken(Explosive):
        def calculate(self, *args, **kwargs):
            if self.calls == 2:
                raise RuntimeError("out of memory")
            super().calculate(*args, **kwargs)

    with pytest.raises(RuntimeError, match="out of memory"):
        relax(bulk("Cu", cubic=True), Broken(), fmax=0.01)


def test_options_are_checked_alone():
    assert RelaxOptions(cell=True).to_dict()["fmax"] == 0.02
    with pytest.raises(ValueError, match="smax is -1"):
        RelaxOptions(smax=-1)


def test_strained_axis_relaxes_without_rotating_the_cell():
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + voigt_6_to_full_3x3_stress([0.02, 0, 0, 0, 0, 0.02])), scale_atoms=True
    )
    result = relax(atoms, EMT(), cell=True, fmax=0.005, smax=0.01, optimizer="BFGS")
    np.testing.assert_allclose(result.atoms.cell.array, np.eye(3) * copper_enthalpy_minimum(0.0), atol=0.01)


def test_spring_counts_once():
    from ase.constraints import Hookean

    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=3)
    atoms.set_constraint(Hookean(0, 1, k=2.0, rt=1.5))
    result = relax(atoms, EMT(), fmax=0.01)
    free = result.atoms.copy()
    free.set_constraint()
    free.calc = EMT()
    spring = 0.5 * 2.0 * (free.get_distance(0, 1, mic=True) - 1.5) ** 2
    assert result.energy == pytest.approx(free.get_potential_energy() + spring, abs=1e-8)
