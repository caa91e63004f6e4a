"""Structures: conversion, refusals and overlapping atoms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from hypothesis import given, settings
from hypothesis import strategies as st

from forcefield.structures import as_atoms, check_structure, close_contacts, overlap_message


def test_atoms_are_copied_without_calculator():
    original = bulk("Cu", cubic=True)
    original.set_constraint(FixAtoms([0]))
    original.info["label"] = "copper"
    original.calc = EMT()
    copy = as_atoms(original)
    copy.positions += 1.0
    assert copy.calc is None and original.calc is not None
    assert copy.info["label"] == "copper" and len(copy.constraints) == 1
    assert original.positions[0, 0] == 0.0


def test_pymatgen_structure_and_molecule():
    core = pytest.importorskip("pymatgen.core")
    crystal = core.Structure(core.Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    atoms = as_atoms(crystal)
    assert type(atoms) is Atoms and atoms.calc is None and atoms.pbc.all()
    assert atoms.get_chemical_formula() == "ClNa"
    np.testing.assert_allclose(atoms.positions[1], [2.82] * 3)
    water = as_atoms(core.Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]]))
    assert type(water) is Atoms and not water.pbc.any() and len(water) == 3


def test_disordered_pymatgen_structure_is_refused():
    core = pytest.importorskip("pymatgen.core")
    alloy = core.Structure(core.Lattice.cubic(3.7), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partially occupied"):
        as_atoms(alloy)


@pytest.mark.parametrize("thing", ["POSCAR", None, {"cell": 1}, np.zeros((3, 3))])
def test_other_types_are_refused(thing):
    with pytest.raises(TypeError, match="ase.Atoms or a pymatgen"):
        as_atoms(thing)


def test_good_structures_pass():
    skewed = Atoms("Si", cell=[[4, 0, 0], [3.98, 0.35, 0], [0, 0, 5]], pbc=True)
    left_handed = Atoms("Si", cell=[[0, 4, 0], [4, 0, 0], [0, 0, 4]], pbc=True)
    slab = fcc111("Al", (1, 1, 2))  # periodic along a, b; no third vector
    for atoms in (bulk("Cu"), molecule("CH4"), slab, skewed, left_handed, Atoms("H")):
        check_structure(atoms)
    check_structure(molecule("H2O"), ["H", "O"])
    check_structure(molecule("H2O"), [1, 8, 26])


def with_cell(cell, pbc=True):
    return Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 1.5]], cell=cell, pbc=pbc)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (Atoms("CuAu", positions=[[0, 0, 0], [np.nan, 0, 0]]), "not finite.*1 Au"),
        (Atoms("CuAu", positions=[[0, 0, np.inf], [2, 0, 0]]), "not finite.*0 Cu"),
        (with_cell([[np.nan, 0, 0], [0, 3, 0], [0, 0, 3]]), "cell holds NaN"),
        (with_cell(None), "periodic along a.*length of 0"),
        (with_cell([3, 3, 0]), "periodic along c.*pbc = False"),
        (with_cell([3, 0, 0], [True, True, False]), "periodic along b"),
        (with_cell([[3, 0, 0], [6, 0, 0], [0, 0, 3]]), "linearly dependent"),
        (with_cell([[3, 0, 0], [0, 3, 0], [3, 3, 0]]), "linearly dependent"),
        (with_cell([[3, 0, 0], [-3, 0, 0], [0, 0, 3]], [True, True, False]), "a, b are linearly dependent"),
        (Atoms("X"), "Unknown to the model: X"),
    ],
)
def test_bad_structures_are_refused(atoms, message):
    with pytest.raises(ValueError, match=message):
        check_structure(atoms)


def test_unknown_elements_are_named_with_what_is_known():
    with pytest.raises(ValueError, match=r"Unknown to the model: Cl, Pu\. It knows H O Na"):
        check_structure(Atoms("NaClPu"), ["Na", "O", "H"])


def brute_force_contacts(atoms, factor, reach):
    """All pairs i <= j with their shortest distance over the images within `reach` cells."""
    found = {}
    spans = [range(-reach, reach + 1) if periodic else (0,) for periodic in atoms.pbc]
    shifts = np.array(list(itertools.product(*spans)))  # (images, 3)
    for i, j in itertools.combinations_with_replacement(range(len(atoms)), 2):
        vectors = atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell.array
        distances = np.linalg.norm(vectors, axis=1)[(i != j) | shifts.any(axis=1)]
        limit = factor * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
        if distances.min(initial=np.inf) < limit:
            found[i, j] = distances.min()
    return found


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), pbc=st.tuples(*[st.booleans()] * 3))
def test_contacts_equal_brute_force(seed, pbc):
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(1.5, 4.0, 3)) + random.uniform(-0.6, 0.6, (3, 3))
    positions = random.uniform(-0.5, 1.5, (4, 3)) @ cell
    atoms = Atoms(random.choice(["H", "O", "Cs"], 4), positions=positions, cell=cell, pbc=pbc)
    before = atoms.copy()
    contacts = close_contacts(atoms, factor=0.6)
    expected = brute_force_contacts(atoms, 0.6, reach=6)
    assert {(c.i, c.j) for c in contacts} == set(expected)
    for contact in contacts:
        assert contact.distance == pytest.approx(expected[contact.i, contact.j], abs=1e-10)
    assert atoms == before


def test_worst_contact_comes_first():
    chain = Atoms("H3", positions=[[0, 0, 0], [0, 0, 0.25], [0, 0, 0.35]])
    contacts = close_contacts(chain)
    assert (contacts[0].i, contacts[0].j) == (1, 2)
    assert contacts[0].distance == pytest.approx(0.1) and contacts[0].limit == pytest.approx(0.31)


def test_real_structures_have_no_contacts():
    for atoms in (
        bulk("Cu"),
        bulk("NaCl", "rocksalt", a=5.64),
        molecule("H2"),
        molecule("C6H6"),
        fcc111("Al", (2, 2, 3)),
    ):
        assert close_contacts(atoms) == []


def test_coincident_atoms_and_self_images():
    twice = Atoms("Cu2", positions=np.zeros((2, 3)))
    assert close_contacts(twice)[0].distance == 0.0
    tight = Atoms("Cu", cell=[1.0, 5.0, 5.0], pbc=True)
    (contact,) = close_contacts(tight)
    assert (contact.i, contact.j, contact.distance) == (0, 0, pytest.approx(1.0))


def test_slab_and_wire_ignore_their_free_axes():
    slab = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[3, 3, 0.5], pbc=[True, True, False])
    assert close_contacts(slab) == []
    wire = Atoms("Cu", cell=[0.5, 0.5, 3], pbc=[False, False, True])
    assert close_contacts(wire) == []
    across = Atoms("Cu2", positions=[[0.1, 0, 0], [2.9, 0, 0]], cell=[3, 0, 0], pbc=[True, False, False])
    assert close_contacts(across)[0].distance == pytest.approx(0.2)


@pytest.mark.parametrize("distance", [1e3, 1e5, 1e8])
def test_atoms_far_apart_take_no_time(distance):
    far = Atoms("H3", positions=[[0, 0, 0], [0, 0, 0.2], [distance] * 3])
    (contact,) = close_contacts(far)
    assert (contact.i, contact.j, contact.distance) == (0, 1, pytest.approx(0.2))
    slab = Atoms("H3", positions=[[0, 0, 0], [2.9, 0, 0], [0, 0, distance]], cell=[3, 3, 0], pbc=[True, True, False])
    assert [(c.i, c.j) for c in close_contacts(slab)] == [(0, 1)]


def test_factor_must_be_positive():
    with pytest.raises(ValueError, match="factor is 0"):
        close_contacts(bulk("Cu"), factor=0)


def test_message_names_the_first_five():
    line = Atoms("Cu8", positions=[[0, 0, 0.9 * k] for k in range(8)])
    contacts = close_contacts(line)
    assert len(contacts) == 7
    message = overlap_message(line, contacts)
    assert message.startswith("7 pairs of atoms overlap: 0 Cu - 1 Cu: 0.900 Å")
    assert message.endswith("and 2 more.") and message.count("Cu - ") == 5
    assert overlap_message(line, []) == ""
    assert "periodic image" in overlap_message(line, close_contacts(Atoms("Cu", cell=[1, 9, 9], pbc=True)))
