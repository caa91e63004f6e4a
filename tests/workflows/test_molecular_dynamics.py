"""Molecular dynamics: conservation, ensembles, restarts to the last bit, and verdicts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read

from forcefield.units import GPA, KELVIN
from forcefield.workflows.molecular_dynamics import molecular_dynamics
from forcefield.workflows.molecular_dynamics_files import read_thermo
from forcefield.workflows.molecular_dynamics_options import MDOptions, default_timestep, degrees_of_freedom
from forcefield.workflows.outcome import plain
from forcefield.workflows.trajectory_analysis_plots import plot_thermo

REPOSITORY = Path(__file__).parents[2]


class Quick(Calculator):
    """Compares structures exactly, which takes less time than ASE's way."""

    implemented_properties = ("energy", "forces", "stress")

    def check_state(self, atoms, tol=1e-15):
        same = self.atoms is not None and np.array_equal(self.atoms.positions, atoms.positions)
        return [] if same and np.array_equal(self.atoms.cell, atoms.cell) else list(all_changes)


class Springs(Quick):
    """Atoms on springs to their sites."""

    def __init__(self, sites: Atoms, stiffness: float = 2.0):
        super().__init__()
        self.sites, self.stiffness = sites.copy(), stiffness

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        apart = atoms.positions - self.sites.positions
        energy = 0.5 * self.stiffness * np.sum(apart**2)
        self.results = {"energy": energy, "free_energy": energy, "forces": -self.stiffness * apart}


class Gas(Quick):
    """No forces; the pressure is that of an ideal gas."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


class Fails(EMT):
    """Gives up, or gives nonsense, at a call."""

    def __init__(self, at: int, how: object):
        super().__init__()
        self.left, self.how = at, how

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.left -= 1
        if self.left == 0:
            if isinstance(self.how, BaseException):
                raise self.how
            self.results["energy"] = self.how


def copper(n=2):
    return bulk("Cu", cubic=True) * (n, 1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"ensemble": "nve"},
        {"thermostat": "bussi"},
        {"thermostat": "langevin"},
        {"thermostat": "nose-hoover"},
        {"ensemble": "npt"},
        {"ensemble": "npt", "thermostat": "langevin", "cell": "full"},
        {"ensemble": "npt", "thermostat": "nose-hoover", "cell": "full", "pressure": 2.0, "final_pressure": 5.0},
    ],
)
def test_energy_less_heat_is_conserved_to_second_order(options):
    spread = []
    for timestep in (4.0, 2.0):
        steps = round(200 / timestep)
        result = molecular_dynamics(
            copper(), EMT(), steps=steps, timestep=timestep, log_interval=1, barostat_time=200, **options
        )
        assert result.ok, result.reason
        spread.append(np.abs(result.thermo["conserved_eV"] - result.thermo["conserved_eV"][0]).max() / 8)
    assert spread[0] < 2e-3
    assert spread[1] < 0.5 * spread[0]  # a quarter, but for where the largest of a random path lies
    if options == {"ensemble": "nve"}:
        np.testing.assert_array_equal(result.thermo["total_eV"], result.thermo["conserved_eV"])


@pytest.mark.parametrize("thermostat", ["bussi", "langevin", "nose-hoover"])
def test_kinetic_energy_is_distributed_as_boltzmann_has_it(thermostat):
    """Oscillators at a temperature: mean and variance of the kinetic energy, and the mean of the potential one."""
    sites = Atoms("Ar4", positions=np.arange(12).reshape(4, 3) * 3.0)
    sites.set_constraint(FixAtoms([3]))  # nothing rests then, so that there are 9 free momenta
    options = {"steps": 4000, "timestep": 20.0, "thermostat_time": 60.0, "log_interval": 10}
    calculator = Springs(sites, stiffness=0.5)
    result = molecular_dynamics(
        sites, calculator, thermostat=thermostat, temperature=200.0, frame_interval=4000, **options
    )
    assert result.ok and result.degrees_of_freedom == 9
    kinetic, kt = result.thermo["kinetic_eV"] / KELVIN / 200.0, 1.0
    mean = result.averages["temperature_K"]
    assert abs(mean.mean - 200.0) < 4.0 * mean.error and mean.error < 15.0
    assert kinetic.var() == pytest.approx(4.5 * kt, rel=0.35)  # of a gamma distribution of shape 9/2
    if thermostat != "nose-hoover":  # of oscillators alone a deterministic thermostat is not ergodic
        assert kinetic.mean() == pytest.approx(4.5, rel=0.1)
    if thermostat == "langevin":
        potential = result.averages["potential_eV"]
        assert abs(potential.mean / KELVIN / 200.0 - 4.5) < 4.0 * potential.error / KELVIN / 200.0 + 0.05
    np.testing.assert_array_equal(result.atoms.positions[3], sites.positions[3])


@pytest.mark.parametrize("cell", ["isotropic", "full"])
def test_volume_of_an_ideal_gas_follows_the_law_of_gases(cell):
    """At constant pressure the volume has the gamma distribution V^N exp(-pV/kT): mean (N+1) kT/p."""
    n, pressure = 20, 0.05
    expected = (n + 1) * KELVIN * 300.0 / (pressure * GPA)
    rng = np.random.default_rng(1)
    gas = Atoms(f"Ar{n}", cell=np.eye(3) * expected ** (1 / 3), pbc=True)
    gas.set_scaled_positions(rng.random((n, 3)))
    result = molecular_dynamics(
        gas,
        Gas(),
        **{"ensemble": "npt", "cell": cell, "pressure": pressure, "steps": 3000, "timestep": 20.0},
        **{"barostat_time": 400.0, "log_interval": 3000, "frame_interval": 5},
        drift_limit=1e9,
    )
    volumes = np.array([frame.get_volume() for frame in result.frames])
    # positions are scaled with the centre of mass at rest: one atom's worth of volume is not there
    from forcefield.workflows.trajectory_analysis_statistics import block_average

    mean = block_average(volumes)
    assert abs(mean.mean - expected) < 4.0 * mean.error + 0.05 * expected
    if cell == "isotropic":
        assert volumes.std() == pytest.approx(expected / np.sqrt(n + 1), rel=0.25)
        np.testing.assert_allclose(result.atoms.cell.angles(), 90.0, atol=1e-9)


def test_pressure_ramp_compresses_as_the_equation_of_state_says():
    result = molecular_dynamics(
        copper(3),
        EMT(),
        **{"ensemble": "npt", "pressure": 0.0, "final_pressure": 10.0, "temperature": 50.0, "final_temperature": 20.0},
        **{"steps": 600, "timestep": 5.0, "log_interval": 2},
    )
    assert result.ok, result.reason
    first, last = result.thermo["volume_A3"][20:80].mean(), result.thermo["volume_A3"][-60:].mean()
    assert 1.0 - last / first == pytest.approx(0.055, abs=0.02)  # 9 GPa over 134 GPa and its derivative
    assert result.thermo["pressure_GPa"][-60:].mean() == pytest.approx(9.6, abs=1.5)
    assert result.options.temperature_at(300) == 35.0 and result.options.pressure_at(600) == 10.0


def test_cells_and_chains_go_as_those_of_ase():
    """Same equations as ASE's chain and isotropic barostat, with the numbers of free momenta that ASE takes."""
    module = pytest.importorskip("ase.md.nose_hoover_chain", reason="newer than ASE 3.23")
    from ase import units

    from forcefield.workflows.molecular_dynamics_integrators import CellIntegrator, Integrator, NoseHooverChain

    for which in ("chain", "isotropic", "full"):
        theirs, ours = copper(), copper()
        for atoms in (theirs, ours):
            atoms.calc = EMT()
            momenta = np.random.default_rng(3).normal(size=(8, 3))
            atoms.set_momenta(momenta - momenta.mean(axis=0))
        time = {"timestep": 3 * units.fs, "thermostat": NoseHooverChain(50 * units.fs), "free": 24, "resting": True}
        if which == "chain":
            reference = module.NoseHooverChainNVT(theirs, 3 * units.fs, temperature_K=400, tdamp=50 * units.fs)
            integrator = Integrator(ours, **time)
        else:
            name = "IsotropicMTKNPT" if which == "isotropic" else "MTKNPT"
            reference = getattr(module, name)(
                theirs,
                3 * units.fs,
                **{"temperature_K": 400, "pressure_au": 0.01, "tdamp": 50 * units.fs, "pdamp": 200 * units.fs},
            )
            integrator = CellIntegrator(
                ours,
                **time,
                **{"cell_thermostat": NoseHooverChain(200 * units.fs), "cell_time": 200 * units.fs},
                **{"isotropic": which == "isotropic", "kt": 400 * KELVIN},
            )
            integrator.cell_free = 1 if which == "isotropic" else 9  # the matrix has 6, but ASE counts 9
        if which == "isotropic":
            reference._barostat._R[0] /= 9  # ASE gives this one momentum the inertia of nine
        reference.run(30)
        for _ in range(30):
            integrator.step(400 * KELVIN, 0.01)
        np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-9, err_msg=which)
        np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-8)
        np.testing.assert_allclose(ours.cell.array, theirs.cell.array, atol=1e-9)


RUN = """
    from ase.build import bulk
    from ase.calculators.emt import EMT
    import os, signal, sys
    from forcefield.workflows.molecular_dynamics import molecular_dynamics

    folder, ensemble, thermostat, kind, kill = sys.argv[1:]

    def stop(step):
        if step.step == int(kill):
            os.kill(os.getpid(), signal.SIGKILL)

    molecular_dynamics(
        bulk("Cu", cubic=True) * (2, 1, 1), EMT(), ensemble=ensemble, thermostat=thermostat, temperature=600,
        steps=60, timestep=5, log_interval=3, frame_interval=4, checkpoint_interval=20, trajectory_format=kind,
        folder=folder, callback=stop,
    )
"""


@pytest.mark.parametrize(
    ("ensemble", "thermostat", "kind"),
    [("nve", "bussi", "extxyz"), ("nvt", "langevin", "traj"), ("npt", "bussi", "extxyz")],
)
def test_killed_run_goes_on_to_the_last_bit(tmp_path, ensemble, thermostat, kind):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    words = [sys.executable, str(script), str(tmp_path / "killed"), ensemble, thermostat, kind, "45"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    options = {
        **{"ensemble": ensemble, "thermostat": thermostat, "temperature": 600, "steps": 60, "timestep": 5},
        **{"log_interval": 3, "frame_interval": 4, "checkpoint_interval": 20, "trajectory_format": kind},
    }
    whole = molecular_dynamics(copper(), EMT(), folder=tmp_path / "whole", **options)
    with (tmp_path / "killed" / "thermo.csv").open("a") as log:
        log.write("48,0.2")  # a line cut short
    seen = []
    resumed = molecular_dynamics(
        copper(),
        EMT(),
        folder=tmp_path / "killed",
        resume=True,
        callback=lambda step: seen.append(step.step),
        **options,
    )
    assert seen[0] == 42 and resumed.steps == 60
    for name in ("positions", "momenta"):
        np.testing.assert_array_equal(resumed.atoms.arrays[name], whole.atoms.arrays[name])
    np.testing.assert_array_equal(resumed.atoms.cell.array, whole.atoms.cell.array)
    assert (tmp_path / "killed" / "thermo.csv").read_bytes() == (tmp_path / "whole" / "thermo.csv").read_bytes()
    ours, theirs = (read(tmp_path / run / f"trajectory.{kind}", ":") for run in ("killed", "whole"))
    assert [frame.info.get("step") for frame in ours] == [frame.info.get("step") for frame in theirs]
    assert len(ours) == 16 and all(np.array_equal(a.positions, b.positions) for a, b in zip(ours, theirs, strict=True))
    np.testing.assert_array_equal(read_thermo(tmp_path / "whole" / "thermo.csv")["total_eV"], whole.thermo["total_eV"])


def test_run_may_be_made_longer_but_not_changed(tmp_path):
    short = molecular_dynamics(copper(), EMT(), steps=40, checkpoint_interval=20, folder=tmp_path)
    longer = molecular_dynamics(copper(), EMT(), steps=80, checkpoint_interval=20, folder=tmp_path, resume=True)
    whole = molecular_dynamics(copper(), EMT(), steps=80, checkpoint_interval=20)
    assert short.steps == 40 and longer.steps == 80
    np.testing.assert_array_equal(longer.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(longer.thermo["total_eV"], whole.thermo["total_eV"])
    with pytest.raises(ValueError, match="of another structure or of other options"):
        molecular_dynamics(copper(), EMT(), steps=80, temperature=400, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="at step 80, beyond 50"):
        molecular_dynamics(copper(), EMT(), steps=50, checkpoint_interval=20, folder=tmp_path, resume=True)
    (tmp_path / "checkpoint.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match="is damaged"):
        molecular_dynamics(copper(), EMT(), steps=80, checkpoint_interval=20, folder=tmp_path, resume=True)


def test_too_long_a_step_is_noticed():
    result = molecular_dynamics(copper(), EMT(), ensemble="nve", steps=400, timestep=60.0, temperature=2000.0)
    assert not result.ok and result.steps < 400
    assert result.verdict in ("energy runs away", "temperature runs away", "atoms collide", "calculator failed")
    assert result.reason and plain(result)["ok"] is False


def test_atom_that_leaves_and_volume_that_explodes():
    pair = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.4]])
    pair.set_momenta([[0, 0, -400.0], [0, 0, 400.0]])
    result = molecular_dynamics(
        pair, EMT(), ensemble="nve", velocities="keep", steps=2000, temperature_limit=1e9, distance_limit=5.0
    )
    assert result.verdict == "an atom leaves" and "grew by" in result.reason
    tense = molecular_dynamics(
        copper(), EMT(), ensemble="npt", pressure=-60.0, barostat_time=100.0, steps=2000, temperature_limit=1e9
    )
    assert tense.verdict in ("cell exploding", "energy runs away")


def test_atom_that_leaves_a_slab_in_a_periodic_cell():
    """It crosses the vacuum and comes to the other side, so that only its way tells."""
    slab = fcc111("Cu", (2, 2, 2), vacuum=4.0, periodic=True)
    momenta = np.zeros((8, 3))
    momenta[-1, 2] = 80.0
    slab.set_momenta(momenta)
    options = {"ensemble": "nve", "velocities": "keep", "temperature_limit": 1e9, "distance_limit": 5.0}
    result = molecular_dynamics(slab, EMT(), steps=500, **options)
    assert result.verdict == "an atom leaves" and "endless along a, b, grew by" in result.reason


def test_molecules_of_a_gas_part_without_objection():
    gas = Atoms("Cu2", positions=[[5, 5, 3], [5, 5, 17]], cell=[20.0] * 3, pbc=True)
    gas.set_momenta([[0, 0, -20.0], [0, 0, 20.0]])
    options = {"ensemble": "nve", "velocities": "keep", "temperature_limit": 1e9, "distance_limit": 1.0}
    result = molecular_dynamics(gas, EMT(), steps=30, timestep=1.0, **options)
    assert np.ptp(result.atoms.positions[:, 2]) > 15.5 and result.verdict == "finished"


@pytest.mark.parametrize(
    ("how", "verdict"),
    [
        (ValueError("out of range"), "calculator failed"),
        (float("nan"), "energy or forces not finite"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_calculator_in_trouble_ends_the_run_with_what_there_is(how, verdict):
    result = molecular_dynamics(copper(), Fails(12, how), steps=40, log_interval=1)
    assert result.verdict == verdict and not result.ok and 5 <= result.steps < 40
    assert len(result.thermo["step"]) >= 5


def test_first_velocities():
    water = molecule("H2O")
    water.calc = EMT()
    assert default_timestep(water) == 0.5 and default_timestep(bulk("C")) == 1.5 and default_timestep(copper()) == 2.0
    assert degrees_of_freedom(water) == 6 and degrees_of_freedom(Atoms("Ar")) == 3
    one, two, other = (molecular_dynamics(copper(), EMT(), steps=1, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.atoms.get_momenta(), two.atoms.get_momenta())
    assert not np.array_equal(one.atoms.get_momenta(), other.atoms.get_momenta())
    assert one.thermo["temperature_K"][0] == pytest.approx(300.0, rel=1e-12)
    np.testing.assert_allclose(one.atoms.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    kept = copper()
    kept.rattle(0.01)
    kept.set_momenta(one.atoms.get_momenta())
    again = molecular_dynamics(kept, EMT(), ensemble="nve", velocities="keep", steps=1)
    np.testing.assert_allclose(again.frames[0].get_momenta(), one.atoms.get_momenta(), atol=1e-12)
    with pytest.raises(ValueError, match="structure at rest"):
        molecular_dynamics(copper(), EMT(), velocities="keep", steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "nph"}, "ensemble is 'nph'"),
        ({"thermostat": "andersen"}, "thermostat is 'andersen'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"timestep": -1.0}, "timestep is -1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"pressure": 1.0}, "A pressure came with ensemble='nvt'"),
        ({"ensemble": "nve", "final_temperature": 10.0}, "has no thermostat"),
        ({"resume": True}, "without a folder"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        molecular_dynamics(copper(), EMT(), **options)


def test_pressure_needs_a_crystal_that_is_free():
    with pytest.raises(ValueError, match="periodic along three axes"):
        molecular_dynamics(molecule("CO"), EMT(), ensemble="npt")
    fixed = copper()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="constraints cannot hold"):
        molecular_dynamics(fixed, EMT(), ensemble="npt")
    with pytest.raises(ValueError, match="leave no atom to move"):
        fixed.set_constraint(FixAtoms(range(8)))
        molecular_dynamics(fixed, EMT())


def test_input_is_left_alone_and_options_round_trip():
    atoms = copper()
    molecular_dynamics(atoms, EMT(), steps=3)
    assert atoms.calc is None and not atoms.has("momenta")
    options = MDOptions(ensemble="npt", pressure=1.0)
    assert MDOptions(**options.to_dict()) == options


def test_shipped_model_conserves_energy_and_goes_on_to_the_last_bit(tmp_path):
    from forcefield.calculator import GNNCalculator

    silicon = bulk("Si", cubic=True)
    options = {"temperature": 900.0, "log_interval": 2, "checkpoint_interval": 20, "timestep": 2.0}
    whole = molecular_dynamics(silicon, GNNCalculator(), steps=60, ensemble="nve", **options)
    assert whole.ok, whole.reason
    assert np.abs(whole.thermo["total_eV"] - whole.thermo["total_eV"][0]).max() / 8 < 2e-3
    molecular_dynamics(silicon, GNNCalculator(), steps=40, ensemble="nve", folder=tmp_path, **options)
    resumed = molecular_dynamics(
        silicon, GNNCalculator(), steps=60, ensemble="nve", folder=tmp_path, resume=True, **options
    )
    np.testing.assert_array_equal(resumed.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(resumed.thermo["total_eV"], whole.thermo["total_eV"])


@pytest.mark.parametrize(("change", "unit"), [(0.003, "meV"), (2.0, "eV")])
def test_figure_shows_energies_from_the_start(tmp_path, monkeypatch, change, unit):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(
        "forcefield.workflows.trajectory_analysis_plots.save_figure", lambda *given: drawn.append(given)
    )
    times = np.arange(20.0)
    energies = -123456.78 + change * np.sin(times)
    thermo = {"step": times, "time_ps": times, "temperature_K": times, "total_eV": energies, "pressure_GPa": times}
    plot_thermo(thermo, tmp_path / "thermo.png")
    axis = drawn[0][0].axes[1]
    drawn[0][0].canvas.draw()
    assert (
        axis.get_ylabel() == f"total energy from the start ({unit})" and axis.yaxis.get_offset_text().get_text() == ""
    )
    scale = {"meV": 1000.0, "eV": 1.0}[unit]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), scale * change * np.sin(times), atol=1e-6)
