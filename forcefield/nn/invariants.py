"""Rotation-invariant numbers made of vectors: lengths that stay smooth at zero, and sums over angles."""

from __future__ import annotations

import torch
from torch import Tensor

from forcefield.nn.neighbourhood import Neighbourhood


def smooth_norm(x: Tensor, dim: int, *, width: float = 0.1) -> Tensor:
    """``sqrt(|x|^2 + width^2) - width``: the length of x, but a parabola near zero, where the length has a kink.

    Args:
        x: any shape.
        dim: the axis of the components, which disappears.
        width: length below which it is a parabola.
    """
    return torch.sqrt(x.square().sum(dim) + width**2) - width


def angular_sum(edges: Neighbourhood, harmonics: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    """Sum over the other neighbours k of atom i, seen from each edge ij under the angle between ij and ik.

    ``out_l[ij, c] = sum_{k != j} weights_l[ik, c] P_l(cos theta_jik)`` with Legendre polynomials P_l. No list of
    triplets is made: by the addition theorem ``(2l+1) P_l = sum_m Y_lm(ij) Y_lm(ik)`` the sum over k is one density
    per atom, from which each edge takes its share and leaves out its own term (P_l = 1 there).

    Args:
        edges: the neighbours.
        harmonics: list over l of (edges, 2l+1), "component" normalised, as `SphericalHarmonics` gives them.
        weights: list over the same l of (edges, channels), zero at the cutoff.

    Returns:
        list over l of (edges, channels).
    """
    sums = []
    for harmonic, weight in zip(harmonics, weights, strict=True):
        density = edges.sum(harmonic[:, :, None] * weight[:, None, :])  # (centres, 2l+1, channels)
        seen = (harmonic[:, :, None] * edges.of_centres(density)).sum(1) / harmonic.shape[1]  # (edges, channels)
        sums.append(seen - weight)
    return sums
