"""Barriers: hopping of an adatom against bands set up by hand, pairing of atoms, verdicts, saddle points."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import BFGS

from forcefield.workflows.barrier import neb
from forcefield.workflows.barrier_checkpoint import SearchCheckpoint
from forcefield.workflows.barrier_saddle import saddle
from forcefield.workflows.barrier_setup import match_ends, rigid_motions
from forcefield.workflows.outcome import plain
from forcefield.workflows.relax import relax


class DoubleWell(Calculator):
    """An atom in a well of E = h (x² - 1)² + tilt x + y² + z², so that the barrier is known."""

    implemented_properties = ("energy", "forces")

    def __init__(self, height=0.4, tilt=0.0):
        super().__init__()
        self.height, self.tilt = height, tilt

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, y, z = atoms.positions[0]
        forces = np.zeros((len(atoms), 3))
        forces[0] = -4 * self.height * x * (x**2 - 1) - self.tilt, -2 * y, -2 * z
        energy = self.height * (x**2 - 1) ** 2 + self.tilt * x + y**2 + z**2
        self.results = {"energy": energy, "forces": forces}


def wells():
    return tuple(Atoms("Ar", positions=[[x, 0.1 * x, 0]], constraint=[]) for x in (-1.0, 1.0))


def adatom():
    """A gold adatom in two neighbouring hollows of Al(100), the example of ASE's tutorial on NEB."""
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms(mask=[atom.tag > 1 for atom in slab]))
    moved = slab.copy()
    moved.positions[-1, 0] += slab.cell[0, 0] / 2
    return slab, moved


@pytest.fixture(scope="module")
def hop():
    return neb(*adatom(), EMT(), n_images=3)


def test_adatom_hops_over_the_barrier_of_a_band_set_up_by_hand(hop):
    assert hop.verdict == "barrier found" and hop.max_force <= 0.03 and hop.highest == 2
    ends = adatom()
    for end in ends:
        end.calc = EMT()
        BFGS(end, logfile=None).run(fmax=0.02)
    images = [ends[0], *[ends[0].copy() for _ in range(3)], ends[1]]
    for image in images[1:-1]:
        image.calc = EMT()
    band = NEB(images, climb=True, method="aseneb")
    band.interpolate(mic=True)
    BFGS(band, logfile=None).run(fmax=0.03)
    expected = images[2].get_potential_energy() - ends[0].get_potential_energy()
    assert hop.forward == pytest.approx(expected, abs=0.005)
    assert hop.forward == pytest.approx(0.374, abs=0.005)  # the tutorial's
    assert hop.reverse == pytest.approx(hop.forward, abs=0.005)  # both hollows are alike
    assert hop.reaction_energy == pytest.approx(0.0, abs=0.005)
    assert hop.fit_energies.max() == pytest.approx(hop.forward, abs=0.01)
    fixed = hop.images[0].constraints[0].index
    np.testing.assert_allclose(hop.saddle.positions[fixed], hop.images[0].positions[fixed], atol=1e-12)
    record = json.loads(json.dumps(plain(hop), allow_nan=False))
    assert record["ok"] and len(record["energies"]) == 5 and "symbols" in record["saddle"]


def test_dimer_finds_the_saddle_of_the_band(hop):
    start = hop.images[0].copy()
    direction = np.zeros((len(start), 3))
    direction[-1, 0] = 1.0
    found = saddle(start, EMT(), direction=direction, kick=0.3)
    assert found.verdict == "saddle point found" and found.curvature < 0.0 and found.max_force <= 0.02
    assert found.barrier == pytest.approx(hop.forward, abs=0.01)
    assert np.linalg.norm(found.mode) == pytest.approx(1.0)
    assert abs(found.mode[-1, 0]) > 0.7
    assert start.calc is None


def test_known_barriers_of_a_double_well():
    result = neb(*wells(), DoubleWell(0.4, 0.1), n_images=5, fmax=0.005)
    xs = np.sort(np.roots([4 * 0.4, 0, -4 * 0.4, 0.1]).real)
    low, top, high = 0.4 * (xs**2 - 1) ** 2 + 0.1 * xs
    assert result.forward == pytest.approx(top - low, abs=2e-3)
    assert result.reverse == pytest.approx(top - high, abs=2e-3)
    plain_band = neb(*wells(), DoubleWell(0.4, 0.1), n_images=4, climb=False, optimizer="ode", fmax=0.02)
    assert plain_band.forward == pytest.approx(top - low, abs=0.02)


def interrupt_at(stop):
    """A callback that ends a search at a step."""

    def interrupt(step):
        if step.step == stop:
            raise Interrupted

    return interrupt


class Interrupted(Exception):
    """Raised in the middle of a search."""


@pytest.mark.parametrize("stop", [0, 1, 7, 20])
def test_interrupted_band_goes_on_exactly(tmp_path, stop):
    options = {"n_images": 3, "fmax": 0.005}
    whole = neb(*wells(), DoubleWell(0.4, 0.1), **options)
    assert whole.verdict == "barrier found" and whole.steps > 20
    path = tmp_path / "band.json"
    with pytest.raises(Interrupted):
        neb(*wells(), DoubleWell(0.4, 0.1), **options, checkpoint=SearchCheckpoint(path), callback=interrupt_at(stop))
    taken = []
    again = neb(
        *wells(), DoubleWell(0.4, 0.1), **options, checkpoint=SearchCheckpoint(path), callback=lambda s: taken.append(s)
    )
    assert again.steps == whole.steps and taken[0].step == stop
    np.testing.assert_array_equal(again.energies, whole.energies)
    np.testing.assert_array_equal(again.saddle.positions, whole.saddle.positions)
    assert again.ends_moved == whole.ends_moved
    finished = neb(*wells(), DoubleWell(0.4, 0.1), **options, checkpoint=SearchCheckpoint(path))
    assert finished.steps == whole.steps and finished.forward == whole.forward and finished.verdict == whole.verdict


def test_checkpoint_is_of_one_search_only(tmp_path):
    path = tmp_path / "band.json"

    def search(potential="a", ends=None, **options):
        checkpoint = SearchCheckpoint(path, about={"potential": potential})
        return neb(*(ends or wells()), DoubleWell(), relax_ends=False, checkpoint=checkpoint, **options)

    assert search(steps=3).verdict == "not converged"
    with pytest.raises(ValueError, match="another search: potential differ"):
        search("b")
    start, end = wells()
    end.positions[0, 2] += 0.2
    with pytest.raises(ValueError, match="another search: final differ"):
        search(ends=(start, end))
    assert search(steps=500).verdict == "barrier found"  # more steps of the same search
    path.write_text("not JSON")
    with pytest.raises(ValueError, match="is damaged"):
        search()
    assert not SearchCheckpoint(path, resume=False).path.exists()


@pytest.mark.parametrize("stop", [0, 1, 4, 9])
def test_interrupted_dimer_goes_on_exactly(tmp_path, stop):
    start, _ = wells()
    options = {"direction": np.array([[0.5, 1.0, 0.5]]), "fmax": 0.0005}
    whole = saddle(start, DoubleWell(0.1), **options)
    assert whole.verdict == "saddle point found" and whole.steps > 9
    path = tmp_path / "dimer.json"
    with pytest.raises(Interrupted):
        saddle(start, DoubleWell(0.1), **options, checkpoint=SearchCheckpoint(path), callback=interrupt_at(stop))
    taken = []
    again = saddle(start, DoubleWell(0.1), **options, checkpoint=SearchCheckpoint(path), callback=taken.append)
    assert [step.step for step in taken] == list(range(stop + bool(stop), whole.steps + 1))
    assert taken[-1].max_force <= 0.0005 and taken[-1].curvature < 0.0
    for name in ("steps", "verdict", "barrier", "curvature", "max_force"):
        assert getattr(again, name) == getattr(whole, name)
    np.testing.assert_array_equal(again.atoms.positions, whole.atoms.positions)
    np.testing.assert_array_equal(again.mode, whole.mode)


def test_dimer_goes_on_with_more_steps_but_not_as_another_search(tmp_path):
    start, _ = wells()
    path, kick = tmp_path / "dimer.json", {"direction": np.array([[0.5, 1.0, 0.5]]), "fmax": 0.0005}

    def search(**options):
        return saddle(start, DoubleWell(0.1), checkpoint=SearchCheckpoint(path), **{**kick, **options})

    whole = saddle(start, DoubleWell(0.1), **kick)
    assert search(steps=4).verdict == "not converged"
    more = search(steps=100)
    assert (more.verdict, more.steps, more.barrier) == (whole.verdict, whole.steps, whole.barrier)
    assert search(steps=100).barrier == whole.barrier  # of a finished search, at once
    with pytest.raises(ValueError, match="another search: direction differ"):
        search(direction=np.array([[1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match="another search: fmax differ"):
        search(fmax=0.1)
    path.write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        search()


def test_path_without_a_barrier_and_band_without_time():
    start, end = wells()
    end.positions[0] = [-0.5, 0, 0]
    downhill = neb(end, start, DoubleWell(), relax_ends=False)
    assert downhill.verdict == "no barrier" and plain(downhill)["ok"] is False
    assert neb(*wells(), DoubleWell(), steps=2, relax_ends=False).verdict == "not converged"
    with pytest.raises(ValueError, match="relax into the same structure"):
        neb(start, end, DoubleWell())
    far = end.copy()
    far.positions[0] = [-0.9, 0, 0]
    other = Atoms("Ar", positions=[[0.1, 0, 0]])
    assert neb(far, other, DoubleWell()).verdict == "an end relaxed away"


def test_minimum_on_the_way_is_named():
    class ThreeWells(DoubleWell):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            x, y, z = atoms.positions[0]
            self.results = {"energy": -np.cos(2 * np.pi * x) + y**2 + z**2}
            self.results["forces"] = np.array([[-2 * np.pi * np.sin(2 * np.pi * x), -2 * y, -2 * z]])

    result = neb(*wells(), ThreeWells(), n_images=7, climb=False, fmax=0.2)
    assert any("lies in a minimum between the ends" in warning for warning in result.warnings)


def test_atoms_in_another_order_and_image_are_paired():
    start = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    del start[0]  # a vacancy
    start.set_constraint(FixAtoms([3]))
    end = start.copy()
    hopping = int(np.argmin(np.linalg.norm(start.positions - [2.8, 2.8, 0], axis=1)))
    end.positions[hopping] = [0.0, 0.0, 0.0]
    shuffle = np.random.default_rng(4).permutation(len(end))
    shuffled = end[shuffle]
    shuffled.set_constraint()
    shuffled.positions += np.random.default_rng(5).integers(-1, 2, size=(len(end), 3)) * 5.6
    matched, order = match_ends(start, shuffled, mapping=True)
    np.testing.assert_array_equal(shuffle[order], np.arange(len(end)))
    moved = np.linalg.norm(matched.positions - start.positions, axis=1)
    assert moved[hopping] == pytest.approx(2.8 * np.sqrt(2)) and np.delete(moved, hopping).max() < 1e-9
    assert matched.constraints[0].index.tolist() == [3]
    with pytest.raises(ValueError, match="different order"):
        match_ends(start, shuffled, mapping=False)


def test_shift_and_rotation_of_free_structures_are_no_motion():
    ammonia = molecule("NH3")
    turned = ammonia.copy()
    turned.positions[1:, 2] += 0.6  # towards the other side
    reference = np.linalg.norm(match_ends(ammonia, turned, mapping=True)[0].positions - ammonia.positions)
    turned.rotate(30, "x")
    turned.positions += 7.0
    moved = match_ends(ammonia, turned[[0, 1, 2, 3]], mapping=False)[0].positions - ammonia.positions
    assert np.linalg.norm(moved) == pytest.approx(reference, rel=0.05)


def test_ends_that_do_not_fit_are_refused():
    slab, moved = adatom()
    with pytest.raises(ValueError, match="Both ends are the same structure.*mapping=False"):
        neb(slab, slab, EMT())
    with pytest.raises(ValueError, match="hold different atoms"):
        neb(slab, moved[:-1], EMT())
    wide = moved.copy()
    wide.set_cell(slab.cell * 1.1)
    with pytest.raises(ValueError, match="cells of the ends differ"):
        neb(slab, wide, EMT())
    free = moved.copy()
    free.pbc = False
    with pytest.raises(ValueError, match="periodic along different axes"):
        neb(slab, free, EMT())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 0}, "n_images is 0"),
        ({"interpolation": "spline"}, "interpolation is 'spline'"),
        ({"optimizer": "BFGS"}, "optimizer is 'BFGS'"),
        ({"fmax": 0.0}, "fmax is 0.0"),
        ({"steps": 0}, "steps is 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        neb(*wells(), DoubleWell(), **options)


def test_saddle_refuses_and_gives_up():
    start, _ = wells()
    with pytest.raises(ValueError, match="direction has the shape"):
        saddle(start, DoubleWell(), direction=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="moving is"):
        saddle(start, DoubleWell(), moving=[3])
    with pytest.raises(ValueError, match="fmax is -1"):
        saddle(start, DoubleWell(), fmax=-1)
    fixed = start.copy()
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(ValueError, match="all fixed"):
        saddle(fixed, DoubleWell())
    assert saddle(start, DoubleWell(), steps=1, direction=np.array([[0.0, 1.0, 0.5]])).verdict == "not converged"
    assert saddle(start, DoubleWell(), direction=np.array([[1.0, 0.0, 0.0]])).barrier == pytest.approx(0.4, abs=0.02)


def vacancy():
    """A vacancy in EMT aluminium, relaxed; nothing is fixed."""
    atoms = bulk("Al", cubic=True, a=3.994).repeat(2)
    del atoms[0]
    return relax(atoms, EMT(), fmax=1e-3, optimizer="BFGS").atoms


def test_dimer_climbs_instead_of_shifting_a_crystal():
    """The band between two places of the vacancy, its atoms in order, knows the barrier of a hop."""
    start = vacancy()
    hopper = int(np.argmin(np.linalg.norm(start.positions, axis=1)))
    end = start.copy()
    end.positions[hopper] = 0.0
    direction = np.zeros((len(start), 3))
    direction[hopper] = -start.positions[hopper]
    found = saddle(start, EMT(), direction=direction, kick=0.6)
    assert found.verdict == "saddle point found" and found.curvature < -0.1
    assert found.barrier == pytest.approx(neb(start, end, EMT(), n_images=3).forward, abs=0.01)
    assert np.abs(found.mode.sum(axis=0)).max() < 1e-6


def test_rigid_motions_of_every_periodicity():
    water, crystal = molecule("H2O"), bulk("Cu").repeat((2, 1, 1))
    wire = Atoms("Cu3", positions=[[0, 0, 0], [1.5, 0.5, 1.2], [0, 1, 2.4]], cell=[9, 9, 4], pbc=[0, 0, 1])
    for atoms, n_motions in ((water, 6), (molecule("CO2"), 5), (crystal, 3), (wire, 4)):
        none = np.zeros((len(atoms), 3))
        motions = rigid_motions(atoms, none)
        assert len(motions) == n_motions
        overlaps = np.array([[np.vdot(a, b) for b in motions] for a in motions])
        np.testing.assert_allclose(overlaps, np.eye(n_motions), atol=1e-12)
        for motion in motions if not atoms.pbc.any() else ():
            moved = atoms.copy()
            moved.positions += 1e-5 * motion
            np.testing.assert_allclose(moved.get_all_distances(), atoms.get_all_distances(), atol=1e-9)
    assert rigid_motions(bulk("Cu"), np.zeros((1, 3))) == []
    assert len(rigid_motions(water, np.ones((3, 3)))) < 6  # pushed by an outer field
    water.set_constraint(FixAtoms([0]))
    assert rigid_motions(water, np.zeros((3, 3))) == []
