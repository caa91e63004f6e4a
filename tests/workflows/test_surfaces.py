"""Surface energies against slabs built with ASE alone, and Wulff shapes against known polyhedra."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, fcc110, fcc111, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.spacegroup import crystal

from forcefield.workflows.outcome import plain
from forcefield.workflows.relax import relax

pytest.importorskip("pymatgen")
pytest.importorskip("matplotlib")

from forcefield.workflows.surfaces import JOULE_PER_M2, SurfaceOptions, surfaces  # noqa: E402
from forcefield.workflows.surfaces_build import (  # noqa: E402
    conventional_cell,
    distinct_indices,
    is_stoichiometric,
    make_slabs,
)
from forcefield.workflows.surfaces_wulff import plot_wulff, wulff_shape  # noqa: E402


class NoStress(EMT):
    implemented_properties = ("energy", "forces")

    def get_stress(self, atoms=None):
        raise PropertyNotImplementedError("stress")


class Repelling(Calculator):
    """Bulk at rest; in a structure with vacuum every atom is pushed up or down, away from the middle."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces = np.zeros((len(atoms), 3))
        energy = 0.0
        if not atoms.pbc.all():
            z = atoms.positions[:, 2] - atoms.positions[:, 2].mean()
            top = int(z.argmax())
            gap = 12.0 - z[top]  # the topmost atom is at rest far above the slab
            forces[top, 2] = gap
            energy = 0.5 * gap**2
        self.results = {"energy": energy, "forces": forces}


class Sliding(Calculator):
    """Bulk at rest; in a structure with vacuum, the topmost atom is drawn sideways from where it is met first.

    E = 1 eV + k/2 (x - x0 - distance)², so that the energies before and after are known.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, distance):
        super().__init__()
        self.distance, self.start = distance, None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces, energy = np.zeros((len(atoms), 3)), 0.0
        if not atoms.pbc.all():
            top = int(atoms.positions[:, 2].argmax())
            x = atoms.positions[top, 0]
            self.start = x if self.start is None else self.start
            left = self.start + self.distance - x
            forces[top, 0] = left
            energy = 1.0 + 0.5 * left**2
        self.results = {"energy": energy, "forces": forces}


def copper_by_hand(builder, layers):
    """Surface energy (eV/Å²) of EMT copper at its own lattice constant, without this package's slabs."""
    crystal_ = bulk("Cu", cubic=True, a=A)
    crystal_.calc = EMT()
    per_atom = crystal_.get_potential_energy() / 4
    slab = builder("Cu", (1, 1, layers), a=A, vacuum=8.0)
    slab.calc = EMT()
    BFGS(slab, logfile=None).run(fmax=0.005, steps=200)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    return (slab.get_potential_energy() - len(slab) * per_atom) / (2 * area)


A = 3.5898  # Å, lattice constant of EMT copper


def test_copper_surface_energies_equal_those_of_ase_slabs():
    result = surfaces(bulk("Cu", a=A), EMT(), min_slab=9.0, relaxation="none", fmax=0.005)
    by_index = {surface.miller: surface for surface in result.surfaces}
    assert list(by_index) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)] and result.verdict == "complete"
    for miller, builder in (((1, 0, 0), fcc100), ((1, 1, 0), fcc110), ((1, 1, 1), fcc111)):
        surface = by_index[miller]
        expected = copper_by_hand(builder, len(surface.atoms))
        assert surface.energy == pytest.approx(expected, abs=2e-6)
        assert surface.energy_joule == pytest.approx(expected * 16.02176634)
        assert surface.symmetric and surface.polar is None and surface.verdict == "relaxed"
        assert surface.energy <= surface.unrelaxed_energy + 1e-9
    assert by_index[1, 1, 1].energy < by_index[1, 0, 0].energy < by_index[1, 1, 0].energy
    assert sum(result.wulff.area_fractions.values()) == pytest.approx(1.0)
    assert by_index[1, 1, 1].energy < result.wulff.surface_energy < by_index[1, 1, 0].energy
    record = json.loads(json.dumps(plain(result.to_dict()), allow_nan=False))
    assert record["ok"] and record["surfaces"][0]["energy_joule_per_m2"] == pytest.approx(
        by_index[1, 0, 0].energy * JOULE_PER_M2
    )


def test_thickness_is_raised_until_the_energy_settles():
    result = surfaces(
        bulk("Cu", a=A), EMT(), miller=[(2, 0, 0)], min_slab=4.0, thickness_tolerance=0.002, relaxation="none"
    )
    (surface,) = result.surfaces
    assert surface.miller == (1, 0, 0) and surface.thickness_converged and len(surface.convergence) >= 2
    (_, before), (_, last) = surface.convergence[-2:]
    assert abs(last - before) * JOULE_PER_M2 < 0.002 and last == surface.energy
    assert result.wulff.area_fractions == {"(1 0 0)": pytest.approx(1.0)}


def test_slabs_are_small_stoichiometric_and_know_polarity():
    salt = conventional_cell(bulk("NaCl", "rocksalt", a=5.64))
    assert len(salt) == 8 and distinct_indices(salt, 1) == [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    (neutral,) = make_slabs(salt, (1, 0, 0), min_slab=8.0, min_vacuum=10.0)
    assert neutral.area == pytest.approx(5.64**2 / 2) and neutral.symmetric and neutral.polar is False
    (polar,) = make_slabs(salt, (1, 1, 1), min_slab=8.0, min_vacuum=10.0)
    assert polar.polar and not polar.symmetric and polar.stoichiometric
    np.testing.assert_allclose(polar.atoms.cell.angles()[:2], 90.0)
    assert polar.atoms.pbc.tolist() == [True, True, False]
    assert polar.atoms.cell[2, 2] - np.ptp(polar.atoms.positions[:, 2]) > 10.0


def test_every_termination_of_a_crystal_is_listed():
    titanium = conventional_cell(bulk("Ti"))
    cuts = make_slabs(titanium, (1, 0, 0), min_slab=9.0, min_vacuum=10.0)
    assert [cut.termination for cut in cuts] == [0, 1]  # the closely and the widely spaced planes of hcp
    assert all(cut.symmetric for cut in cuts) and cuts[0].shift != cuts[1].shift
    rutile = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.96, 90, 90, 90])
    terminations = make_slabs(conventional_cell(rutile), (1, 1, 0), min_slab=9.0, min_vacuum=10.0)
    assert len(terminations) >= 2 and all(cut.stoichiometric for cut in terminations)
    assert {cut.polar for cut in terminations} == {False, True}


def test_wulff_shape_of_equal_cube_faces_is_a_cube(tmp_path):
    cube = wulff_shape(bulk("Cu", cubic=True), {(1, 0, 0): 0.1})
    assert cube.shape_factor == pytest.approx(6.0) and cube.anisotropy == pytest.approx(0.0, abs=1e-9)
    assert cube.surface_energy == pytest.approx(0.1) and len(cube.facets) == 6
    for name, corners in cube.facets:
        assert name == "(1 0 0)" and np.abs(corners) == pytest.approx(0.1)
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1)
        assert edges == pytest.approx([0.2] * 4)
    octahedron = wulff_shape(bulk("Cu", cubic=True), {(1, 1, 1): 0.1, (1, 0, 0): 0.5})
    assert octahedron.area_fractions == pytest.approx({"(1 1 1)": 1.0, "(1 0 0)": 0.0})
    assert octahedron.shape_factor == pytest.approx(2 * 3**0.5 / (2**0.5 / 3) ** (2 / 3))
    assert plot_wulff(cube, tmp_path / "cube.png").read_bytes().startswith(b"\x89PNG")


def test_wulff_shape_needs_positive_energies_that_enclose_a_body():
    with pytest.raises(ValueError, match=r"positive surface energies .* \(1 0 0\) -0.1"):
        wulff_shape(bulk("Cu", cubic=True), {(1, 0, 0): -0.1})
    hexagonal = Atoms("C", cell=[3, 3, 5, 90, 90, 120], pbc=True)
    with pytest.raises(ValueError, match="enclose no body"):
        wulff_shape(hexagonal, {(0, 0, 1): 0.1})


def test_surfaces_that_fail_have_no_energy():
    stopped = surfaces(bulk("Cu", a=A), EMT(), miller=[(1, 1, 0)], min_slab=6.0, relaxation="none", fmax=1e-6, steps=1)
    (surface,) = stopped.surfaces
    assert surface.verdict == "not converged" and surface.energy is None and surface.unrelaxed_energy > 0.0
    assert stopped.verdict == "some surfaces have no energy" and stopped.wulff is None
    assert any("no Wulff shape" in text for text in stopped.warnings)
    left = surfaces(bulk("Cu", a=A), Repelling(), miller=[(1, 0, 0)], min_slab=6.0, relaxation="none")
    assert left.surfaces[0].verdict == "atoms left" and left.surfaces[0].energy is None


@pytest.mark.parametrize(("distance", "verdict"), [(0.5, "relaxed"), (1.2, "reconstructed")])
def test_atom_that_goes_far_makes_another_surface(distance, verdict):
    options = {"miller": [(1, 0, 0)], "min_slab": 6.0, "relaxation": "none", "fmax": 1e-4}
    result = surfaces(bulk("Cu", a=A), Sliding(distance), **options)
    (surface,) = result.surfaces
    assert surface.verdict == verdict and surface.displacement == pytest.approx(distance, abs=1e-3)
    assert surface.area == pytest.approx(A**2 / 2)
    assert surface.energy == pytest.approx(1.0 / A**2, rel=1e-6)  # 1 eV on both sides, with an energy either way
    assert surface.unrelaxed_energy == pytest.approx((1.0 + 0.5 * distance**2) / A**2)
    assert result.verdict == "complete" and result.wulff.area_fractions == {"(1 0 0)": pytest.approx(1.0)}
    assert any("(1 0 0) cut 0: an atom moved" in text for text in result.warnings) == (verdict == "reconstructed")


def test_slab_of_another_composition_is_named_and_not_computed(monkeypatch):
    def cut_with_a_hole(*arguments, **options):
        made = make_slabs(*arguments, **options)
        holed = [slab.atoms[1:] for slab in made]
        return [
            replace(slab, atoms=atoms, stoichiometric=is_stoichiometric(atoms, slab.bulk))
            for slab, atoms in zip(made, holed, strict=True)
        ]

    module = import_module("forcefield.workflows.surfaces")  # the name in the package is that of the function
    monkeypatch.setattr(module, "make_slabs", cut_with_a_hole)
    calculator = Sliding(0.0)
    options = {"miller": [(1, 0, 0)], "min_slab": 6.0, "relaxation": "none"}
    result = surfaces(bulk("NaCl", "rocksalt", a=5.64), calculator, **options)
    (surface,) = result.surfaces
    assert surface.verdict == "not stoichiometric" and surface.energy is None and surface.unrelaxed_energy is None
    assert calculator.start is None  # no slab reached the calculator
    assert result.verdict == "some surfaces have no energy" and result.wulff is None
    assert json.loads(json.dumps(plain(result.to_dict()), allow_nan=False))["ok"] is False


def test_composition_counts_up_to_the_size():
    salt = bulk("NaCl", "rocksalt", a=5.64)
    assert is_stoichiometric(salt.repeat(2), salt) and is_stoichiometric(salt, salt.repeat(2))
    assert not is_stoichiometric(salt.repeat(2)[1:], salt) and not is_stoichiometric(salt, bulk("Na"))


def test_refusals():
    with pytest.raises(ValueError, match="surfaces need a crystal.*no axis"):
        surfaces(molecule("CO"), EMT())
    with pytest.raises(ValueError, match="surfaces need a crystal"):
        surfaces(fcc111("Cu", (1, 1, 3), vacuum=6.0), EMT())
    with pytest.raises(ValueError, match="cut from a crystal, but Cu3 has a vacuum of 12.0 Å along c, as of a slab"):
        surfaces(fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=True), EMT(), relaxation="none")
    with pytest.raises(ValueError, match="NoStress gives none"):
        surfaces(bulk("Cu"), NoStress())
    with pytest.raises(ValueError, match="not all 0"):
        surfaces(bulk("Cu"), EMT(), miller=[(0, 0, 0)])
    for wrong in ({"max_index": 0}, {"min_slab": 0.0}, {"thickness_tolerance": -1.0}, {"fmax": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SurfaceOptions(**wrong)


def test_lattice_constant_of_the_tests_is_the_minimum():
    cell = relax(bulk("Cu", a=3.6), EMT(), cell=True, optimizer="BFGS", smax=1e-3, fmax=1e-4).atoms.cell
    assert cell.lengths()[0] * 2**0.5 == pytest.approx(A, abs=1e-4)
