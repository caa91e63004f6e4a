"""Rotations of edges onto the polar axis, against the spherical harmonics of e3nn."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from forcefield.nn.rotation import Rotations, by_order, frames, order_rows


def directions() -> torch.Tensor:
    """Random unit vectors, and those along the axes, both ways."""
    random = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    axes = torch.eye(3, dtype=torch.float64)
    return torch.cat([random, axes, -axes])


def test_frames_are_proper_rotations_onto_the_y_axis() -> None:
    direction = directions()
    rotation = frames(direction)
    one = torch.eye(3, dtype=torch.float64).expand(len(direction), 3, 3)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), one, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(direction), dtype=torch.float64))
    polar = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(len(direction), 3)
    torch.testing.assert_close((rotation @ direction[:, :, None])[:, :, 0], polar, rtol=0, atol=1e-12)


def test_matrices_turn_the_harmonics_of_e3nn() -> None:
    direction, points = directions(), directions().flip(0)
    turned = (frames(direction) @ points[:, :, None])[:, :, 0]
    for degree, matrices in enumerate(Rotations(3).double()(direction)):
        before = o3.spherical_harmonics(degree, points, normalize=False)
        after = o3.spherical_harmonics(degree, turned, normalize=False)
        torch.testing.assert_close((matrices @ before[:, :, None])[:, :, 0], after, rtol=0, atol=1e-12)


def test_one_matrix_of_all_degrees_is_orthogonal() -> None:
    matrix = by_order(Rotations(2).double()(directions()), 2)
    one = torch.eye(9, dtype=torch.float64).expand(26, 9, 9)
    torch.testing.assert_close(matrix @ matrix.transpose(1, 2), one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m_max", [0, 1, 3])
def test_rows_of_one_matrix_are_the_components_of_the_single_ones(m_max: int) -> None:
    matrices = Rotations(3).double()(directions())
    features = torch.randn(26, 16, 2, dtype=torch.float64)
    single = [matrix @ part for matrix, part in zip(matrices, features.split([1, 3, 5, 7], dim=1), strict=True)]
    found = by_order(matrices, m_max) @ features
    rows = order_rows(3, m_max)
    assert len(rows) == found.shape[1] == sum(min(2 * l, 2 * m_max) + 1 for l in range(4))
    for k, (l, m) in enumerate(rows):
        torch.testing.assert_close(found[:, k], single[l][:, l + m], rtol=0, atol=1e-12)


def test_a_scalar_and_what_is_made_of_the_direction_have_order_zero_only() -> None:
    direction = directions()
    harmonics = [o3.spherical_harmonics(l, direction, normalize=False) for l in range(4)]
    turned = by_order(Rotations(3).double()(direction), 3) @ torch.cat(harmonics, dim=1)[:, :, None]
    zero = [m != 0 for _, m in order_rows(3, 3)]
    torch.testing.assert_close(turned[:, zero], torch.zeros_like(turned[:, zero]), rtol=0, atol=1e-12)
