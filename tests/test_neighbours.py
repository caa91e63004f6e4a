"""The neighbour search against a brute-force reference, and the Verlet list against the search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from forcefield.neighbours import Edges, SkinList, completed_cell, find_edges

TIE = 1e-9  # Å; a pair this close to the cutoff may fall on either side
MASKS = list(itertools.product([False, True], repeat=3))


def reference_edges(positions, cell, pbc, cutoff):
    """All pairs by going through every lattice translation that can bring two atoms within the cutoff.

    The number of translations follows from the rows of the pseudo-inverse of the periodic vectors: a translation s
    along an axis moves an atom by at least |s| / |dual vector| along that dual vector.
    """
    vectors = cell[pbc]  # (periodic axes, 3)
    dual = np.linalg.pinv(vectors).T if len(vectors) else np.zeros((0, 3))
    found = set()
    for i, j in itertools.product(range(len(positions)), repeat=2):
        apart = positions[j] - positions[i]
        ranges = []
        for axis in dual:
            centre, spread = -apart @ axis, cutoff * np.linalg.norm(axis)
            ranges.append(np.arange(np.floor(centre - spread), np.ceil(centre + spread) + 1))
        translations = np.array(list(itertools.product(*ranges)), dtype=float)  # (translations, periodic axes)
        distances = np.linalg.norm(apart + translations @ vectors, axis=1)
        for translation in translations[distances < cutoff]:
            shift = np.zeros(3, dtype=int)
            shift[pbc] = translation
            if i != j or shift.any():
                found.add((i, j, *shift.tolist()))
    return found


def as_set(edges):
    return set(zip(edges.centre.tolist(), edges.neighbour.tolist(), *edges.shift.T.tolist(), strict=True))


def distances(edges, positions, cell):
    vectors = positions[edges.neighbour] + edges.shift @ cell - positions[edges.centre]
    return np.linalg.norm(vectors, axis=1)


def assert_edges(positions, cell, pbc, cutoff):
    """Compare with the reference, leaving out pairs at the cutoff to rounding; check order, shape and duplicates."""
    copies = positions.copy(), cell.copy(), pbc.copy()
    edges = find_edges(positions, cell, pbc, cutoff)
    for given_array, copied in zip((positions, cell, pbc), copies, strict=True):
        np.testing.assert_array_equal(given_array, copied)
    found = as_set(edges)
    assert len(found) == len(edges.centre), "an edge is there twice"
    assert np.all(np.diff(edges.centre) >= 0)
    assert edges.shift.shape == (len(edges.centre), 3)
    assert not edges.shift[:, ~pbc].any()
    assert found >= reference_edges(positions, cell, pbc, cutoff - TIE)
    assert found <= reference_edges(positions, cell, pbc, cutoff + TIE)
    return edges


def cell_from_angles(lengths, angles):
    """Rows a along x, b in the xy plane, as crystallographers have it (degrees); None where no such cell exists."""
    alpha, beta, gamma = np.deg2rad(angles)
    x = np.cos(beta)
    y = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    square = 1 - x * x - y * y
    if square < 1e-3:
        return None
    rows = np.array([[1, 0, 0], [np.cos(gamma), np.sin(gamma), 0], [x, y, np.sqrt(square)]])
    return rows * np.array(lengths)[:, None]


@st.composite
def cells(draw, shortest=1.8, longest=7.0, *, extreme=True):
    """Cells with angles of 5 to 170 degrees (50 to 120 if not extreme), turned anywhere, of either handedness."""
    lengths = draw(st.tuples(*[st.floats(shortest, longest)] * 3))
    if not extreme or draw(st.booleans()):
        angles = st.floats(5.0, 170.0) if extreme else st.floats(50.0, 120.0)
        cell = cell_from_angles(lengths, draw(st.tuples(angles, angles, angles)))
        assume(cell is not None)
    else:  # one angle as extreme as it gets
        cell = cell_from_angles(lengths, (90.0, 90.0, draw(st.one_of(st.floats(5.0, 20.0), st.floats(150.0, 170.0)))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return (cell @ turn)[draw(st.permutations([0, 1, 2]))]


@st.composite
def structures(draw, largest=5, shortest=1.8, extreme=True):
    """Positions, cell and periodic axes; atoms may lie far outside the cell, and cells along free axes may be zero."""
    cell = draw(cells(shortest, extreme=extreme))
    pbc = np.array(draw(st.sampled_from(MASKS)))
    if draw(st.booleans()):
        cell[~pbc] = 0.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1.0, 4.0, 60.0] if extreme else [1.0, 4.0, 15.0]))
    positions = rng.normal(scale=spread, size=(draw(st.integers(1, largest)), 3))
    return positions, cell, pbc


@given(structures(), st.floats(0.8, 5.0))
@settings(max_examples=100)
def test_edges_equal_brute_force(structure, cutoff):
    positions, cell, pbc = structure
    assert_edges(positions, cell, pbc, cutoff)


@pytest.mark.parametrize("pbc", MASKS)
@pytest.mark.parametrize("handed", [1, -1])
def test_every_periodicity_and_handedness(pbc, handed):
    rng = np.random.default_rng(0)
    cell = np.array([[3.1, 0.2, -0.4], [1.4, 2.9, 0.3], [-0.7, 1.1, 3.3]])[:: 1 if handed == 1 else -1]
    assert np.sign(np.linalg.det(cell)) == handed
    assert_edges(rng.uniform(-20, 20, size=(6, 3)), cell.copy(), np.array(pbc), 4.5)


@pytest.mark.parametrize("angle", [5.0, 12.0, 60.0, 120.0, 165.0, 170.0])
@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, True)])
def test_skewed_cells(angle, pbc):
    cell = cell_from_angles((4.0, 5.0, 3.0), (90.0, 88.0, angle))
    positions = np.random.default_rng(1).uniform(-5, 5, size=(3, 3))
    assert_edges(positions, cell, np.array(pbc), 4.0)


def test_long_thin_cell_vectors_of_the_same_lattice():
    lattice = np.diag([3.0, 3.5, 4.0])
    transform = np.array([[1, 0, 0], [40, 1, 0], [-25, 13, 1]])
    positions = np.random.default_rng(2).uniform(0, 3, size=(2, 3))
    plain = find_edges(positions, lattice, np.ones(3, bool), 5.0)
    skewed = find_edges(positions, transform @ lattice, np.ones(3, bool), 5.0)
    assert {(i, j, *(np.array(s) @ transform)) for i, j, *s in as_set(skewed)} == as_set(plain)


def test_one_atom_cell_has_all_its_self_images():
    cell = 1.5 * (np.ones((3, 3)) - np.eye(3))  # face-centred cubic, nearest neighbours at 1.5 sqrt(2)
    edges = assert_edges(np.zeros((1, 3)), cell, np.ones(3, bool), 6.0)
    shells = np.bincount(np.rint((distances(edges, np.zeros((1, 3)), cell) / 1.5) ** 2).astype(int))
    assert [int(shells[n]) for n in (2, 4, 6, 8, 10, 12, 14)] == [12, 6, 24, 12, 24, 8, 48]


def test_isolated_atoms_have_no_edges():
    positions = np.array([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, -3000.0, 0.0]])
    assert len(find_edges(positions, np.zeros((3, 3)), np.zeros(3, bool), 6.0).centre) == 0
    assert len(find_edges(positions[:1], 20 * np.eye(3), np.ones(3, bool), 6.0).centre) == 0


def test_no_atoms():
    edges = find_edges(np.zeros((0, 3)), np.eye(3), np.ones(3, bool), 5.0)
    assert [array.shape for array in edges] == [(0,), (0,), (0, 3)]


def test_molecule_without_cell_or_with_coincident_free_vectors():
    positions = np.array([[100.0, 0.0, 0.0], [101.0, 0.0, 0.0], [100.0, 1.2, 0.0]])
    expected = {(0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (0, 2, 0, 0, 0), (2, 0, 0, 0, 0)}
    for cell in (np.zeros((3, 3)), np.ones((3, 3)), 0.3 * np.eye(3)):
        assert as_set(assert_edges(positions, cell, np.zeros(3, bool), 1.5)) == expected


def test_vector_of_a_free_axis_does_not_matter():
    rng = np.random.default_rng(3)
    positions = rng.uniform(-3, 3, size=(4, 3))
    cell = np.array([[3.0, 0.1, 0.0], [0.4, 0.0, 3.3], [0.0, 0.0, 0.0]])
    pbc = np.array([True, True, False])
    without = as_set(assert_edges(positions, cell, pbc, 4.0))
    for vector in ([3.0, 0.1, 0.0], [0.0, 9.0, 0.0], [3.4, 0.1, 3.3], [0.0, 1e-9, 0.0]):
        assert as_set(find_edges(positions, np.array([*cell[:2], vector]), pbc, 4.0)) == without


@pytest.mark.parametrize("offset", [-1e-17, -1e-15, 0.0, 1e-15, 1.0 - 1e-16])
def test_atoms_on_the_faces_of_the_cell(offset):
    cell = 3.0 * np.eye(3)
    positions = np.array([[offset, 0.0, 0.0], [1.5, 1.5 + offset, 3.0 * offset]]) @ cell
    assert_edges(positions, cell, np.ones(3, bool), 3.5)


@pytest.mark.parametrize("offset", [1e-4, 1e-6, 1e-9])
def test_nearly_dependent_vectors_are_refused(offset):
    cell = np.array([[3.0, 0.0, 0.0], [3.0 * np.sqrt(2), offset, 0.0], [0.0, 0.0, 3.0]])
    with pytest.raises(ValueError, match="linearly dependent"):
        find_edges(np.zeros((1, 3)), cell, np.ones(3, bool), 1.0)
    assert_edges(np.zeros((1, 3)), cell, np.array([True, False, True]), 4.0)


@given(cells(), st.sampled_from(MASKS))
def test_completed_cell_keeps_periodic_vectors(cell, pbc):
    pbc = np.array(pbc)
    complete = completed_cell(cell, pbc)
    assert_allclose(complete[pbc], cell[pbc])
    free = complete[~pbc]
    assert_allclose(free @ free.T, np.eye(len(free)), atol=1e-12)
    assert_allclose(free @ complete[pbc].T, 0.0, atol=1e-9)


# --- the Verlet list -----------------------------------------------------------------------------------------------


def keys(edges):
    """One sorted integer for each edge."""
    assert np.abs(edges.shift).max(initial=0) < 50_000 and edges.centre.max(initial=0) < 10
    columns = np.column_stack([edges.centre, edges.neighbour, edges.shift + 50_000])
    return np.sort(columns @ np.array([1, 10, 10**2, 10**7, 10**12]))


def within(edges, positions, cell, cutoff):
    """The edges that are shorter than the cutoff in the present structure."""
    keep = distances(edges, positions, cell) < cutoff
    return keys(Edges(*(array[keep] for array in edges)))


def assert_complete(skin_list, positions, cell, pbc):
    """Every pair of a fresh search is in the list, and nothing within the cutoff that is not a pair."""
    cutoff = skin_list.cutoff
    edges = skin_list.edges(positions, cell, pbc)
    assert np.all(np.diff(edges.centre) >= 0)
    assert not edges.shift[:, ~pbc].any()
    fresh = find_edges(positions, cell, pbc, cutoff)
    np.testing.assert_array_equal(
        within(edges, positions, cell, cutoff - TIE), within(fresh, positions, cell, cutoff - TIE)
    )
    assert np.all(np.diff(keys(edges)) > 0), "an edge is there twice"


CRYSTAL = np.array([[3.2, 0.0, 0.3], [0.9, 3.4, 0.0], [-0.4, 1.0, 3.1]])


def crystal(n_atoms=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 1, size=(n_atoms, 3)) @ CRYSTAL, CRYSTAL.copy(), np.ones(3, bool)


@given(
    structures(largest=4, shortest=3.0, extreme=False),
    st.floats(0.1, 2.0),
    st.lists(
        st.tuples(
            st.floats(0.0, 0.6),  # displacement
            st.floats(0.0, 0.12),  # strain
            st.booleans(),  # wrap by random lattice vectors
            st.integers(0, 2**32 - 1),
        ),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=40)
def test_skin_list_never_misses_a_pair(structure, skin, moves):
    positions, cell, pbc = structure
    skin_list = SkinList(3.0, skin)
    assert_complete(skin_list, positions, cell, pbc)
    for displacement, strain, wrap, seed in moves:
        rng = np.random.default_rng(seed)
        deformation = np.eye(3) + strain * rng.uniform(-1, 1, size=(3, 3))
        cell, positions = cell @ deformation, positions @ deformation
        direction = rng.normal(size=positions.shape)
        positions = positions + displacement * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        if wrap:
            positions = positions + (rng.integers(-2, 3, size=positions.shape) * pbc) @ cell
        assert_complete(skin_list, positions, cell, pbc)


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 2.0))
@settings(max_examples=40)
def test_skin_list_survives_the_motion_that_it_promises(seed, skin):
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, skin)
    skin_list.edges(positions, cell, pbc)
    direction = np.random.default_rng(seed).normal(size=positions.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    assert_complete(skin_list, positions + 0.49 * skin * direction, cell, pbc)
    assert skin_list.builds == 1
    assert_complete(skin_list, positions + 0.8 * skin * direction, cell, pbc)
    assert skin_list.builds == 2


@example(0)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_wrapping_is_no_motion(seed):
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, 0.5)
    skin_list.edges(positions, cell, pbc)
    shift = np.random.default_rng(seed).integers(-5, 6, size=positions.shape)
    assert_complete(skin_list, positions + shift @ cell, cell, pbc)
    assert_complete(skin_list, positions, cell, pbc)
    assert (skin_list.builds, skin_list.calls) == (1, 3)


def test_small_strain_keeps_the_list_and_large_strain_rebuilds_it():
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, 0.5)
    skin_list.edges(positions, cell, pbc)
    for scale, builds in ((1.05, 1), (0.95, 1), (0.88, 2)):
        assert_complete(skin_list, positions * scale, cell * scale, pbc)
        assert skin_list.builds == builds
    shear = np.eye(3)
    shear[0, 1] = 0.5
    assert_complete(skin_list, positions * 0.88 @ shear, cell * 0.88 @ shear, pbc)
    assert skin_list.builds == 3


def test_cell_that_moves_under_resting_atoms():
    positions, cell, pbc = crystal(n_atoms=8)
    skin_list = SkinList(4.0, 1.0)
    for step in range(12):
        assert_complete(skin_list, positions, cell * (1 - 0.02 * step), pbc)
    assert 1 < skin_list.builds < 12


@pytest.mark.parametrize("pbc", [(False, True, True), (False, False, False)])
def test_change_of_periodicity_rebuilds(pbc):
    positions, cell, periodic = crystal()
    skin_list = SkinList(4.0, 1.0)
    assert_complete(skin_list, positions, cell, periodic)
    assert_complete(skin_list, positions, cell, np.array(pbc))
    assert skin_list.builds == 2


def test_change_of_the_number_of_atoms_rebuilds():
    positions, cell, pbc = crystal(n_atoms=5)
    skin_list = SkinList(4.0, 1.0)
    for size in (5, 3, 0, 4):
        assert_complete(skin_list, positions[:size], cell, pbc)
    assert skin_list.builds == 4


def test_arrays_changed_in_place_are_noticed():
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, 0.4)
    skin_list.edges(positions, cell, pbc)
    positions[0] += 0.5
    assert_complete(skin_list, positions, cell, pbc)
    cell *= 0.8
    assert_complete(skin_list, positions, cell, pbc)
    pbc[1] = False
    assert_complete(skin_list, positions, cell, pbc)
    assert skin_list.builds == 4


def test_turning_a_crystal_is_no_motion():
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, 0.3)
    skin_list.edges(positions, cell, pbc)
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    assert_complete(skin_list, positions @ turn, cell @ turn, pbc)
    assert skin_list.builds == 1


def test_zero_skin_always_builds():
    positions, cell, pbc = crystal()
    skin_list = SkinList(4.0, 0.0)
    for _ in range(3):
        assert_complete(skin_list, positions, cell, pbc)
    assert (skin_list.builds, skin_list.calls) == (3, 3)


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, False), (True, True, False)])
def test_free_cell_vectors_do_not_count_as_strain(pbc):
    positions, cell, _ = crystal()
    pbc = np.array(pbc)
    skin_list = SkinList(3.0, 0.5)
    skin_list.edges(positions, cell, pbc)
    changed = cell.copy()
    changed[~pbc] = 0.0
    assert_complete(skin_list, positions + 0.1, changed, pbc)
    assert skin_list.builds == 1
