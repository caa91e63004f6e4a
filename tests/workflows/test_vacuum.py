"""Vacuum in a periodic cell: found in slabs, wires and boxes, in no crystal, and what becomes of the cell."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene_nanoribbon, make_supercell, molecule, mx2, surface
from ase.calculators.emt import EMT
from ase.spacegroup import crystal

from forcefield.workflows import (
    RelaxOptions,
    elastic_constants,
    energetics,
    equation_of_state,
    molecular_dynamics,
    relax,
    relax_many,
    surfaces,
)
from forcefield.workflows.relax_setup import settle_cell
from forcefield.workflows.vacuum import describe_vacuum, find_vacuum, kept_cell_notice


def periodic(atoms):
    atoms.pbc = True
    return atoms


def copper_slab(vacuum=8.0):
    return periodic(fcc111("Cu", (2, 2, 4), vacuum=vacuum))


def boxed(name, room=6.0):
    atoms = molecule(name)
    atoms.center(room)
    return periodic(atoms)


def bulk_molybdenum_disulphide():
    layer = mx2("MoS2", kind="2H", a=3.18, thickness=3.19)
    other = layer.copy()
    other.rotate(60, "z")
    other.positions[:, 2] += 6.15
    whole = layer + other
    whole.cell[2] = (0.0, 0.0, 12.30)
    return periodic(whole)


GRAPHITE = crystal("CC", [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)], spacegroup=194, cellpar=[2.46, 2.46, 6.71, 90, 90, 120])
BISMUTH_TRIIODIDE = crystal(
    ("Bi", "I"), [(0, 0, 0.167), (0.33, 0.33, 0.079)], spacegroup=148, cellpar=[7.52, 7.52, 20.72, 90, 90, 120]
)
CRYSTALS = [
    GRAPHITE,
    BISMUTH_TRIIODIDE,
    bulk_molybdenum_disulphide(),
    bulk("Cu"),
    bulk("Cs", "bcc", a=6.14),  # 4.3 Å between planes of its primitive cell
    bulk("Xe", "fcc", a=6.13),
    bulk("He", "hcp", a=3.57, c=5.83),
    bulk("NaCl", "rocksalt", a=5.64),
    bulk("Si", cubic=True),
]


@pytest.mark.parametrize("atoms", CRYSTALS, ids=lambda atoms: atoms.get_chemical_formula())
def test_crystals_and_layered_crystals_have_none(atoms):
    for shape in (np.eye(3), np.diag([2, 1, 3]), [[1, 0, 0], [1, 1, 0], [0, 2, 1]]):
        whole = make_supercell(atoms, np.array(shape))
        assert find_vacuum(whole) == [] and describe_vacuum(whole) is None


def test_slab_wire_and_molecule():
    assert describe_vacuum(copper_slab()) == "a vacuum of 16.0 Å along c, as of a slab"
    ribbon = periodic(graphene_nanoribbon(3, 2, type="zigzag", saturated=True, vacuum=5.0))
    assert [layer.axis for layer in find_vacuum(ribbon)] == [0, 1]
    assert describe_vacuum(ribbon).endswith("as of a wire")
    box = boxed("H2O")
    assert [layer.thickness for layer in find_vacuum(box)] == pytest.approx([12.0] * 3)
    assert describe_vacuum(box).endswith("along a, 12.0 Å along b, 12.0 Å along c, as of a molecule in a box")


@pytest.mark.parametrize("seed", range(4))
def test_thickness_does_not_depend_on_where_the_slab_lies(seed):
    random = np.random.default_rng(seed)
    slab = periodic(surface(bulk("MgO", "rocksalt", a=4.21), (2, 1, 0), 3, vacuum=5.0))
    heights = np.sort(slab.positions[:, 2])
    expected = slab.cell[2, 2] - (heights[-1] - heights[0])
    slab.positions += random.uniform(-30.0, 30.0, 3)
    slab.positions += random.integers(-2, 3, (len(slab), 3)) @ slab.cell.array
    slab.cell[2] += slab.cell[0] + random.uniform(-1.0, 1.0) * slab.cell[1]  # the same height in a tilted cell
    slab.rotate(random.uniform(0.0, 360.0), random.standard_normal(3), rotate_cell=True)
    order = random.permutation(3)
    slab.cell[:] = slab.cell.array[order]
    (layer,) = find_vacuum(slab)
    assert layer.axis == int(np.flatnonzero(order == 2)[0])
    assert layer.thickness == pytest.approx(expected, abs=1e-6)


def test_large_atom_behind_a_small_one_counts():
    """Caesium 0.1 Å above hydrogen reaches further down than it, so that the layer is free between caesium only."""
    atoms = Atoms("HCs", positions=[(2.5, 2.5, 0), (0, 0, 0.1)], cell=[5.0, 5.0, 7.7], pbc=True)
    assert find_vacuum(atoms) == []  # 7.7 - 2 * 2.44 = 2.8 Å
    atoms.cell[2, 2] = 8.1
    (layer,) = find_vacuum(atoms)
    assert layer.axis == 2 and layer.thickness == pytest.approx(8.0)


def test_axes_that_are_not_periodic_and_missing_cells_do_not_count():
    assert find_vacuum(fcc111("Cu", (1, 1, 3), vacuum=8.0)) == []
    assert find_vacuum(molecule("H2O")) == [] and find_vacuum(Atoms()) == []
    assert find_vacuum(fcc111("Cu", (1, 1, 3))) == []


def test_cell_is_chosen_for_each_structure():
    options = RelaxOptions()
    assert settle_cell(GRAPHITE, options, automatic_cell=True).options.cell
    for atoms in (copper_slab(), boxed("CO"), molecule("CO")):
        assert not settle_cell(atoms, options, automatic_cell=True).options.cell
    assert settle_cell(copper_slab(), RelaxOptions(cell=True), automatic_cell=False).options.cell
    assert kept_cell_notice(GRAPHITE) is None and "cell kept" in kept_cell_notice(copper_slab())
    with pytest.raises(ValueError, match=r"but there is a vacuum of 16.0 Å along c, as of a slab, where a pressure"):
        settle_cell(copper_slab(), RelaxOptions(cell=True, pressure=1.0), automatic_cell=True)
    with pytest.raises(ValueError, match="periodic along no axis, where a pressure has no meaning"):
        settle_cell(molecule("CO"), RelaxOptions(cell=True, pressure=1.0), automatic_cell=True)


def test_many_structures_keep_the_cells_of_slabs_unless_asked():
    given = [copper_slab(4.0), bulk("Cu", a=3.7)]
    kept = relax_many(given, EMT(), cell=None, fmax=0.1)
    assert "as of a slab" in kept[0].result.notice and kept[1].result.notice is None
    assert kept[0].result.volume_change == 0.0 and kept[1].result.volume_change < -0.05
    assert relax_many(given[:1], EMT(), cell=True, fmax=0.1, smax=0.2)[0].result.volume_change != 0.0
    expected = relax(given[0], EMT(), fmax=0.1)
    np.testing.assert_array_equal(kept[0].result.atoms.positions, expected.atoms.positions)


@pytest.mark.parametrize("workflow", [elastic_constants, equation_of_state])
def test_workflows_of_crystals_refuse_to_relax_a_cell_with_vacuum(workflow):
    with pytest.raises(ValueError, match=r'relaxation="cell" needs a crystal, but Cu16 has a vacuum of 16.0 Å along c'):
        workflow(copper_slab(), EMT())


def test_workflows_of_crystals_in_a_kept_cell_say_what_it_means():
    slab = periodic(fcc111("Cu", (1, 1, 3), vacuum=4.0))
    result = equation_of_state(slab, EMT(), relaxation="positions", n_volumes=5, fmax=0.05)
    assert any(
        "the cell has a vacuum of" in text and "what is per volume counts it" in text for text in result.warnings
    )


def test_surfaces_of_a_slab_are_refused():
    pytest.importorskip("pymatgen")
    with pytest.raises(ValueError, match="surfaces are cut from a crystal, but Cu16 has a vacuum of 16.0 Å along c"):
        surfaces(copper_slab(), EMT())


def test_energetics_keeps_the_cell():
    slab = copper_slab()
    result = energetics(slab, EMT(), fmax=0.05)
    np.testing.assert_array_equal(result.atoms.cell.array, slab.cell.array)
    assert "a vacuum of 16.0 Å along c, as of a slab: atoms relaxed, cell kept" in result.warnings
    open_slab = fcc111("Cu", (2, 2, 4), vacuum=8.0)
    assert result.formation_energy == pytest.approx(energetics(open_slab, EMT(), fmax=0.05).formation_energy, abs=1e-6)


def test_pressure_on_a_vacuum_is_warned_of():
    result = molecular_dynamics(copper_slab(4.0), EMT(), ensemble="npt", steps=2, timestep=1.0)
    assert any("a vacuum of 8.0 Å along c, as of a slab, which a pressure closes" in text for text in result.warnings)
    assert molecular_dynamics(copper_slab(4.0), EMT(), steps=2, timestep=1.0).warnings == ()
