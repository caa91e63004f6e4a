"""Rotations that turn each edge onto one axis, and what they do to features of every degree.

Along the axis a rotation-equivariant map has to respect only the rotations about the axis, so that components m of
different |m| do not mix: a convolution becomes a few dense matrices (Passaro and Zitnick, ICML 2023, arXiv:2302.03655).

Which way round an edge is turned about the axis is free. A fixed rule must break somewhere on the sphere (and angles
break at the poles), so each edge takes the Cartesian axis it is least aligned with as its second direction. The choice
jumps from edge to edge, but nothing that comes back in the original frame depends on it, nor do any derivatives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forcefield.nn.equivariant import SphericalHarmonics


def frames(direction: Tensor) -> Tensor:
    """Rotations that turn unit vectors onto the y axis, the polar axis of e3nn: (edges, 3) -> (edges, 3, 3)."""
    least = direction.detach().abs().argmin(dim=1)
    helper = torch.eye(3, dtype=direction.dtype, device=direction.device).index_select(0, least)
    x = helper - (helper * direction).sum(1, keepdim=True) * direction
    x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    z = torch.linalg.cross(x, direction, dim=1)
    return torch.stack([x, direction, z], dim=1)


class Rotations(nn.Module):
    """Wigner matrices of degree 0 to lmax for the rotations of `frames`.

    ``Y_l(R v) = D_l(R) Y_l(v)``; Y_l is a polynomial of degree l with coefficients C_l, so
    ``D_l = C_l^T (R (x) ... (x) R) C_l / |C_l|^2`` with l factors, and no angles are needed.

    Args:
        lmax: highest degree.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.harmonics = SphericalHarmonics(lmax)

    def forward(self, direction: Tensor) -> list[Tensor]:
        """Args: unit vectors (edges, 3). Returns: list over l of (edges, 2l+1, 2l+1)."""
        rotation = frames(direction)
        matrices = [torch.ones_like(rotation[:, :1, :1]), rotation]
        power = rotation
        for degree in range(2, self.lmax + 1):
            size = 3**degree
            power = (power[:, :, None, :, None] * rotation[:, None, :, None, :]).reshape(-1, size, size)
            coefficients = getattr(self.harmonics, f"coefficients_{degree}")  # (3^l, 2l+1), columns of equal length
            square = coefficients.square().sum() / (2 * degree + 1)
            matrices.append(torch.matmul(coefficients.T, torch.matmul(power, coefficients)) / square)
        return matrices[: self.lmax + 1]


def order_rows(lmax: int, m_max: int) -> list[tuple[int, int]]:
    """Degree l and order m of the components with ``|m| <= m_max``: m = 0 first, then 1 and -1, 2 and -2, ..."""
    orders = [0] + [sign * m for m in range(1, m_max + 1) for sign in (1, -1)]
    return [(l, m) for m in orders for l in range(abs(m), lmax + 1)]


def by_order(matrices: list[Tensor], m_max: int) -> Tensor:
    """One matrix of all degrees, which turns features into the edges' frames and keeps components up to m_max.

    Args:
        matrices: what `Rotations` gives, up to the degree of the features.
        m_max: highest order to keep.

    Returns:
        (edges, rows, (lmax+1)^2), rows as `order_rows` lists them.
    """
    lmax = len(matrices) - 1
    before = [(l**2, (lmax + 1) ** 2 - (l + 1) ** 2) for l in range(lmax + 1)]  # columns of the other degrees
    rows = [(l, l + m) for l, m in order_rows(lmax, m_max)]
    return torch.stack([nn.functional.pad(matrices[l][:, row], before[l]) for l, row in rows], dim=1)
