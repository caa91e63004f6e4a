"""The channel-wise product against a slow loop over paths, and under rotation."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from forcefield.nn.equivariant import clebsch_gordan
from forcefield.nn.products import ChannelProduct


def slow_path(x, y, path, out):
    """One path with the whole Clebsch-Gordan tensor."""
    a, b = path
    coupling = torch.from_numpy(clebsch_gordan(a, b, out))
    return torch.einsum("abm,anc,bnc->mnc", coupling, x[a * a : (a + 1) ** 2], y[b * b : (b + 1) ** 2])


@pytest.mark.parametrize("lmax", [1, 2, 3])
@pytest.mark.parametrize("symmetric", [False, True])
def test_against_slow_paths(lmax, symmetric):
    product = ChannelProduct(lmax, [0, 1], symmetric=symmetric).double()
    x = torch.randn((lmax + 1) ** 2, 4, 3, dtype=torch.float64)
    y = x if symmetric else torch.randn_like(x)
    found = product(x, y)
    for out in (0, 1):
        for path, value in zip(product.paths[out], found[out], strict=True):
            torch.testing.assert_close(value, slow_path(x, y, path, out), rtol=0, atol=1e-10)


def test_symmetric_paths_leave_nothing_out():
    """The paths dropped for equal inputs are the kept ones again, up to sign."""
    x = torch.randn(9, 3, 2, dtype=torch.float64)
    full, half = ChannelProduct(2, [0, 1, 2]).double(), ChannelProduct(2, [0, 1, 2], symmetric=True).double()
    everything, kept = full(x, x), half(x, x)
    for out in (0, 1, 2):
        assert len(kept[out]) < len(everything[out]) or out == 0
        for (a, b), value in zip(full.paths[out], everything[out], strict=True):
            mate = kept[out][half.paths[out].index((min(a, b), max(a, b)))]
            torch.testing.assert_close(value.abs(), mate.abs(), rtol=0, atol=1e-10)


def wigner_matrix(degree, matrix):
    """D with Y(R v) = D Y(v); e3nn's own is only as precise as PyTorch's default dtype."""
    vectors = torch.randn(40, 3, dtype=torch.float64)
    before, after = (
        o3.spherical_harmonics(degree, v, normalize=True, normalization="component")
        for v in (vectors, vectors @ matrix.T)
    )
    return torch.linalg.lstsq(before, after).solution.T


def test_products_turn_with_their_inputs():
    product = ChannelProduct(2, [0, 1, 2]).double()
    x, y = torch.randn(2, 9, 5, 4, dtype=torch.float64)
    for matrix in (o3.rand_matrix(dtype=torch.float64), -torch.eye(3, dtype=torch.float64)):
        turn = torch.block_diag(*[wigner_matrix(degree, matrix) for degree in (0, 1, 2)])
        turned = product(torch.einsum("ij,jnc->inc", turn, x), torch.einsum("ij,jnc->inc", turn, y))
        plain = product(x, y)
        for out in (0, 1, 2):
            own = wigner_matrix(out, matrix)
            for value, before in zip(turned[out], plain[out], strict=True):
                torch.testing.assert_close(value, torch.einsum("ij,jnc->inc", own, before), rtol=0, atol=1e-10)


def test_no_atoms():
    found = ChannelProduct(2, [0, 1]).float()(torch.zeros(9, 0, 4), torch.zeros(9, 0, 4))
    assert [part.shape for part in found[0]] == [(1, 0, 4)] * 3
    assert [part.shape for part in found[1]] == [(3, 0, 4)] * 4
