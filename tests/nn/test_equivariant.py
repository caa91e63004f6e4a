"""Harmonics and couplings against e3nn, and by what defines them: how they turn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import nn

from forcefield.nn.equivariant import (
    SphericalHarmonics,
    clebsch_gordan,
    coupling_paths,
    harmonic_coefficients,
    register_constant,
    tensor_power,
)


def unit_vectors(n=50):
    vectors = torch.randn(n, 3, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def powers(vectors, degree):
    power = vectors
    for _ in range(degree - 1):
        power = tensor_power(power, vectors)
    return power


def wigner_matrix(degree, rotation):
    """D with Y(R v) = D Y(v); e3nn's own is only as precise as PyTorch's default dtype."""
    vectors = unit_vectors(40)
    before, after = (
        o3.spherical_harmonics(degree, v, normalize=False, normalization="component")
        for v in (vectors, vectors @ rotation.T)
    )
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_tensor_power_is_the_outer_product(degree):
    vectors = torch.randn(4, 3, dtype=torch.float64)
    power = powers(vectors, degree)
    assert power.shape == (4, 3**degree)
    for column, axes in enumerate(itertools.product(range(3), repeat=degree)):
        torch.testing.assert_close(power[:, column], vectors[:, list(axes)].prod(dim=1))


def test_spherical_harmonics_against_e3nn():
    vectors = unit_vectors()
    for degree, values in enumerate(SphericalHarmonics(4).double()(vectors)):
        expected = o3.spherical_harmonics(degree, vectors, normalize=False, normalization="component")
        torch.testing.assert_close(values, expected, rtol=0, atol=1e-11)


def test_spherical_harmonics_are_normalised_by_component():
    for degree, values in enumerate(SphericalHarmonics(4).double()(unit_vectors())):
        norm = values.square().sum(dim=1)
        torch.testing.assert_close(norm, torch.full_like(norm, 2 * degree + 1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("degree", [2, 3])
def test_coefficients_make_closed_forms(degree):
    """Written out by hand for one component of each degree: sqrt(15) x z and sqrt(7)/2 y (5 y^2 - 3 r^2)."""
    x, y, z = (vectors := unit_vectors()).unbind(1)
    values = powers(vectors, degree) @ torch.from_numpy(harmonic_coefficients(degree))
    expected, component = {2: (15**0.5 * x * z, 0), 3: (7**0.5 / 2 * y * (5 * y * y - 3), 3)}[degree]
    torch.testing.assert_close(values[:, component], expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("a", "b", "c"), [(0, 0, 0), (1, 1, 0), (1, 1, 2), (2, 1, 1), (2, 2, 2), (3, 2, 1), (2, 1, 3)])
def test_couplings_turn_with_their_inputs(a, b, c):
    """C (D_a (x) D_b) = D_c C for random rotations."""
    coupling = torch.from_numpy(clebsch_gordan(a, b, c))
    rotation = o3.rand_matrix(dtype=torch.float64)
    turn = {degree: wigner_matrix(degree, rotation) for degree in (a, b, c)}
    before = torch.einsum("abc,ax,by->xyc", coupling, turn[a], turn[b])
    after = torch.einsum("xyz,cz->xyc", coupling, turn[c])
    torch.testing.assert_close(before, after, rtol=0, atol=1e-9)
    assert coupling.square().sum() == pytest.approx(2 * c + 1)


def test_couplings_keep_the_variance():
    x, y = torch.randn(2, 200_000, 5, dtype=torch.float64)
    for out in (0, 1, 2):
        coupling = torch.from_numpy(clebsch_gordan(2, 2, out))
        variance = torch.einsum("abc,na,nb->nc", coupling, x, y).square().mean(dim=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), rtol=0.05, atol=0)


def test_vectors_couple_to_scalar_and_cross_products():
    u, v = torch.randn(2, 3, dtype=torch.float64)
    scalar = np.einsum("abc,a,b->c", clebsch_gordan(1, 1, 0), u, v)
    assert abs(scalar[0]) == pytest.approx(abs(float(u @ v)) / 3**0.5)
    cross = np.einsum("abc,a,b->c", clebsch_gordan(1, 1, 1), u, v)
    np.testing.assert_allclose(np.abs(cross), np.abs(np.cross(u, v)) / 2**0.5, atol=1e-12)


def test_coupling_paths_obey_triangle_and_parity():
    degrees = [0, 1, 2]
    assert coupling_paths(degrees, degrees, 0) == [(0, 0), (1, 1), (2, 2)]
    assert coupling_paths(degrees, degrees, 1) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert coupling_paths(degrees, [1], 2) == [(1, 1)]
    assert coupling_paths(degrees, [1], 2, parity=False) == [(1, 1), (2, 1)]
    for out in range(4):
        parity = o3.Irrep(out, (-1) ** out)
        expected = [
            (a, b) for a in degrees for b in degrees if parity in list(o3.Irrep(a, (-1) ** a) * o3.Irrep(b, (-1) ** b))
        ]
        assert coupling_paths(degrees, degrees, out) == expected


def test_constants_are_saved_and_can_be_left_empty():
    module = nn.Module()
    register_constant(module, "numbers", (2,), lambda: np.array([1.0, 2.0]))
    assert module.state_dict()["numbers"].tolist() == [1.0, 2.0]
    empty = nn.Module()
    with torch.device("meta"):
        register_constant(empty, "numbers", (2,), lambda: pytest.fail("computed although it will be loaded"))
    assert empty.numbers.is_meta
    empty.load_state_dict(module.state_dict(), assign=True)
    assert empty.numbers.tolist() == [1.0, 2.0]
