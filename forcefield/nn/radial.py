"""Radial functions: smooth cutoff and Bessel basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def smooth_cutoff(distance: Tensor, cutoff: float | Tensor, exponent: int = 6) -> Tensor:
    """Polynomial envelope, 1 at zero, and 0 with its first two derivatives at the cutoff.

    ``u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` with ``x = distance / cutoff < 1``, else 0.

    Args:
        distance: any shape (Å).
        cutoff: radius where the envelope ends (Å).
        exponent: p.

    References:
        Gasteiger, Gross, Günnemann, ICLR 2020, arXiv:2003.03123, eq. 8.
    """
    x = (distance / cutoff).clamp(max=1.0)  # the polynomial is zero at one, with its derivatives
    p = float(exponent)
    power = x**exponent
    return 1 + power * (-(p + 1) * (p + 2) / 2 + x * (p * (p + 2) - x * (p * (p + 1) / 2)))


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero times the smooth cutoff.

    ``B_n(r) = sqrt(2) sin(n pi r / r_c) / (r / r_c) u(r / r_c)``, n = 1 ... n_functions: of order one for any cutoff.

    Args:
        cutoff: r_c (Å).
        n_functions: number of basis functions.
        exponent: p of the smooth cutoff.

    References:
        Gasteiger, Gross, Günnemann, ICLR 2020, arXiv:2003.03123, eq. 7 and 8.
    """

    waves: Tensor

    def __init__(self, cutoff: float, n_functions: int = 8, exponent: int = 6) -> None:
        super().__init__()
        self.cutoff, self.n_functions, self.exponent = float(cutoff), n_functions, exponent
        waves = math.pi * torch.arange(1, n_functions + 1, dtype=torch.float64, device="cpu")
        self.register_buffer("waves", waves, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Args: distance of any shape (Å). Returns: (..., n_functions)."""
        x = distance / self.cutoff
        amplitude = math.sqrt(2.0) * smooth_cutoff(distance, self.cutoff, self.exponent) / x
        return torch.sin(x[..., None] * self.waves.to(x.dtype)) * amplitude[..., None]
