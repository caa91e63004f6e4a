"""Symmetric products of an atom's density: the equivariant basis functions of body order two to four and above.

    B_i[L M, c] = sum_nu sum_eta W_nu[z_i, eta, c] sum_p U_nu[M eta, p] A_i[p_1, c] ... A_i[p_nu, c]

where p runs over the distinct monomials of order nu of the density's components (p_1 <= ... <= p_nu) and the constant U
(generalised Clebsch-Gordan coefficients) maps them to every independent way, eta, of coupling nu features to degree L.
Working on distinct monomials instead of on the full tensor makes U small and the whole step two matrix products per
order; components stand outermost, so that selecting them copies whole rows.

References:
    Batatia et al., NeurIPS 2022, arXiv:2206.07697, eq. 10 and 11; Drautz, Phys. Rev. B 99, 014104 (2019),
    doi:10.1103/PhysRevB.99.014104; Dusson et al., J. Comput. Phys. 454, 110946 (2022),
    doi:10.1016/j.jcp.2022.110946 (independent couplings).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import combinations_with_replacement, permutations

import numpy as np
import torch
from torch import Tensor, nn

from forcefield.nn.equivariant import clebsch_gordan, register_constant
from forcefield.nn.mlp import SpeciesEmbedding

Degrees = tuple[int, ...]
"""Degrees of the factors of a product, ascending."""
Monomial = tuple[int, ...]
"""Components of the density in a product, ascending; component l^2 + m is number m of degree l."""


def count_couplings(degrees: Degrees, out: int) -> int:
    """Number of independent symmetric couplings of features with these degrees to degree ``out``, by characters.

    The symmetric products whose magnetic numbers add up to M number ``N(M)``; degree L occurs ``N(L) - N(L+1)`` times.
    """
    if (sum(degrees) + out) % 2:
        return 0
    orders = Counter[int]({0: 1})
    for degree, power in Counter(degrees).items():
        sums = Counter(sum(m) for m in combinations_with_replacement(range(-degree, degree + 1), power))
        mixed = Counter[int]()
        for a, count_a in orders.items():
            for b, count_b in sums.items():
                mixed[a + b] += count_a * count_b
        orders = mixed
    return orders[out] - orders[out + 1]


def coupled_products(lmax: int, order: int, out: int) -> list[tuple[Degrees, int]]:
    """Every choice of degrees with at least one coupling to ``out``, and the number of its couplings."""
    choices = combinations_with_replacement(range(lmax + 1), order)
    counted = [(degrees, count_couplings(degrees, out)) for degrees in choices]
    return [(degrees, count) for degrees, count in counted if count]


def product_monomials(degrees: Degrees) -> list[Monomial]:
    """Distinct monomials that a product of features with these degrees contains."""
    monomials: list[Monomial] = [()]
    for degree, power in sorted(Counter(degrees).items()):
        components = range(degree**2, (degree + 1) ** 2)
        monomials = [a + b for a in monomials for b in combinations_with_replacement(components, power)]
    return monomials


def coupling_basis(degrees: Degrees, out: int) -> np.ndarray:
    """Independent couplings as polynomials, orthonormal for independent standard normal components.

    All trees ((l1 l2) l12 l3) ... are coupled in all orders of the factors and symmetrised; of them an orthonormal
    basis is kept, by Gram-Schmidt in the order of the trees.

    Returns:
        (2 out + 1, couplings, monomials) with the monomials of `product_monomials`, float64.
    """
    monomials = product_monomials(degrees)
    column = {monomial: k for k, monomial in enumerate(monomials)}
    moments = _normal_moments(monomials)
    basis: list[np.ndarray] = []
    wanted = count_couplings(degrees, out)
    for ordered in sorted(set(permutations(degrees))):
        for tensor in _coupling_trees(ordered, out):
            if len(basis) == wanted:
                break
            vector = _to_polynomial(tensor, ordered, column)
            for other in basis + basis:  # twice, against rounding
                vector = vector - other * np.einsum("mp,pq,mq->", other, moments, vector) / (2 * out + 1)
            norm = math.sqrt(max(np.einsum("mp,pq,mq->", vector, moments, vector) / (2 * out + 1), 0.0))
            if norm > 1e-6:
                basis.append(vector / norm)
    assert len(basis) == wanted, (degrees, out, len(basis), wanted)
    return np.stack(basis, axis=1)


def _coupling_trees(degrees: Degrees, out: int) -> list[np.ndarray]:
    """Tensors (2 l1 + 1, ..., 2 out + 1): factors coupled from left to right over all intermediate degrees."""
    trees = [(degrees[0], np.eye(2 * degrees[0] + 1))]
    for k, degree in enumerate(degrees[1:], start=2):
        grown = []
        for inner, tensor in trees:
            for total in range(abs(inner - degree), inner + degree + 1):
                if k < len(degrees) or total == out:
                    coefficients = clebsch_gordan(inner, degree, total)
                    grown.append((total, np.einsum("...a,abc->...bc", tensor, coefficients)))
        trees = grown
    return [tensor for total, tensor in trees if total == out]


def _to_polynomial(tensor: np.ndarray, degrees: Degrees, column: dict[Monomial, int]) -> np.ndarray:
    """Coefficients (2 out + 1, monomials) of a tensor contracted with the components of one density."""
    vector = np.zeros((tensor.shape[-1], len(column)))
    for index in np.argwhere(np.abs(tensor).max(axis=-1) > 1e-12):
        monomial = tuple(sorted(l * l + int(m) for l, m in zip(degrees, index, strict=True)))
        vector[:, column[monomial]] += tensor[tuple(index)]
    return vector


def _normal_moments(monomials: Sequence[Monomial]) -> np.ndarray:
    """Mean of the product of each two monomials over independent standard normal components."""
    moments = np.zeros((len(monomials), len(monomials)))
    for p, first in enumerate(monomials):
        for q, second in enumerate(monomials):
            powers = Counter(first + second).values()
            if all(power % 2 == 0 for power in powers):
                moments[p, q] = math.prod(math.prod(range(1, power, 2)) for power in powers)
    return moments


class SymmetricContraction(nn.Module):
    """Products of the density up to an order, coupled to the degrees wanted, weighted by element.

    The basis is complete and free of redundancy: one weight per element, channel and independent coupling.

    Args:
        n_species: number of elements.
        channels: channels of the density; they are not mixed.
        lmax: highest degree of the density, which has (lmax + 1)^2 components.
        l_out: degrees wanted.
        correlation: highest order nu of the products.
    """

    def __init__(self, n_species: int, channels: int, lmax: int, l_out: Sequence[int], correlation: int) -> None:
        super().__init__()
        self.channels, self.lmax, self.l_out, self.correlation = channels, lmax, list(l_out), correlation
        self.products = [
            {out: coupled_products(lmax, order, out) for out in self.l_out} for order in range(1, correlation + 1)
        ]
        self.monomials = self._monomials()
        weights = []
        for order in range(1, correlation + 1):
            rows = sum((2 * out + 1) * self._n_couplings(order, out) for out in self.l_out)
            shape = (rows, len(self.monomials[order - 1]))
            register_constant(self, f"coupling_{order}", shape, partial(self._coupling, order))
            self._register_factors(order)
            weights += [self._weights(n_species, order, out) for out in self.l_out]
        self.element_weights = nn.ModuleList(weights)  # by order, then degree

    def _n_couplings(self, order: int, out: int) -> int:
        return sum(count for _, count in self.products[order - 1][out])

    def _weights(self, n_species: int, order: int, out: int) -> SpeciesEmbedding:
        """One weight per coupling and channel, columns ordered (coupling, channel), B of unit variance at the start."""
        total = sum(self._n_couplings(k, out) for k in range(1, self.correlation + 1))
        width = self._n_couplings(order, out) * self.channels
        return SpeciesEmbedding(n_species, width, scale=1 / math.sqrt(max(total, 1)))

    def _monomials(self) -> list[list[Monomial]]:
        """For each order, the monomials that a coupling uses or that the next order is built from."""
        needed: list[list[Monomial]] = []
        parents: set[Monomial] = set()
        for products in reversed(self.products):
            choices = {degrees for counted in products.values() for degrees, _ in counted}
            own = {monomial for degrees in choices for monomial in product_monomials(degrees)}
            needed.insert(0, sorted(own | parents))
            parents = {monomial[:-1] for monomial in needed[0]}
        needed[0] = [(component,) for component in range((self.lmax + 1) ** 2)]
        return needed

    def _register_factors(self, order: int) -> None:
        """Rows of the lower order's monomials and of the density whose products are this order's monomials.

        Stored as floating-point numbers, exact in single precision, so that they are constants like the others.
        """
        if order == 1:
            return
        row = {monomial: k for k, monomial in enumerate(self.monomials[order - 2])}
        monomials = self.monomials[order - 1]
        shape = (len(monomials),)
        register_constant(self, f"parent_{order}", shape, lambda: np.array([row[m[:-1]] for m in monomials]))
        register_constant(self, f"last_{order}", shape, lambda: np.array([m[-1] for m in monomials]))

    def _coupling(self, order: int) -> np.ndarray:
        """U of one order; rows ordered by L, then M, then coupling."""
        column = {monomial: k for k, monomial in enumerate(self.monomials[order - 1])}
        blocks = []
        for out, counted in self.products[order - 1].items():
            block = np.zeros((2 * out + 1, self._n_couplings(order, out), len(column)))
            start = 0
            for degrees, count in counted:
                columns = [column[monomial] for monomial in product_monomials(degrees)]
                block[:, start : start + count, columns] = coupling_basis(degrees, out)
                start += count
            blocks.append(block.reshape(-1, len(column)))
        return np.concatenate(blocks)

    def forward(self, density: Tensor, species: Tensor) -> list[Tensor]:
        """Products of the density.

        Args:
            density: (atoms, (lmax+1)^2, channels).
            species: (atoms,) element indices.

        Returns:
            list over ``l_out`` of (atoms, 2L+1, channels).
        """
        n, components, channels = density.shape
        density = density.transpose(0, 1).reshape(components, n * channels)
        monomials = density
        results: list[Tensor] = []
        for order in range(1, self.correlation + 1):
            if order > 1:
                parent, last = getattr(self, f"parent_{order}").long(), getattr(self, f"last_{order}").long()
                monomials = monomials.index_select(0, parent) * density.index_select(0, last)
            coupled = torch.mm(getattr(self, f"coupling_{order}"), monomials)  # (rows, atoms * channels)
            parts = self._weighted(order, coupled, species)
            results = parts if order == 1 else [a + b for a, b in zip(results, parts, strict=True)]
        return [result.transpose(0, 1) for result in results]

    def _weighted(self, order: int, coupled: Tensor, species: Tensor) -> list[Tensor]:
        """Sum over couplings with the elements' weights: list over L of (2L+1, atoms, channels)."""
        n = species.shape[0]
        counts = [self._n_couplings(order, out) for out in self.l_out]
        blocks = coupled.split([(2 * out + 1) * count for out, count in zip(self.l_out, counts, strict=True)])
        parts = []
        for k, (out, count, block) in enumerate(zip(self.l_out, counts, blocks, strict=True)):
            weight = (
                self.element_weights[(order - 1) * len(self.l_out) + k](species)
                .view(n, count, self.channels)
                .transpose(0, 1)
            )
            parts.append((block.view(2 * out + 1, count, n, self.channels) * weight).sum(1))
        return parts
