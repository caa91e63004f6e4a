"""Cohesive and formation energies and hulls against numbers made by hand with ASE alone."""

from __future__ import annotations

import json

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list
from scipy.optimize import minimize_scalar

from forcefield.structures import check_structure
from forcefield.workflows.energetics import EnergeticsOptions, energetics
from forcefield.workflows.energetics_hull import HullEntry, energy_above_hull, hull
from forcefield.workflows.energetics_prototypes import reference_structures
from forcefield.workflows.energetics_references import ElementReferences
from forcefield.workflows.outcome import plain
from forcefield.workflows.symmetry import find_space_group

MODEL_ELEMENTS = [s for s in chemical_symbols[1:95] if s not in ("Po", "At", "Rn", "Fr", "Ra")]


class NoStress(EMT):
    implemented_properties = ("energy", "forces")

    def get_stress(self, atoms=None):
        raise PropertyNotImplementedError("stress")


def emt_energy(atoms):
    work = atoms.copy()
    work.calc = EMT()
    return work.get_potential_energy()


def fcc_minimum(symbol, guess):
    """Lowest energy per atom (eV) of an fcc metal by scanning the lattice constant."""
    found = minimize_scalar(
        lambda a: emt_energy(bulk(symbol, "fcc", a=a)), bounds=(0.95 * guess, 1.05 * guess), method="bounded"
    )
    return found.fun


def gold_copper():
    return Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[2.8, 2.8, 3.7], pbc=True)


def test_cohesive_energy_is_free_atom_less_bulk():
    result = energetics(bulk("Cu", a=3.65), EMT())
    by_hand = emt_energy(Atoms("Cu")) - fcc_minimum("Cu", 3.6)
    assert result.cohesive_energy == pytest.approx(by_hand, abs=1e-5) and by_hand > 3.0
    assert result.verdict == "element" and result.formation_energy == pytest.approx(0.0, abs=1e-5)
    assert result.references["Cu"].label == "fcc" and result.spacegroup.number == 225


def test_formation_energy_is_taken_from_both_elements():
    result = energetics(gold_copper(), EMT())
    a = result.atoms.cell.lengths()
    by_hand = emt_energy(result.atoms) / 2 - (fcc_minimum("Cu", 3.6) + fcc_minimum("Au", 4.06)) / 2
    assert result.formation_energy == pytest.approx(by_hand, abs=2e-5)
    assert result.verdict == "stable against the elements" and a[0] == pytest.approx(a[1])
    record = json.loads(json.dumps(plain(result.to_dict()), allow_nan=False))
    assert record["composition"] == {"Cu": 1, "Au": 1} and record["references"]["Au"]["label"] == "fcc"


def test_given_references_replace_computed_ones():
    relaxed = energetics(gold_copper(), EMT(), references={"Cu": 0.0, "Au": -1.0})
    assert relaxed.formation_energy == pytest.approx(relaxed.energy_per_atom + 0.5)
    assert relaxed.references["Cu"].label == "given"


def test_molecule_gets_an_atomisation_energy_and_says_what_gases_are():
    result = energetics(molecule("CO"), EMT(), references={"C": 0.0})
    free = emt_energy(Atoms("C")) + emt_energy(Atoms("O"))
    assert result.cohesive_energy == pytest.approx((free - emt_energy(result.atoms)) / 2, abs=1e-6)
    assert result.spacegroup is None and "O2" in result.warnings[0] and "not corrected" in result.warnings[0]


def test_what_cannot_be_computed_says_what_to_do():
    with pytest.raises(ValueError, match=r"reference of Fe \(bcc\).*EMT.*references=\{'Fe': energy\}"):
        ElementReferences(EMT()).ground_state("Fe")
    with pytest.raises(ValueError, match="gives none"):
        energetics(bulk("Cu"), NoStress())
    assert energetics(bulk("Cu"), NoStress(), relaxation="none", references={"Cu": 0.0}).verdict.startswith("element")
    with pytest.raises(ValueError, match="did not converge: step limit"):
        energetics(bulk("Cu", a=3.8), EMT(), steps=1)
    with pytest.raises(ValueError, match="no chemical symbol"):
        energetics(bulk("Cu"), EMT(), references={"copper": 0.0})
    with pytest.raises(ValueError, match="relaxation is 'all'"):
        EnergeticsOptions(relaxation="all")


def test_hull_of_entries_made_by_hand():
    pytest.importorskip("pymatgen")
    entries = [
        HullEntry("A", {"Cu": 1}, 0.0),
        HullEntry("B", {"Au": 2}, 0.0),
        HullEntry("AB", {"Cu": 1, "Au": 1}, -1.0),  # -0.5 eV/atom
        HullEntry("A3B", {"Cu": 3, "Au": 1}, -0.8),  # -0.2, and the line from A to AB is at -0.25
        HullEntry("AB3", {"Cu": 1, "Au": 3}, -1.6),  # -0.4, below the line at -0.25
    ]
    a, b, ab, a3b, ab3 = hull(entries)
    assert (a.above_hull, b.above_hull, ab.above_hull, ab3.above_hull) == (0.0, 0.0, 0.0, 0.0)
    assert ab.stable and ab3.stable and not a3b.stable
    assert a3b.above_hull == pytest.approx(0.05) and a3b.formation_energy == pytest.approx(-0.2)
    assert a3b.decomposition == pytest.approx({"A": 0.5, "AB": 0.5})
    tied = hull([*entries, HullEntry("A again", {"Cu": 4}, 0.0)])
    assert tied[0].decomposition == {"A": 1.0} and tied[-1].decomposition == {"A again": 1.0}
    with pytest.raises(ValueError, match="Au has none"):
        hull(entries[2:3] + entries[:1])


def test_hull_of_structures_has_their_elements_in_it():
    pytest.importorskip("pymatgen")
    loose = Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[3.1] * 3, pbc=True)
    ordered, stretched = energy_above_hull({"L10": gold_copper(), "B2": loose}, EMT(), references={"Au": 0.0})
    assert ordered.stable and ordered.decomposition == {"L10": 1.0}
    assert stretched.above_hull == pytest.approx(stretched.formation_energy - ordered.formation_energy, abs=1e-9)


@pytest.mark.parametrize("symbol", MODEL_ELEMENTS)
def test_reference_structures_have_sensible_bonds(symbol):
    for label, atoms in reference_structures(symbol).items():
        check_structure(atoms)
        assert set(atoms.symbols) == {symbol} and len(atoms) <= 32
        nearest = neighbor_list("d", atoms, 6.0).min()
        ratio = nearest / (2.0 * covalent_radii[atoms.numbers[0]])
        assert 0.65 < ratio < (7.0 if symbol in ("He", "Ne", "Ar", "Kr", "Xe") else 1.35), (label, nearest)
        assert "molecule" in label or find_space_group(atoms).number > 2


def test_missing_reference_structure_is_named():
    with pytest.raises(ValueError, match="no reference structure for Rn"):
        reference_structures("Rn")
