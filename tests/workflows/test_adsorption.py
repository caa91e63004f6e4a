"""Adsorption energies against numbers made by hand with ASE alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from forcefield.workflows.outcome import plain

pytest.importorskip("pymatgen")

from forcefield.workflows.adsorption import AdsorptionOptions, adsorption, as_molecule  # noqa: E402
from forcefield.workflows.adsorption_places import (  # noqa: E402
    distinct_orientations,
    find_places,
    judge,
    orient,
    prepare_slab,
)

A = 3.5898  # Å, lattice constant of EMT copper
SMALL = {"min_width": 2.0, "fmax": 0.01}


def copper(size=(1, 1, 3)):
    slab = fcc111("Cu", size, a=A, vacuum=8.0)
    slab.info.clear()
    return slab


class Indifferent(Calculator):
    """No forces at all: a molecule stays where it is put, and nothing binds."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def relaxed_energy(atoms):
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=300)
    return atoms.get_potential_energy()


def test_oxygen_on_copper_equals_the_same_slab_by_hand():
    result = adsorption(copper(), "O", EMT(), sites=["hollow"], **SMALL)

    clean = copper()
    clean.set_constraint(FixAtoms([0]))
    apart = relaxed_energy(clean) + emt(Atoms("O"))
    expected = []
    for place in ("fcc", "hcp"):
        together = fcc111("Cu", (1, 1, 3), a=A, vacuum=8.0)
        add_adsorbate(together, "O", 1.3, position=place)
        together.set_constraint(FixAtoms([0]))
        expected.append(relaxed_energy(together) - apart)
    assert sorted(expected) == pytest.approx(sorted(item.energy for item in result.adsorbates), abs=3e-3)
    assert result.verdict == "adsorbed" and result.energy == result.adsorbates[0].energy < -1.0
    assert result.best.site.startswith("hollow") and 0.5 < result.best.height < 2.0
    record = json.loads(json.dumps(plain(result.to_dict()), allow_nan=False))
    assert record["ok"] and record["adsorption_energy"] == pytest.approx(result.energy)


def emt(atoms):
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def test_places_of_a_hexagonal_surface():
    slab = prepare_slab(copper(), 4.0)
    assert len(slab) == 12 and slab.pbc.tolist() == [True, True, False]
    places = find_places(slab, ("ontop", "bridge", "hollow"))
    assert [place.kind for place in places] == ["ontop", "bridge", "hollow", "hollow"]
    top = slab.positions[:, 2].max()
    assert all(abs(place.position[2] - top) < 0.01 for place in places)
    hollow = places[2].position
    offsets = slab.cell.scaled_positions(slab.positions[slab.positions[:, 2] > top - 0.1] - hollow)
    offsets[:, :2] -= np.rint(offsets[:, :2])
    nearest = np.sort(np.linalg.norm((offsets @ slab.cell.array)[:, :2], axis=1))
    assert nearest[:3] == pytest.approx([A / 6**0.5] * 3, abs=1e-3)


def test_slab_is_turned_upright_and_keeps_its_constraints():
    slab = copper()
    slab.set_constraint(FixAtoms([0]))
    slab.rotate(70, (1, 2, 3), rotate_cell=True)
    work = prepare_slab(slab, 5.0)
    assert work.cell.angles()[:2] == pytest.approx([90.0, 90.0]) and len(work) == 27
    assert len(work.constraints[0].index) == 9
    np.testing.assert_allclose(np.unique(np.round(work.positions[:, 2], 5)), 2.0 + A / 3**0.5 * np.arange(3), atol=1e-4)


def test_orientations_of_a_molecule():
    co = molecule("CO")
    up, down, flat = (orient(co, way) for way in ("upright", "flipped", "flat"))
    oxygen = list(co.symbols).index("O")
    assert up.positions[oxygen, 2] > 1.0 and down.positions[oxygen, 2] == pytest.approx(0.0)
    assert np.ptp(flat.positions[:, 2]) == pytest.approx(0.0, abs=1e-9)
    assert distinct_orientations(molecule("N2"), ("upright", "flipped", "flat")) == ["upright", "flat"]
    assert distinct_orientations(Atoms("O"), ("upright", "flipped", "flat")) == ["upright"]


def test_what_became_of_the_molecule_is_told():
    slab = prepare_slab(copper(), 5.0)
    co = molecule("CO")
    n, still = len(slab), np.zeros(len(slab))

    def put(height, stretch=0.0):
        above = orient(co, "upright")
        above.positions += [0, 0, slab.positions[:, 2].max() + height]
        above.positions[above.positions[:, 2].argmax(), 2] += stretch
        together = slab.copy()
        together.extend(above)
        return together

    start = put(1.8)
    assert judge(start, put(1.9), n, still, 1.5) == "adsorbed"
    assert judge(start, put(4.5), n, still, 1.5) == "desorbed"
    assert judge(start, put(1.9, stretch=1.0), n, still, 1.5) == "dissociated"
    assert judge(start, put(1.9), n, still + 2.0, 1.5) == "surface changed"


def test_nothing_adsorbs_without_a_bond():
    result = adsorption(copper(), "CO", Indifferent(), height=6.0, sites=["ontop"], orientations=["upright"], **SMALL)
    assert result.verdict == "nothing adsorbed" and result.best is None and result.energy is None
    assert [item.verdict for item in result.adsorbates] == ["desorbed"] and not result.to_dict()["ok"]


def test_unfinished_relaxations_are_named():
    options = {"sites": ["ontop"], "orientations": ["upright"], "min_width": 2.0, "fmax": 1.0, "steps": 1}
    clean = adsorption(copper(), "O", EMT(), **options, height=0.8)
    assert clean.adsorbates[0].verdict == "not converged" and "ontop 0 upright" in clean.warnings[0]


def test_refusals():
    with pytest.raises(ValueError, match="leave only"):
        adsorption(bulk("Cu", cubic=True), "CO", EMT())
    with pytest.raises(ValueError, match="needs a slab, periodic along a and b"):
        adsorption(molecule("CO"), "CO", EMT())
    with pytest.raises(ValueError, match="No molecule is called 'unobtainium'"):
        as_molecule("unobtainium")
    with pytest.raises(ValueError, match="is periodic"):
        as_molecule(bulk("Cu"))
    for wrong in ({"sites": ("edge",)}, {"height": 0.0}, {"frozen": 1.0}, {"orientations": ()}, {"min_width": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            AdsorptionOptions(**wrong)
