"""Radial functions: smooth cutoff and Bessel basis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ase.data import covalent_radii
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


def switched_cutoff(distance: Tensor, cutoff: float, onset: float) -> Tensor:
    """Switching function, 1 up to the onset, and 0 with its first derivative at the cutoff.

    ``(r_c^2 - r^2)^2 (r_c^2 + 2 r^2 - 3 r_on^2) / (r_c^2 - r_on^2)^3`` between the two; its second derivative jumps at
    both, unlike that of `smooth_cutoff`.

    Args:
        distance: any shape (Å).
        cutoff: r_c (Å).
        onset: r_on, below the cutoff (Å).

    References:
        Brooks et al. (CHARMM), J. Comput. Chem. 4, 187 (1983), doi:10.1002/jcc.540040211; known as XPLOR's.
    """
    square = distance.clamp(min=onset, max=cutoff).square()
    inner, outer = onset**2, cutoff**2
    return (outer - square).square() * (outer + 2 * square - 3 * inner) / (outer - inner) ** 3


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order zero times the smooth cutoff.

    ``B_n(r) = sqrt(2) sin(n pi r / r_c) / (r / r_c) u(r / r_c)``, n = 1 ... n_functions: of order one for any cutoff.

    Args:
        cutoff: r_c (Å).
        n_functions: number of basis functions.
        exponent: p of the smooth cutoff.
        onset: where given, u is the `switched_cutoff` from this distance (Å) on.
        trained: whether the wave numbers, n pi at the start, are parameters.

    Raises:
        ValueError: the onset is not between zero and the cutoff.

    References:
        Gasteiger, Gross, Günnemann, ICLR 2020, arXiv:2003.03123, eq. 7 and 8.
    """

    waves: Tensor

    def __init__(
        self,
        cutoff: float,
        n_functions: int = 8,
        exponent: int = 6,
        *,
        onset: float | None = None,
        trained: bool = False,
    ) -> None:
        super().__init__()
        if onset is not None and not 0 <= onset < cutoff:
            raise ValueError(f"the cutoff function must begin between 0 and the cutoff of {cutoff} Å, got {onset}")
        self.cutoff, self.n_functions, self.exponent, self.onset = float(cutoff), n_functions, exponent, onset
        waves = math.pi * torch.arange(1, n_functions + 1, dtype=torch.float64, device="cpu")
        if trained:
            self.waves = nn.Parameter(waves.to(torch.get_default_dtype()))
        else:
            self.register_buffer("waves", waves, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Args: distance of any shape (Å). Returns: (..., n_functions)."""
        x = distance / self.cutoff
        amplitude = math.sqrt(2.0) * self._envelope(distance) / x
        return torch.sin(x[..., None] * self.waves.to(x.dtype)) * amplitude[..., None]

    def _envelope(self, distance: Tensor) -> Tensor:
        if self.onset is None:
            return smooth_cutoff(distance, self.cutoff, self.exponent)
        return switched_cutoff(distance, self.cutoff, self.onset)


class WarpedBesselBasis(nn.Module):
    """Bessel functions of a distance measured against the covalent radii of the pair, times the smooth cutoff.

    ``B_n(r) = sqrt(2) sin(n pi xi) / xi u(r / r_c)`` with ``xi = r^2 (R^2 + r_c^2) / ((R^2 + r^2) r_c^2)`` and R the
    sum of the covalent radii: xi rises from 0 to 1 at the cutoff, fastest around 0.6 R, so that the functions resolve
    best where the pair forms its bond, whatever the elements. Distances transformed by the elements' sizes are known
    from the atomic cluster expansion and MACE (Batatia et al., arXiv:2401.00096); the transform here is our own.

    Args:
        elements: atomic numbers that can occur.
        cutoff: r_c (Å).
        n_functions: number of basis functions.
        exponent: p of the smooth cutoff.
    """

    waves: Tensor
    radius: Tensor

    def __init__(self, elements: Sequence[int], cutoff: float, n_functions: int, exponent: int = 6) -> None:
        super().__init__()
        self.cutoff, self.n_functions, self.exponent = float(cutoff), n_functions, exponent
        waves = math.pi * torch.arange(1, n_functions + 1, dtype=torch.float64, device="cpu")
        self.register_buffer("waves", waves, persistent=False)
        radius = torch.tensor(covalent_radii[list(elements)], dtype=torch.float64, device="cpu")
        self.register_buffer("radius", radius, persistent=False)

    def radii(self, species: Tensor) -> Tensor:
        """Covalent radius (Å) of each atom, from its species index."""
        return self.radius.index_select(0, species)

    def forward(self, distance: Tensor, reach: Tensor) -> Tensor:
        """Args: distance and reach (sum of the two radii) of one shape (Å). Returns: (..., n_functions)."""
        square, reach2, cutoff2 = distance.square(), reach.square(), self.cutoff**2
        warped = square * (reach2 + cutoff2) / ((reach2 + square) * cutoff2)
        amplitude = math.sqrt(2.0) * smooth_cutoff(distance, self.cutoff, self.exponent) / warped
        return torch.sin(warped[..., None] * self.waves.to(distance.dtype)) * amplitude[..., None]


class GaussianBasis(nn.Module):
    """Gaussians at even distances from zero to the cutoff, as wide as they are apart; without a cutoff function.

    ``G_k(r) = a exp(-(r - mu_k)^2 / (2 d^2))``, ``mu_k = k d``, ``d = r_c / (n_functions - 1)``; the factor
    ``a = sqrt(n_functions / sqrt(pi))`` makes the mean square of all functions one.

    Args:
        cutoff: r_c (Å).
        n_functions: number of basis functions.

    References:
        Schütt et al., J. Chem. Phys. 148, 241722 (2018), doi:10.1063/1.5019779, section II.
    """

    centres: Tensor

    def __init__(self, cutoff: float, n_functions: int) -> None:
        super().__init__()
        self.spacing = float(cutoff) / max(n_functions - 1, 1)
        self.amplitude = math.sqrt(n_functions / math.sqrt(math.pi))
        centres = self.spacing * torch.arange(n_functions, dtype=torch.float64, device="cpu")
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Args: distance of any shape (Å). Returns: (..., n_functions)."""
        difference = (distance[..., None] - self.centres.to(distance.dtype)) / self.spacing
        return self.amplitude * torch.exp(-0.5 * difference.square())
