"""Sampled structures: sensible distances, the right composition and strain, and nothing but the seed decides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers, covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefield.data.sampling import (
    KINDS,
    SHORTEST,
    SamplePlan,
    rattled,
    sample,
    slabs,
    strained,
    substituted,
    supercells,
    vacancies,
    volumes,
)
from forcefield.data.sampling.cells import MILLER
from forcefield.data.sampling.substitution import FAMILIES, distance_factor, relatives


def quartz_like() -> Atoms:
    """A triclinic cell with three elements."""
    return Atoms(
        "LiAlO2",
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.27, 0.24], [0.75, 0.74, 0.77]],
        cell=[[4.0, 0, 0], [0.4, 4.2, 0], [0.3, -0.5, 4.4]],
        pbc=True,
    )


CRYSTALS = {
    "copper": lambda: bulk("Cu"),
    "salt": lambda: bulk("NaCl", "rocksalt", a=5.64),
    "zincblende": lambda: bulk("GaAs", "zincblende", a=5.65, cubic=True),
    "triclinic": quartz_like,
}
WHOLE = SamplePlan(rattled=4, strained=4, volume=3, supercell=2, vacancy=3, slab=3, substituted=4, max_atoms=24)


def shortest_ratio(atoms: Atoms) -> float:
    """Smallest distance over sum of covalent radii, from explicit images."""
    shifts = [n for n, periodic in zip([(-1, 0, 1)] * 3, atoms.pbc, strict=True) if periodic]
    best = np.inf
    for shift in itertools.product(*shifts):
        whole = np.zeros(3)
        whole[np.flatnonzero(atoms.pbc)] = shift
        wrapped = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        wrapped.wrap()
        vectors = wrapped.positions[None] + whole @ atoms.cell.array - wrapped.positions[:, None]
        radii = covalent_radii[atoms.numbers]
        ratio = np.linalg.norm(vectors, axis=2) / (radii[:, None] + radii[None])
        best = min(best, ratio[ratio > 1e-9].min(initial=np.inf))
    return best


def same(first: list[Atoms], second: list[Atoms]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(one.numbers, other.numbers)
        and np.array_equal(one.positions, other.positions)
        and np.array_equal(one.cell.array, other.cell.array)
        and one.info == other.info
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_kind_is_made_as_often_as_planned_and_without_close_contacts(name):
    atoms = CRYSTALS[name]()
    before = atoms.copy()
    frames = list(sample(atoms, WHOLE, seed=3))
    assert atoms == before and atoms.info == before.info
    counts = {kind: sum(frame.info["kind"] == kind for frame in frames) for kind in KINDS}
    assert counts == {kind: getattr(WHOLE, kind) for kind in KINDS}
    for frame in frames:
        assert shortest_ratio(frame) >= SHORTEST, frame.info
        assert frame.info["parent"] == atoms.get_chemical_formula() and frame.info["material"]
        assert frame.calc is None and frame.pbc.all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(CRYSTALS)))
def test_frames_depend_on_seed_and_parent_alone(seed, name):
    atoms, plan = CRYSTALS[name](), SamplePlan(rattled=2, slab=1, substituted=2, vacancy=1, max_atoms=16)
    frames = list(sample(atoms, plan, seed=seed))
    assert same(frames, list(sample(atoms.copy(), plan, seed=seed)))
    other = list(sample(atoms, plan, seed=seed + 1))
    assert not any(same([one], [two]) for one, two in zip(frames, other, strict=True))
    more = SamplePlan(rattled=3, strained=2, slab=2, substituted=2, vacancy=1, max_atoms=16)
    kept = [frame for frame in sample(atoms, more, seed=seed) if frame.info["kind"] == "rattled"][:2]
    assert same(frames[:2], kept)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), limit=st.floats(0.005, 0.2))
def test_strain_is_symmetric_within_its_limit_and_has_six_components(seed, limit):
    atoms = quartz_like()
    (frame,) = strained(atoms, 1, seed=seed, strains=(limit,))
    deformation = np.linalg.solve(atoms.cell.array, frame.cell.array)
    strain = deformation - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert np.abs(strain).max() <= limit + 1e-12
    assert (np.abs(strain) > 0).all() and len(np.unique(strain[np.triu_indices(3)])) == 6
    np.testing.assert_allclose(frame.get_scaled_positions(), atoms.get_scaled_positions(), atol=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_volumes_are_within_their_limits_and_keep_the_shape(seed):
    atoms = quartz_like()
    for frame in volumes(atoms, 3, seed=seed, smallest=0.8, largest=1.25):
        ratio = frame.get_volume() / atoms.get_volume()
        assert 0.8 <= ratio <= 1.25
        np.testing.assert_allclose(frame.cell.array, atoms.cell.array * ratio ** (1 / 3), rtol=1e-12)


def test_volumes_lie_on_both_sides_of_the_parent():
    ratios = [frame.get_volume() / quartz_like().get_volume() for frame in volumes(quartz_like(), 30, seed=0)]
    assert min(ratios) < 0.85 and max(ratios) > 1.2


def test_displacements_have_the_amplitudes_asked_for():
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2)
    frames = list(rattled(atoms, 4, seed=0, amplitudes=(0.02, 0.2)))
    spread = [np.std(frame.positions - atoms.positions) for frame in frames]
    np.testing.assert_allclose(spread, [0.02, 0.2, 0.02, 0.2], rtol=0.15)
    for frame in frames:
        np.testing.assert_array_equal(frame.cell.array, atoms.cell.array)


def test_wild_displacements_are_redrawn_smaller_until_distances_are_sensible():
    for frame in rattled(quartz_like(), 5, seed=0, amplitudes=(3.0,)):
        assert shortest_ratio(frame) >= SHORTEST


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(CRYSTALS)))
def test_supercells_and_slabs_keep_the_stoichiometry(seed, name):
    atoms = CRYSTALS[name]()
    made = [*supercells(atoms, 2, seed=seed, max_atoms=24), *slabs(atoms, 2, seed=seed, max_atoms=24)]
    for frame in made:
        copies, rest = divmod(len(frame), len(atoms))
        assert rest == 0 and len(frame) <= 24
        assert sorted(frame.numbers) == sorted(list(atoms.numbers) * copies)
    for frame in made[:2]:
        assert frame.get_volume() == pytest.approx(atoms.get_volume() * len(frame) / len(atoms))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_vacancies_lack_one_or_two_atoms(seed):
    atoms = CRYSTALS["salt"]()
    frames = list(vacancies(atoms, 3, seed=seed, max_atoms=30))
    missing = [round(frame.get_volume() / atoms.get_volume() * 2) - len(frame) for frame in frames]
    assert missing == [1, 1, 2]


def test_a_vacancy_in_a_large_cell_needs_no_supercell():
    atoms = bulk("Cu", cubic=True).repeat(3)
    (frame,) = vacancies(atoms, 1, seed=0, max_atoms=20)
    assert len(frame) == len(atoms) - 1 and frame.get_volume() == pytest.approx(atoms.get_volume())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(CRYSTALS)))
def test_slabs_have_vacuum_and_the_spacing_of_their_planes(seed, name):
    atoms = CRYSTALS[name]()
    (slab,) = slabs(atoms, 1, seed=seed, vacuum=12.0, amplitude=1e-6, max_atoms=24)
    thickness = np.ptp(slab.positions[:, 2])
    assert slab.cell.array[2, 2] == pytest.approx(thickness + 12.0, abs=1e-4)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    layers = len(slab) // len(atoms)
    spacing = atoms.get_volume() / area
    assert (layers - 1) * spacing <= thickness + 1e-4 < layers * spacing + 2e-4


def test_slabs_come_in_many_orientations():
    assert len(MILLER) == 49 and (1, 1, 1) in MILLER and (2, 0, 0) not in MILLER  # (5^3 - 1) / 2 less doubled ones
    areas = {round(float(np.linalg.det(s.cell.array[:2, :2])), 3) for s in slabs(quartz_like(), 12, seed=0)}
    assert len(areas) >= 8


def test_families_are_chemical():
    assert relatives(atomic_numbers["Na"]) == {atomic_numbers[s] for s in ("Li", "K", "Rb", "Cs")}
    assert atomic_numbers["Se"] in relatives(atomic_numbers["O"]) and not relatives(1)
    assert {atomic_numbers["Co"], atomic_numbers["Os"]} <= relatives(atomic_numbers["Fe"])
    assert all(z not in relatives(z) for family in FAMILIES for z in family)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_similar_substitution_keeps_the_family_and_the_order_of_elements(seed):
    atoms = CRYSTALS["salt"]()
    for frame in substituted(atoms, 2, seed=seed, similar=1.0, spread=0.0):
        for before, after in zip(atoms.numbers, frame.numbers, strict=True):
            assert after == before or after in relatives(before)
        assert len(set(frame.numbers)) == 2 and sorted(frame.numbers) != sorted(atoms.numbers)
        assert shortest_ratio(frame) == pytest.approx(shortest_ratio(atoms), rel=1e-9)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_substitution_draws_from_the_elements_given(seed):
    elements = [atomic_numbers[symbol] for symbol in ("H", "C", "U", "Cl")]
    for frame in substituted(quartz_like(), 2, seed=seed, elements=elements, similar=0.0):
        assert set(frame.numbers) <= {*elements, *quartz_like().numbers}
        assert set(frame.numbers) & set(elements)
        assert frame.info["material"] == frame.symbols.formula.reduce()[0].format("hill")


def test_rescaled_cell_has_a_known_size():
    """Rock salt: the tightest pair is cation and anion, so the distance goes with the sum of their radii."""
    salt = bulk("NaCl", "rocksalt", a=5.64)
    radius = {symbol: covalent_radii[atomic_numbers[symbol]] for symbol in ("Na", "K", "Cl", "Br")}
    expected = (radius["K"] + radius["Br"]) / (radius["Na"] + radius["Cl"])
    found = distance_factor(salt, np.array([atomic_numbers["K"], atomic_numbers["Br"]]))
    assert found == pytest.approx(expected)
    assert 5.64 * found == pytest.approx(6.60, rel=0.05)  # measured lattice parameter of KBr
    assert distance_factor(Atoms("He"), np.array([10])) == 1.0


def test_material_and_source_of_the_parent_are_taken_over():
    atoms = bulk("Si")
    atoms.info.update(material="mp-149", source="Si.cif #2", other=1)
    frames = list(sample(atoms, WHOLE, seed=0))
    assert {frame.info["parent"] for frame in frames} == {"Si.cif #2"}
    materials = {frame.info["material"] for frame in frames if frame.info["kind"] != "substituted"}
    assert materials == {"mp-149"}
    assert all(set(frame.info) == {"kind", "material", "parent"} for frame in frames)


def test_molecules_are_rattled_and_substituted_and_the_rest_is_refused():
    refused = {}
    water = molecule("H2O")
    frames = list(sample(water, WHOLE, seed=0, on_refused=lambda kind, reason: refused.update({kind: reason})))
    assert {frame.info["kind"] for frame in frames} == {"rattled", "substituted"}
    assert set(refused) == {"strained", "volume", "supercell", "vacancy", "slab"}
    assert all("not periodic along all three axes" in reason for reason in refused.values())
    with pytest.raises(ValueError, match="^strained: .*not periodic"):
        list(sample(water, SamplePlan(strained=1), seed=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SamplePlan(), "no frame was asked for"),
        (lambda: SamplePlan(rattled=-1, slab=1), "negative"),
        (lambda: SamplePlan(rattled=1, max_atoms=0), "max_atoms is 0"),
        (lambda: list(rattled(bulk("Cu"), 1, seed=0, amplitudes=(0.1, -0.2))), "amplitudes are"),
        (lambda: list(strained(bulk("Cu"), 1, seed=0, strains=(0.5,))), "up to 0.3"),
        (lambda: list(volumes(bulk("Cu"), 1, seed=0, smallest=1.2, largest=1.0)), "smallest < largest"),
        (lambda: list(supercells(bulk("Cu", cubic=True), 1, seed=0, max_atoms=7)), "at most 7 atoms"),
        (lambda: list(vacancies(bulk("Cu"), 1, seed=0, max_atoms=3)), "4 to 3 atoms"),
        (lambda: list(slabs(bulk("Cu"), 1, seed=0, vacuum=0.0)), "vacuum is 0.0"),
        (lambda: list(substituted(bulk("Cu"), 1, seed=0, elements=(29,))), "no element can come in"),
        (lambda: list(substituted(bulk("Cu"), 1, seed=0, similar=2.0)), "similar is 2.0"),
        (lambda: list(rattled(bulk("Cu", a=1.5), 1, seed=0)), "atoms 0 and 0 are 1.061 Å apart"),
    ],
)
def test_impossible_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
