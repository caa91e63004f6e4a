"""Rotations of edges onto the polar axis, against the spherical harmonics of e3nn."""

from __future__ import annotations

import torch
from e3nn import o3

from forcefield.nn.rotation import Rotations, frames, rotate, rotate_back


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


def test_rotating_back_undoes_it() -> None:
    matrices = Rotations(2).double()(directions())
    features = torch.randn(26, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(rotate_back(matrices, rotate(matrices, features)), features, rtol=0, atol=1e-12)
