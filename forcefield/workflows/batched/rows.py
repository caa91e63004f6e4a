"""Degrees of freedom of a batch as rows of three numbers, and the cell's share of them.

A structure of n atoms has n + 3 consecutive rows, as in ASE's `FrechetCellFilter`: the positions of its atoms before
any deformation, then n times the logarithm of the deformation gradient F. Positions are ``u F^T``, the cell is
``cell_0 F^T``. In a fixed cell the last three rows stay zero and feel no force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forcefield.nn.scatter import scatter_sum


@dataclass(frozen=True)
class Rows:
    """Where the rows of each structure are.

    Attributes:
        sizes: (structures,) atoms of each structure.
        owner: (rows,) structure of each row.
        atoms: (atoms,) rows of the atoms.
        cells: (3 structures,) rows of the deformations.
        batch: (atoms,) structure of each atom.
    """

    sizes: Tensor
    owner: Tensor
    atoms: Tensor
    cells: Tensor
    batch: Tensor

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return self.sizes.shape[0]

    def dot(self, left: Tensor, right: Tensor) -> Tensor:
        """Scalar product of two sets of rows in each structure, (structures,)."""
        return scatter_sum((left * right).sum(dim=1), self.owner, self.n_structures)

    def join(self, atoms: Tensor, cells: Tensor) -> Tensor:
        """Rows from (atoms, 3) and (structures, 3, 3)."""
        rows = atoms.new_zeros(self.owner.shape[0], 3)
        rows[self.atoms] = atoms
        rows[self.cells] = cells.reshape(-1, 3)
        return rows

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(atoms, 3) and (structures, 3, 3) from rows."""
        return rows[self.atoms], rows[self.cells].reshape(-1, 3, 3)


def make_rows(sizes: Sequence[int], device: torch.device) -> Rows:
    """Lay the rows of structures with that many atoms out."""
    counts = torch.tensor(list(sizes), dtype=torch.int64, device=device)
    structures = torch.arange(len(counts), device=device)
    owner = torch.repeat_interleave(structures, counts + 3)
    ends = torch.cumsum(counts + 3, 0)
    is_cell = torch.zeros(owner.shape[0], dtype=torch.bool, device=device)
    cells = (ends[:, None] - torch.tensor([3, 2, 1], device=device)).reshape(-1)
    is_cell[cells] = True
    return Rows(counts, owner, torch.nonzero(~is_cell)[:, 0], cells, torch.repeat_interleave(structures, counts))


def logarithm_force(logarithm: Tensor, gradient: Tensor) -> Tensor:
    """Force on the logarithm of a deformation from that on the deformation itself.

    The derivative of the exponential at L is adjoint to the one at the transpose of L, and that one is the upper right
    block of the exponential of ``[[L^T, gradient], [0, L^T]]``.

    Args:
        logarithm: (structures, 3, 3).
        gradient: (structures, 3, 3) force on the deformation gradient (eV).

    Returns:
        (structures, 3, 3) in eV.

    References:
        Al-Mohy and Higham, https://doi.org/10.1137/080716426, equation 1.3.
    """
    block = logarithm.new_zeros(logarithm.shape[0], 6, 6)
    block[:, :3, :3] = block[:, 3:, 3:] = logarithm.transpose(1, 2)
    block[:, :3, 3:] = gradient
    return torch.linalg.matrix_exp(block)[:, :3, 3:]


def row_forces(
    rows: Rows, forces: Tensor, virial: Tensor, deformation: Tensor, logarithm: Tensor, variable: Tensor
) -> Tensor:
    """Forces on all rows.

    Args:
        rows: where the rows are.
        forces: (atoms, 3) after constraints (eV/Å).
        virial: (structures, 3, 3) minus the volume times the deviation of the stress from the target (eV).
        deformation: (structures, 3, 3) deformation gradients.
        logarithm: (structures, 3, 3) their logarithms.
        variable: (structures,) whether the cell may change.

    Returns:
        (rows, 3), minus the derivative of the enthalpy.
    """
    on_atoms = (forces[:, None, :] @ deformation[rows.batch])[:, 0]
    on_deformation = torch.linalg.solve(deformation, virial.transpose(1, 2)).transpose(1, 2)
    on_logarithm = logarithm_force(logarithm, on_deformation) / rows.sizes[:, None, None]
    return rows.join(on_atoms, torch.where(variable[:, None, None], on_logarithm, 0.0))
