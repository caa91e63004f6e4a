"""Mistakes of a file are told from mistakes of a model: sign, unit and order of labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forcefield.data.labels import STRESS_ORDERS, VOIGT, parse_order, to_voigt
from forcefield.train.comparison import Comparison
from forcefield.train.label_doubts import label_doubts
from forcefield.units import GPA, HARTREE, KBAR

FRAMES, ATOMS = 40, 6


def poor_model(*, error: float = 0.3, kinds: int = 1) -> Comparison:
    """Labels, and predictions of a model that is too soft by a fifth and wrong by so much of each label's size."""
    generator = np.random.default_rng(3)

    def pair(shape: tuple[int, ...], size: float) -> tuple[np.ndarray, np.ndarray]:
        labels = size * generator.normal(size=shape)
        return labels, 0.8 * labels + error * size * generator.normal(size=shape)

    return Comparison(
        places=[f"file #{k}" for k in range(FRAMES)],
        kinds=[f"kind {k % kinds}" for k in range(FRAMES)],
        n_atoms=np.full(FRAMES, ATOMS),
        numbers=np.full(FRAMES * ATOMS, 29),
        energy=pair((FRAMES,), 1.0),
        forces=pair((FRAMES * ATOMS, 3), 0.8),
        stress=pair((FRAMES, 6), 2 * GPA),
        atomic_energies=pair((FRAMES * ATOMS,), 1.0),
    )


def with_stress(comparison: Comparison, labels: np.ndarray) -> Comparison:
    return replace(comparison, stress=(labels, comparison.stress[1]))


@pytest.mark.parametrize("error", [0.0, 0.3, 0.5])
def test_a_poor_model_is_no_reason_to_doubt_labels(error):
    assert label_doubts(poor_model(error=error)) == []


@pytest.mark.parametrize("name", ["vasp", "lammps"])
def test_the_order_of_the_stress_is_named_so_that_it_can_be_given(name):
    comparison = poor_model()
    written = comparison.stress[0][:, [VOIGT.index(component) for component in STRESS_ORDERS[name]]]
    (doubt,) = label_doubts(with_stress(comparison, written))
    order = " ".join(STRESS_ORDERS[name])
    assert f"--stress-order '{order}'" in doubt and "kind 0" in doubt
    read = np.array([to_voigt(row, parse_order(order)) for row in written])
    np.testing.assert_array_equal(read, comparison.stress[0])


def test_only_the_kinds_of_frames_that_are_wrong_are_named():
    comparison = poor_model(kinds=2)
    labels = comparison.stress[0].copy()
    wrong = np.array(comparison.kinds) == "kind 1"
    labels[wrong] = labels[wrong][:, [0, 1, 2, 4, 3, 5]]
    (doubt,) = label_doubts(with_stress(comparison, labels))
    assert "xx yy zz xz yz xy" in doubt and "kind 1" in doubt and "kind 0" not in doubt


def test_signs_and_units_are_recognised_together():
    comparison = poor_model()
    (doubt,) = label_doubts(with_stress(comparison, -comparison.stress[0] / KBAR))
    assert "--units stress=-kbar" in doubt
    forces = (comparison.forces[0] / (HARTREE / 0.529177), comparison.forces[1])
    (doubt,) = label_doubts(replace(comparison, forces=forces))
    assert "--units forces=ha/bohr" in doubt
    (doubt,) = label_doubts(replace(comparison, forces=(-comparison.forces[0], comparison.forces[1])))
    assert "--units forces=-eV/Å" in doubt


def test_nothing_is_said_of_few_small_missing_or_unrelated_labels():
    comparison = poor_model()
    turned = with_stress(comparison, -comparison.stress[0])
    assert label_doubts(turned)
    few = replace(turned, kinds=[f"kind {k}" for k in range(FRAMES)])
    assert label_doubts(few) == []
    small = replace(turned, stress=tuple(side / 100 for side in turned.stress))
    assert label_doubts(small) == []
    assert label_doubts(with_stress(comparison, np.full((FRAMES, 6), np.nan))) == []
    generator = np.random.default_rng(0)
    assert label_doubts(with_stress(comparison, generator.normal(size=(FRAMES, 6)))) == []


@pytest.mark.parametrize("text", ["xx yy zz", "xx yy zz yz xz xz", "castep", ""])
def test_unknown_orders_are_refused(text):
    with pytest.raises(ValueError, match="order of the stress is"):
        parse_order(text)
