"""The report on a data set, against sets whose faults are known."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from forcefield.data.frames import frame_from_atoms
from forcefield.data.inspection import fit_elements, inspect_data
from forcefield.data.labels import STRESS_ORDERS, VOIGT, ReadOptions
from forcefield.data.stress_sign import check_stress_sign, strain_between
from forcefield.data.survey import Survey, Table
from forcefield.units import GPA


def labelled(atoms: Atoms, *, stress_factor: float = 1.0) -> Atoms:
    """EMT's labels; the stress times a factor."""
    calculator = EMT()
    atoms.calc = calculator
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress * stress_factor)
    return atoms


def strained(stress_factor: float = 1.0, count: int = 12, *, rattle: float = 0.1) -> list[Atoms]:
    """Rattled crystals (with forces) under random small strains that keep the fractional coordinates."""
    rng = np.random.default_rng(0)
    made = []
    for element in ("Cu", "Al"):
        start = bulk(element, cubic=True)
        start.rattle(rattle, seed=3)
        for _ in range(count):
            strain = rng.normal(scale=0.01, size=(3, 3))
            atoms = start.copy()
            atoms.set_cell(start.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
            atoms.info["material"] = element
            made.append(labelled(atoms, stress_factor=stress_factor))
    return made


def table_of(structures: Iterable[Atoms]) -> Table:
    survey = Survey()
    for k, atoms in enumerate(structures):
        survey.add(f"#{k}", frame_from_atoms(atoms))
    return survey.table()


def test_right_stress_agrees_with_the_energies():
    verdict = check_stress_sign(table_of(strained()))
    assert verdict.verdict == "agrees" and verdict.pairs > 15 and verdict.agreeing > 0.95
    assert verdict.ratio == pytest.approx(1.0, abs=0.02)
    assert "size is right" in verdict.message


@pytest.mark.parametrize(("factor", "unit"), [(1 / GPA, "GPa"), (10 / GPA, "kbar")])
def test_unit_of_a_stress_is_recognised(factor, unit):
    verdict = check_stress_sign(table_of(strained(factor)))
    assert verdict.verdict == "agrees" and f"look like {unit}" in verdict.message
    verdict = check_stress_sign(table_of(strained(-factor)))
    assert verdict.verdict == "opposite" and f"look like {unit}" in verdict.message


def test_opposite_and_random_stress():
    assert check_stress_sign(table_of(strained(-1.0))).verdict == "opposite"
    structures = strained()
    rng = np.random.default_rng(1)
    for atoms in structures:
        atoms.calc.results["stress"] = atoms.calc.results["stress"] * rng.choice([-1, 1])
    assert check_stress_sign(table_of(structures)).verdict in ("contradictory", "not enough pairs")


@pytest.mark.parametrize("factor", [1.0, -10 / GPA])
@pytest.mark.parametrize("name", ["vasp", "lammps"])
def test_order_of_the_shear_components_is_recognised_in_any_unit(name, factor):
    structures = strained(factor)
    for atoms in structures:
        stress = atoms.calc.results["stress"]
        atoms.calc.results["stress"] = stress[[VOIGT.index(component) for component in STRESS_ORDERS[name]]]
    verdict = check_stress_sign(table_of(structures))
    assert verdict.verdict == "other order"
    assert f"--stress-order '{' '.join(STRESS_ORDERS[name])}'" in verdict.message


def test_pure_shear_shows_the_order_although_the_stress_as_read_does_no_work():
    structures = []
    for shear in np.linspace(0.0, 0.06, 8):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + shear * np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]])), True)
        atoms.info["material"] = "Cu"
        atoms = labelled(atoms)
        atoms.calc.results["stress"] = atoms.calc.results["stress"][[0, 1, 2, 4, 3, 5]]
        structures.append(atoms)
    assert "xx yy zz xz yz xy" in check_stress_sign(table_of(structures)).message
    for atoms in structures:  # nothing but the misplaced shear
        atoms.calc.results["stress"][[0, 1, 2, 3, 5]] = 0.0
    assert "xx yy zz xz yz xy" in check_stress_sign(table_of(structures)).message


def test_without_strained_pairs_nothing_is_said():
    rattled = []
    for k in range(6):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=k)
        rattled.append(labelled(atoms))
    verdict = check_stress_sign(table_of(rattled))
    assert verdict.verdict == "not enough pairs" and verdict.pairs == 0 and verdict.ratio is None
    unlabelled = [atoms.copy() for atoms in strained()]
    assert check_stress_sign(table_of(unlabelled)).verdict == "not enough pairs"
    # The same crystal under another name is another material.
    structures = strained()
    for k, atoms in enumerate(structures):
        atoms.info["material"] = f"m{k}"
    assert check_stress_sign(table_of(structures)).pairs == 0


def test_strain_between_two_cells():
    rng = np.random.default_rng(0)
    cell = np.eye(3) * 4 + rng.normal(scale=0.3, size=(3, 3))
    strain = 1e-3 * rng.normal(size=(3, 3))
    strain = strain + strain.T
    found = strain_between(cell[None], (cell @ (np.eye(3) + strain))[None])[0]
    np.testing.assert_allclose(found, strain - 0.5 * strain @ strain, atol=1e-7)  # the logarithm, to second order


def test_element_energies_are_found():
    rng = np.random.default_rng(0)
    energies = {3: -1.9, 8: -4.5, 26: -8.25}
    survey = Survey()
    for k in range(30):
        numbers = rng.choice(list(energies), rng.integers(1, 9))
        atoms = Atoms(numbers, positions=10.0 * rng.random((len(numbers), 3)))
        atoms.calc = SinglePointCalculator(atoms, energy=sum(energies[z] for z in numbers))
        survey.add(f"#{k}", frame_from_atoms(atoms))
    fitted, residual = fit_elements(survey.table())
    assert fitted == pytest.approx({"Li": -1.9, "O": -4.5, "Fe": -8.25}, abs=1e-5)
    assert np.abs(residual).max() < 1e-5


def test_report_of_a_set_with_known_faults(tmp_path):
    structures = strained()
    structures += [structures[0].copy(), structures[1].copy(), structures[2].copy()]
    structures[-3].calc = structures[0].calc
    structures[-2].calc = SinglePointCalculator(structures[-2], energy=structures[1].get_potential_energy() + 1.0)
    wild = labelled(bulk("Cu", cubic=True))
    wild.calc.results["energy"] += 40.0
    lost = labelled(bulk("Al", cubic=True))
    lost.calc.results["forces"] = np.full((4, 3), np.nan)
    write(tmp_path / "a.traj", [*structures, wild, lost])
    counted: list[int] = []
    report = inspect_data([tmp_path / "a.traj"], progress=lambda _, frames: counted.append(frames))
    json.dumps(report, allow_nan=False)
    assert counted[-1] == report["frames"] == 28 and report["atoms"] == 112
    assert report["elements"] == {"Al": 12, "Cu": 16}
    assert report["materials"] == {"named": 2, "frames_without_name": 1}
    assert report["broken"]["frames"] == 1 and "a.traj #28: forces holds 12 NaN" in report["broken"]["first"][0]
    assert report["duplicates"] == {"frames": 3, "with_another_energy": 1}
    assert report["labels"]["energy"] == {
        "frames": 27,
        "missing": 1,
        "keys": [{"key": "energy", "unit": "eV", "frames": 28}],
    }
    assert report["labels"]["stress"]["missing"] == 2
    assert report["stress_sign"]["verdict"] == "agrees"
    worst = report["outliers"][0]
    assert worst["property"] == "energy per atom after element fit" and worst["frame"].endswith("#27")
    largest = max(np.linalg.norm(a.calc.results["forces"], axis=1).max() for a in structures[:25])
    assert report["ranges"]["largest force"]["maximum"] == pytest.approx(largest)
    pressures = [-a.calc.results["stress"][:3].mean() / GPA for a in structures[:25]]
    assert report["ranges"]["pressure"]["maximum"] == pytest.approx(max(pressures))


def test_keys_and_units_are_part_of_the_report(tmp_path):
    comment = 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:f:R:3 REF_energy=-1 s="1 2 3 0 0 0"'
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\nCu 0 0 0 1 0 0\n")
    options = ReadOptions(keys={"forces": "f", "stress": "s"}, units={"stress": "GPa"})
    labels = inspect_data([tmp_path / "a.xyz"], options=options)["labels"]
    assert labels["energy"]["keys"] == [{"key": "REF_energy", "unit": "eV", "frames": 1}]
    assert labels["forces"]["keys"] == [{"key": "f", "unit": "eV/Å", "frames": 1}]
    assert labels["stress"]["keys"] == [{"key": "s", "unit": "GPa", "frames": 1}]


def test_labels_that_nobody_has_and_frames_without_energy(tmp_path):
    write(tmp_path / "a.xyz", [bulk("Cu"), Atoms("O")], format="extxyz")
    report = inspect_data([tmp_path / "a.xyz"])
    assert report["ranges"]["energy per atom"] is None and report["element_energies_eV"] == {}
    assert report["force_rms_eV_per_A"] is None and report["outliers"] == []
    (tmp_path / "b.xyz").write_text("1\n\nQq 0 0 0\n")
    with pytest.raises(ValueError, match="no sound frame.*unknown elements: Qq"):
        inspect_data([tmp_path / "b.xyz"])
