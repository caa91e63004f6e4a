"""Radial functions against their closed forms and the smoothness that they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import spherical_jn

from forcefield.nn.radial import BesselBasis, WarpedBesselBasis, smooth_cutoff, switched_cutoff

CUTOFF = 4.5


def derivatives_at(function, point, order):
    """Value and derivatives up to an order by automatic differentiation."""
    x = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    values = [function(x)]
    for _ in range(order):
        values.append(torch.autograd.grad(values[-1], x, create_graph=True)[0])
    return [float(value.detach()) for value in values]


@pytest.mark.parametrize("exponent", [2, 5, 6, 8])
def test_smooth_cutoff_against_its_defining_conditions(exponent):
    """The one polynomial 1 + a x^p + b x^(p+1) + c x^(p+2) that vanishes with two derivatives at x = 1."""
    p = exponent
    powers = np.array([p, p + 1, p + 2])
    conditions = np.array([np.ones(3), powers, powers * (powers - 1)])
    coefficients = np.linalg.solve(conditions, [-1.0, 0.0, 0.0])
    x = np.linspace(0.0, 0.999, 50)
    expected = 1 + sum(c * x**n for c, n in zip(coefficients, powers, strict=True))
    found = smooth_cutoff(torch.from_numpy(x * CUTOFF), CUTOFF, exponent).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_smooth_cutoff_and_two_derivatives_vanish_at_the_cutoff():
    just_inside = derivatives_at(lambda r: smooth_cutoff(r, CUTOFF), CUTOFF * (1 - 1e-9), 3)
    np.testing.assert_allclose(just_inside[:3], 0.0, atol=1e-6)
    assert abs(just_inside[3]) > 1.0  # the third is the first that does not
    assert derivatives_at(lambda r: smooth_cutoff(r, CUTOFF), 0.0, 2) == [1.0, 0.0, 0.0]


def test_smooth_cutoff_is_zero_beyond_and_monotonic_within():
    r = torch.linspace(0, 2 * CUTOFF, 401, dtype=torch.float64)
    values = smooth_cutoff(r, CUTOFF)
    assert not values[r >= CUTOFF].any()
    assert torch.all(values[r < CUTOFF].diff() <= 0)
    assert derivatives_at(lambda x: smooth_cutoff(x, CUTOFF), 1.5 * CUTOFF, 2) == [0.0, 0.0, 0.0]


def test_smooth_cutoff_with_one_radius_for_each_pair():
    r = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    radii = torch.tensor([2.0, 5.0, 2.5], dtype=torch.float64)
    expected = [float(smooth_cutoff(a, float(b))) for a, b in zip(r, radii, strict=True)]
    assert smooth_cutoff(r, radii).tolist() == expected


def test_switched_cutoff_against_its_defining_conditions():
    """The cubic in r^2 that is 1 at the onset and 0 at the cutoff, with no slope at either."""
    onset = 3.0
    x = np.array([onset**2, CUTOFF**2])
    rows = [[1, a, a**2, a**3] for a in x] + [[0, 1, 2 * a, 3 * a**2] for a in x]
    coefficients = np.linalg.solve(rows, [1.0, 0.0, 0.0, 0.0])
    r = np.linspace(onset, CUTOFF, 50)
    expected = sum(c * r ** (2 * n) for n, c in enumerate(coefficients))
    np.testing.assert_allclose(switched_cutoff(torch.from_numpy(r), CUTOFF, onset).numpy(), expected, atol=1e-9)
    outside = torch.tensor([0.0, 1.0, onset, CUTOFF, CUTOFF + 1], dtype=torch.float64)
    assert switched_cutoff(outside, CUTOFF, onset).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    for r in (0.5 * onset, 2 * CUTOFF):
        assert derivatives_at(lambda r: switched_cutoff(r, CUTOFF, onset), r, 1)[1] == 0.0


def test_bessel_functions_with_the_switched_cutoff_and_trained_waves():
    r = torch.linspace(0.3, 1.2 * CUTOFF, 40, dtype=torch.float64)
    plain, other = BesselBasis(CUTOFF, 4), BesselBasis(CUTOFF, 4, onset=3.0, trained=True).double()
    expected = plain(r) * (switched_cutoff(r, CUTOFF, 3.0) / smooth_cutoff(r, CUTOFF).clamp(min=1e-300))[:, None]
    inside = r < 0.99 * CUTOFF
    np.testing.assert_allclose(other(r)[inside].detach(), expected[inside], atol=1e-6)  # waves start in float32
    assert not other(r)[r >= CUTOFF].any()
    assert list(plain.state_dict()) == [] and [name for name, _ in other.named_parameters()] == ["waves"]
    with pytest.raises(ValueError, match="must begin between 0 and the cutoff of 4.5"):
        BesselBasis(CUTOFF, 4, onset=5.0)


def test_bessel_functions_are_spherical_bessel_times_the_envelope():
    """B_n = sqrt(2) n pi j_0(n pi x) u(x), with scipy's j_0."""
    basis = BesselBasis(CUTOFF, 7)
    r = np.linspace(0.05, 1.2 * CUTOFF, 60)
    found = basis(torch.from_numpy(r)).numpy()
    envelope = smooth_cutoff(torch.from_numpy(r), CUTOFF).numpy()
    for n in range(1, 8):
        expected = np.sqrt(2) * n * np.pi * spherical_jn(0, n * np.pi * r / CUTOFF) * envelope
        np.testing.assert_allclose(found[:, n - 1], expected, atol=1e-11)


def test_bessel_functions_without_the_envelope_are_orthonormal():
    x = (np.arange(20000) + 0.5) / 20000
    r = torch.from_numpy(x * CUTOFF)
    waves = (BesselBasis(CUTOFF, 5)(r) / smooth_cutoff(r, CUTOFF)[:, None]).numpy()
    overlap = np.einsum("rn,rm,r->nm", waves, waves, x**2) / len(x)
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-5)


@pytest.mark.parametrize("n", range(6))
def test_bessel_basis_and_two_derivatives_vanish_at_the_cutoff(n):
    basis = BesselBasis(CUTOFF, 6)
    inside = derivatives_at(lambda r: basis(r)[n], CUTOFF * (1 - 1e-7), 2)
    np.testing.assert_allclose(inside, 0.0, atol=1e-4)
    assert derivatives_at(lambda r: basis(r)[n], CUTOFF * 1.3, 2) == [0.0, 0.0, 0.0]


def test_bessel_basis_keeps_shape_and_dtype():
    basis = BesselBasis(CUTOFF, 4)
    assert basis(torch.ones(3, 2)).shape == (3, 2, 4)
    assert basis(torch.ones(2)).dtype == torch.float32
    assert basis(torch.ones(0)).shape == (0, 4)


def warped(distance, reach, n_functions=4):
    basis = WarpedBesselBasis([1, 6, 55], CUTOFF, n_functions)
    return basis(distance, torch.full_like(distance, reach))


def test_warped_basis_of_a_huge_pair_is_spherical_bessel_in_the_squared_distance():
    """For R much larger than the cutoff the coordinate is (r / r_c)^2."""
    r = torch.linspace(0.3, CUTOFF * 0.999, 40, dtype=torch.float64)
    x = (r.numpy() / CUTOFF) ** 2
    n = np.arange(1, 5)
    expected = np.sqrt(2) * n * np.pi * spherical_jn(0, np.pi * np.outer(x, n))
    expected *= smooth_cutoff(r, CUTOFF).numpy()[:, None]
    np.testing.assert_allclose(warped(r, 1e6).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("reach", [0.6, 2.5, 5.0])
def test_warped_basis_and_two_derivatives_vanish_at_the_cutoff(reach):
    for k in range(4):
        just_inside = derivatives_at(lambda r, k=k: warped(r, reach)[k], CUTOFF * (1 - 1e-7), 2)
        np.testing.assert_allclose(just_inside, 0.0, atol=1e-3)
        assert float(warped(torch.tensor(2 * CUTOFF), reach)[k]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("reach", [1.2, 2.0, 3.0])
def test_warped_coordinate_is_steepest_near_six_tenths_of_the_reach(reach):
    """sin(n pi xi) of the last function has its zeros packed where the coordinate is steep."""
    basis = WarpedBesselBasis([1], CUTOFF, 1)
    r = torch.linspace(0.2, CUTOFF * 0.9, 4000, dtype=torch.float64, requires_grad=True)
    ratio = basis(r, torch.full_like(r, reach))[:, 0] / smooth_cutoff(r, CUTOFF) / np.sqrt(2)
    xi = (r.detach() ** 2 * (reach**2 + CUTOFF**2) / ((reach**2 + r.detach() ** 2) * CUTOFF**2)).numpy()
    np.testing.assert_allclose(ratio.detach().numpy(), np.sin(np.pi * xi) / xi, atol=1e-12)
    steepest = r.detach().numpy()[np.gradient(xi, r.detach().numpy()).argmax()]
    assert steepest == pytest.approx(reach / np.sqrt(3), rel=0.01)


def test_warped_radii_are_those_of_the_elements():
    basis = WarpedBesselBasis([1, 6, 55], CUTOFF, 3)
    assert basis.radii(torch.tensor([2, 0, 1])).tolist() == [2.44, 0.31, 0.76]  # Cordero et al. 2008, table 2
