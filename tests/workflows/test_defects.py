"""Point defects against energies computed by hand with ASE alone, and voids against known places."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from forcefield.workflows.defects import DefectOptions, defects
from forcefield.workflows.defects_sites import distinct_atoms, spacious_voids, voids
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import plain

A = 3.5898  # Å, lattice constant of EMT copper
COPPER = {"relaxation": "none", "supercell": (2, 2, 2), "fmax": 0.005}


def by_hand(change, n_copper, extra=0.0):
    """Formation energy (eV) in a 2x2x2 supercell of cubic EMT copper; change(atoms) makes the defect."""
    perfect = bulk("Cu", cubic=True, a=A).repeat(2)
    perfect.calc = EMT()
    per_atom = perfect.get_potential_energy() / len(perfect)
    defective = perfect.copy()
    change(defective)
    defective.rattle(0.01, seed=3)
    defective.calc = EMT()
    BFGS(defective, logfile=None).run(fmax=0.003, steps=300)
    return defective.get_potential_energy() - perfect.get_potential_energy() - n_copper * per_atom - extra


def test_copper_vacancy_equals_the_same_supercell_by_hand():
    result = defects(bulk("Cu", cubic=True, a=A), EMT(), **COPPER)
    (vacancy,) = result.defects
    assert vacancy.name == "v_Cu" and vacancy.verdict == "relaxed" and vacancy.multiplicity == 4

    def remove(atoms):
        del atoms[5]

    assert vacancy.formation_energy == pytest.approx(by_hand(remove, -1), abs=2e-3)
    assert vacancy.formation_energy < vacancy.unrelaxed_energy
    assert result.verdict == "complete" and result.n_supercell == 32 and len(vacancy.atoms) == 31
    assert result.image_distance == pytest.approx(A * 2)
    record = json.loads(json.dumps(plain(result.to_dict()), allow_nan=False))
    assert record["ok"] and record["defects"][0]["exchanged"] == {"Cu": -1}


def test_interstitial_and_substitution_equal_those_by_hand():
    gold = bulk("Au", a=4.0556)
    gold.calc = EMT()
    energy = gold.get_potential_energy()
    options = {"vacancies": (), "interstitials": ["Cu"], "substitutions": {"Cu": "Au"}, "references": {"Au": energy}}
    result = defects(bulk("Cu", cubic=True, a=A), EMT(), **options, **COPPER)
    octahedral, tetrahedral, gold_on_copper = result.defects
    assert (octahedral.name, tetrahedral.name, gold_on_copper.name) == ("Cu_i-1", "Cu_i-2", "Au_Cu")
    assert octahedral.formation_energy < tetrahedral.formation_energy
    assert octahedral.void_radius == pytest.approx(A / 2) and result.chemical_potentials["Au"] == energy

    def exchange(atoms):
        atoms.symbols[0] = "Au"

    def insert(atoms):
        atoms.append("Cu")
        atoms.positions[-1] = [A / 2, 0, 0]

    assert gold_on_copper.formation_energy == pytest.approx(by_hand(exchange, -1, energy), abs=2e-3)
    assert octahedral.formation_energy == pytest.approx(by_hand(insert, 1), abs=5e-3)


def test_compound_has_both_limits_and_they_obey_equilibrium():
    alloy = Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[2.8, 2.8, 3.7], pbc=True)
    options = {"supercell": (2, 2, 2), "references": {"Cu": 0.05, "Au": 0.03}, "fmax": 0.05, "relaxation": "none"}
    result = defects(alloy, EMT(), **options)
    copper, gold = result.defects
    alloy.calc = EMT()
    formation = alloy.get_potential_energy() - 0.08  # of the whole cell, eV
    for vacancy, own, other in ((copper, "Cu", "Au"), (gold, "Au", "Cu")):
        assert vacancy.limits[f"{own}-rich"] == pytest.approx(vacancy.formation_energy)
        assert vacancy.limits[f"{other}-rich"] - vacancy.limits[f"{own}-rich"] == pytest.approx(formation)


def test_voids_of_close_packed_and_centred_crystals():
    octahedral, tetrahedral = voids(bulk("Cu", a=4.0))
    assert (octahedral.radius, octahedral.neighbours) == (pytest.approx(2.0), 6)
    assert (tetrahedral.radius, tetrahedral.neighbours) == (pytest.approx(3**0.5), 4)
    (centred,) = voids(bulk("Fe", "bcc", a=4.0))
    assert (centred.radius, centred.neighbours) == (pytest.approx(5**0.5), 4)
    salt = voids(bulk("NaCl", "rocksalt", a=5.64))
    assert len(salt) == 1 and salt[0].radius == pytest.approx(5.64 * 3**0.5 / 4) and salt[0].neighbours == 8
    assert len(voids(bulk("Cu", cubic=True, a=4.0))) == 2
    with pytest.raises(ValueError, match="No void of C2 has room for Cs"):
        spacious_voids(bulk("C"), "Cs")


def test_distinct_atoms_come_with_their_number():
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    assert [(site.symbol, site.multiplicity) for site in distinct_atoms(salt)] == [("Na", 4), ("Cl", 4)]


def test_supercell_is_as_long_as_asked():
    result = defects(bulk("Cu", a=A), EMT(), supercell_length=7.0, relaxation="none")
    cell = make_supercell(bulk("Cu", a=A), result.supercell).cell
    assert cell.lengths() == pytest.approx([2 * A] * 3) and not result.warnings
    near = defects(bulk("Cu", cubic=True, a=A), EMT(), supercell=(1, 1, 1), relaxation="none")
    assert "only 3.6 Å from their images" in near.warnings[0]


def test_relaxed_structures_are_taken_from_the_store(tmp_path):
    first = defects(bulk("Cu", cubic=True, a=A), EMT(), store=ForceStore(tmp_path / "store"), **COPPER)
    kept = ForceStore(tmp_path / "store")
    n = len(kept)
    again = defects(bulk("Cu", cubic=True, a=A), EMT(), store=kept, **COPPER)
    assert len(kept) == n == 2  # host and vacancy
    assert again.defects[0].formation_energy == first.defects[0].formation_energy
    np.testing.assert_array_equal(again.defects[0].atoms.positions, first.defects[0].atoms.positions)


class Leaving(Calculator):
    """Perfect crystals at rest; beside a vacancy, atom 0 is drawn along x to 1.5 Å from where it is met first."""

    implemented_properties = ("energy", "forces")

    def __init__(self, n_perfect):
        super().__init__()
        self.n_perfect, self.start = n_perfect, None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces, energy = np.zeros((len(atoms), 3)), -1.0 * len(atoms)
        if len(atoms) == self.n_perfect - 1:
            x = atoms.positions[0, 0]
            self.start = x if self.start is None else self.start
            left = self.start + 1.5 - x
            forces[0, 0], energy = left, energy + 2.0 + 0.5 * left**2
        self.results = {"energy": energy, "forces": forces}


def test_defect_that_became_another_is_named():
    result = defects(bulk("Cu", cubic=True, a=A), Leaving(32), **COPPER)
    (vacancy,) = result.defects
    assert vacancy.verdict == "moved" and vacancy.displacement == pytest.approx(1.5, abs=0.1)
    assert vacancy.formation_energy == pytest.approx(2.0, abs=1e-4)  # 1 eV an atom, as in the crystal
    assert vacancy.unrelaxed_energy == pytest.approx(2.0 + 0.5 * 1.5**2)
    assert result.verdict == "complete" and any("v_Cu" in text for text in result.warnings)


def test_unfinished_defect_has_no_energy():
    result = defects(bulk("Cu", cubic=True, a=A), EMT(), **{**COPPER, "fmax": 1e-6}, steps=1)
    assert result.defects[0].verdict == "not converged" and result.defects[0].formation_energy is None
    assert result.verdict == "some defects have no energy" and not result.to_dict()["ok"]


def test_vacuum_of_a_layer_is_named():
    layer = fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True)
    result = defects(layer, EMT(), relaxation="none", supercell=(2, 2, 1), steps=1)
    assert "the cell has a vacuum of 12.0 Å along c, as of a slab; name the supercell" in result.warnings[0]
    assert result.n_supercell == 12
    with pytest.raises(ValueError, match="needs a crystal, but Cu3 has a vacuum"):
        defects(layer, EMT())


def test_refusals():
    copper = bulk("Cu", cubic=True, a=A)
    for wrong in (molecule("CO"), fcc111("Cu", (1, 1, 3), vacuum=6.0)):
        with pytest.raises(ValueError, match="point defects need a crystal"):
            defects(wrong, EMT())
    with pytest.raises(ValueError, match="O cannot be removed from Cu4, which has Cu"):
        defects(copper, EMT(), vacancies=["O"])
    with pytest.raises(ValueError, match=r"reference of Fe \(bcc\)"):
        defects(copper, EMT(), vacancies=(), substitutions={"Cu": "Fe"}, **COPPER)
    with pytest.raises(ValueError, match="No defect"):
        DefectOptions(vacancies=())
    with pytest.raises(ValueError, match="'copper' is no chemical symbol"):
        DefectOptions(vacancies=("copper",))
    with pytest.raises(ValueError, match="by itself"):
        DefectOptions(substitutions=(("Cu", "Cu"),))
    with pytest.raises(ValueError, match="supercell is"):
        DefectOptions(supercell=(0, 1, 1))
