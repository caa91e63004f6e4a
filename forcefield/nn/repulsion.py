"""Short-range nuclear repulsion (Ziegler, Biersack, Littmark) with a smooth cutoff for each pair of elements."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from forcefield.nn.radial import smooth_cutoff
from forcefield.nn.scatter import scatter_sum

COULOMB = 14.399645
"""e^2 / (4 pi epsilon_0) in eV Å (CODATA 2018)."""
BOHR = 0.529177211
"""Bohr radius in Å (CODATA 2018)."""
AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)


class Repulsion(nn.Module):
    """Screened Coulomb repulsion between nuclei, each atom carrying half of every pair it belongs to.

    ``E_ij = COULOMB Z_i Z_j / r phi(r / a) u(r / (R_i + R_j))``, ``a = 0.8854 a_0 / (Z_i^0.23 + Z_j^0.23)``, with
    ``R`` the covalent radii of ASE and ``u`` the smooth cutoff: a pair at its bond length feels (almost) nothing.

    References:
        Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter, Pergamon 1985, chapter 2.
        Covalent radii: Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j.
    """

    radius: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("radius", torch.tensor(covalent_radii, dtype=torch.float64), persistent=False)

    def forward(
        self, numbers: Tensor, edge_index: Tensor, distance: Tensor, n_local: int, *, every_edge: bool = False
    ) -> Tensor:
        """Repulsion energies of the atoms.

        Args:
            numbers: (atoms,).
            edge_index: (2, edges).
            distance: (edges,) in Å.
            n_local: number of centres.
            every_edge: evaluate pairs beyond their cutoff too (they give zero), so that no size depends on distances;
                what is compiled needs that, and otherwise it costs memory.

        Returns:
            (n_local,) in eV.
        """
        i, j = edge_index
        if every_edge:
            return scatter_sum(self._pairs(numbers[i], numbers[j], distance), i, n_local)
        close = torch.nonzero(distance.detach() < self._reach(numbers[i], numbers[j]))[:, 0]
        if close.shape[0] == 0:
            return distance.new_zeros(n_local)
        i, j = i[close], j[close]
        return scatter_sum(self._pairs(numbers[i], numbers[j], distance[close]), i, n_local)

    def _reach(self, one: Tensor, other: Tensor) -> Tensor:
        return self.radius[one] + self.radius[other]

    def _pairs(self, one: Tensor, other: Tensor, r: Tensor) -> Tensor:
        """Half the energy of each pair (pairs,), from atomic numbers and distances (pairs,)."""
        z_i, z_j = one.to(r.dtype), other.to(r.dtype)
        x = r * (z_i**0.23 + z_j**0.23) / (0.8854 * BOHR)
        screening = sum(a * torch.exp(-b * x) for a, b in zip(AMPLITUDES, EXPONENTS, strict=True))
        return 0.5 * COULOMB * z_i * z_j / r * screening * smooth_cutoff(r, self._reach(one, other))
