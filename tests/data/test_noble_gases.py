"""Curves of noble gas pairs against measured wells (Tang and Toennies 2003, table II; Ogilvie and Wang 1992)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from forcefield.data.noble_gases import LARGEST_FORCE, LIKE_PAIRS, noble_gas_pairs, pair_potential

WELLS = {  # length (Å), depth (meV)
    (2, 2): (2.97, 0.95),
    (10, 10): (3.09, 3.6),
    (18, 18): (3.76, 12.3),
    (36, 36): (4.01, 17.3),
    (54, 54): (4.37, 24.2),
    (2, 18): (3.48, 2.6),
    (10, 18): (3.49, 5.8),
    (18, 36): (3.88, 14.4),
    (36, 54): (4.18, 20.1),
}
FREE = dict.fromkeys(LIKE_PAIRS, -1.5)


@pytest.mark.parametrize("pair", WELLS)
def test_wells_are_the_measured_ones(pair):
    curve = pair_potential(*pair)
    found = minimize_scalar(curve.energy, bounds=(2, 6), method="bounded")
    length, depth = WELLS[pair]
    assert found.x == pytest.approx(length, rel=0.01) and -1e3 * found.fun == pytest.approx(depth, rel=0.06)


@pytest.mark.parametrize("distance", [1.5, 2.5, 4.0])
def test_slope_is_the_derivative(distance):
    curve = pair_potential(10, 54)
    step = 1e-5
    expected = (curve.energy(distance + step) - curve.energy(distance - step)) / (2 * step)
    assert curve.slope(distance) == pytest.approx(expected, rel=1e-6)


def test_order_of_a_pair_does_not_matter_and_others_are_refused():
    assert pair_potential(2, 36) == pair_potential(36, 2)
    with pytest.raises(ValueError, match=r"number 8; there are curves for \[2, 10, 18, 36, 54\]"):
        pair_potential(2, 8)


def test_frames_have_energies_and_their_derivatives_and_end_at_the_free_atoms():
    frames = list(noble_gas_pairs([1, 2, 18, 86], FREE, cutoff=5.0, count=400))
    assert len(frames) == 3 * 400 and {frame.kind for frame in frames} == {"diatomic"}
    for k in range(0, len(frames), 400):
        one = frames[k : k + 400]
        r = np.array([frame.positions[1, 2] for frame in one])
        energy = np.array([frame.energy for frame in one])
        slope = np.array([frame.forces[0, 2] for frame in one])
        assert r.max() < 5 and abs(slope[0]) <= LARGEST_FORCE and abs(slope[0]) > 0.8 * LARGEST_FORCE
        np.testing.assert_allclose(np.gradient(energy, r)[20:-1], slope[20:-1], rtol=0.02, atol=2e-4)
        assert energy[-1] == pytest.approx(-3.0, abs=1e-6) and energy.min() > -3.02
        assert all((frame.forces[0] == -frame.forces[1]).all() for frame in one)
