"""The symmetric contraction against known polynomials, brute-force counts of couplings and explicit sums."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
import torch
from e3nn import o3

from forcefield.nn.symmetric_contraction import (
    SymmetricContraction,
    count_couplings,
    coupled_products,
    coupling_basis,
    product_monomials,
)


def evaluate_monomials(degrees: tuple[int, ...], components: np.ndarray) -> np.ndarray:
    """(points, monomials) for densities (points, components)."""
    return np.stack([components[:, list(m)].prod(axis=1) for m in product_monomials(degrees)], axis=1)


def rotation_of_density(lmax: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A random rotation of all components up to lmax, and its blocks, from e3nn's harmonics of rotated points."""
    points = torch.randn(60, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    rotation = rotation * torch.linalg.det(rotation)
    blocks = []
    for l in range(lmax + 1):
        before, after = (o3.spherical_harmonics(l, x, normalize=True) for x in (points, points @ rotation.T))
        blocks.append(torch.linalg.lstsq(before, after).solution.T.numpy())
    size = (lmax + 1) ** 2
    whole = np.zeros((size, size))
    for l, block in enumerate(blocks):
        whole[l * l : (l + 1) ** 2, l * l : (l + 1) ** 2] = block
    return whole, blocks


CASES = [
    ((2,), 2),
    ((1, 1), 0),
    ((1, 2), 1),
    ((1, 1, 1), 1),
    ((1, 1, 2), 0),
    ((1, 2, 2), 1),
    ((2, 2, 2), 0),
    ((1, 1, 2), 2),
    ((2, 2, 2, 2), 0),
]


@pytest.mark.parametrize(("degrees", "out"), CASES)
def test_number_of_couplings_is_the_dimension_of_the_equivariant_polynomials(
    degrees: tuple[int, ...], out: int
) -> None:
    generator = np.random.default_rng(1)
    points = generator.normal(size=(150, (max(degrees) + 1) ** 2))
    monomials = evaluate_monomials(degrees, points)
    conditions = []
    for _ in range(3):
        rotation, blocks = rotation_of_density(max(max(degrees), out))
        rotated = evaluate_monomials(degrees, points @ rotation[: points.shape[1], : points.shape[1]].T)
        action = np.linalg.lstsq(monomials, rotated, rcond=None)[0].T  # rotated monomials = action @ monomials
        size = action.shape[0]
        conditions.append(np.kron(np.eye(2 * out + 1), action.T) - np.kron(blocks[out], np.eye(size)))
    singular = np.linalg.svd(np.concatenate(conditions), compute_uv=False)
    assert int((singular < 1e-8).sum()) == count_couplings(degrees, out)


@pytest.mark.parametrize(("degrees", "out"), CASES)
def test_couplings_rotate_with_their_degree_and_are_orthonormal(degrees: tuple[int, ...], out: int) -> None:
    generator = np.random.default_rng(2)
    points = generator.normal(size=(40_000 if len(degrees) < 4 else 50, (max(degrees) + 1) ** 2))
    basis = coupling_basis(degrees, out)
    rotation, blocks = rotation_of_density(max(max(degrees), out))
    few = points[:50]
    before = np.einsum("mep,np->nem", basis, evaluate_monomials(degrees, few))
    turned = few @ rotation[: few.shape[1], : few.shape[1]].T
    after = np.einsum("mep,np->nem", basis, evaluate_monomials(degrees, turned))
    np.testing.assert_allclose(after, before @ blocks[out].T, atol=1e-9)
    if len(points) > 50:
        values = np.einsum("mep,np->nem", basis, evaluate_monomials(degrees, points))
        overlap = np.einsum("nem,nfm->ef", values, values) / len(points) / (2 * out + 1)
        np.testing.assert_allclose(overlap, np.eye(basis.shape[1]), atol=0.2)


def test_pairs_of_equal_degree_give_the_squared_length() -> None:
    for l in (1, 2, 3):
        n = 2 * l + 1
        (row,) = coupling_basis((l, l), 0)[0]
        square = {(l * l + m, l * l + m) for m in range(n)}
        expected = [1 / math.sqrt(n * n + 2 * n) if m in square else 0.0 for m in product_monomials((l, l))]
        np.testing.assert_allclose(row * np.sign(row.sum()), expected, atol=1e-12)


def test_three_vectors_give_one_vector_along_themselves() -> None:
    basis = coupling_basis((1, 1, 1), 1)
    points = np.random.default_rng(3).normal(size=(10, 4))
    vectors = points[:, 1:]
    found = evaluate_monomials((1, 1, 1), points) @ basis[:, 0].T
    expected = vectors * (vectors**2).sum(1, keepdims=True) / math.sqrt(35)  # E[|v|^6] / 3 = 35
    np.testing.assert_allclose(found * np.sign((found * expected).sum()), expected, atol=1e-12)


def test_numbers_of_independent_products_up_to_degree_two() -> None:
    counts = [[sum(n for _, n in coupled_products(2, order, out)) for order in (1, 2, 3)] for out in (0, 1)]
    assert counts == [[1, 3, 5], [1, 2, 5]]


@pytest.mark.parametrize(
    ("lmax", "l_out", "correlation"), [(1, [0], 1), (2, [0, 1], 2), (2, [0, 1, 2], 3), (1, [0, 1], 4)]
)
def test_contraction_equals_a_sum_over_all_products_of_components(
    lmax: int, l_out: list[int], correlation: int
) -> None:
    contraction = SymmetricContraction(2, 3, lmax, l_out, correlation).double()
    density = torch.randn(4, (lmax + 1) ** 2, 3, dtype=torch.float64)
    species = torch.tensor([0, 1, 1, 0])
    results = contraction(density, species)
    for k, out in enumerate(l_out):
        expected = torch.zeros(4, 2 * out + 1, 3, dtype=torch.float64)
        for order in range(1, correlation + 1):
            embedding = contraction.element_weights[(order - 1) * len(l_out) + k]
            weights = iter(embedding(species).view(4, -1, 3).unbind(1))
            for degrees, count in coupled_products(lmax, order, out):
                tensor = full_tensor(coupling_basis(degrees, out), degrees, (lmax + 1) ** 2)
                for eta in range(count):
                    value = torch.einsum("...p,npc->...nc", tensor[eta], density)
                    for _ in range(order - 1):
                        value = torch.einsum("...pnc,npc->...nc", value, density)
                    expected += value.movedim(0, 1) * next(weights)[:, None]
        torch.testing.assert_close(results[k], expected, rtol=1e-10, atol=1e-12)


def full_tensor(basis: np.ndarray, degrees: tuple[int, ...], size: int) -> torch.Tensor:
    """(couplings, 2 out + 1, components, ..., components): each polynomial as a symmetric tensor."""
    order = len(degrees)
    column = {m: k for k, m in enumerate(product_monomials(degrees))}
    tensor = np.zeros((basis.shape[1], basis.shape[0], *[size] * order))
    for index in product(range(size), repeat=order):
        monomial = tuple(sorted(index))
        if monomial in column:
            orderings = math.factorial(order) / math.prod(math.factorial(index.count(p)) for p in set(index))
            tensor[(slice(None), slice(None), *index)] = basis[:, :, column[monomial]].T / orderings
    return torch.from_numpy(tensor)


def test_every_weight_matters_on_its_own() -> None:
    contraction = SymmetricContraction(1, 1, 2, [0, 1], 3).double()
    density = torch.randn(200, 9, 1, dtype=torch.float64)
    parameters = list(contraction.parameters())
    columns = []
    for parameter in parameters:
        for k in range(parameter.shape[1]):
            with torch.no_grad():
                for other in parameters:
                    other.zero_()
                parameter[0, k] = 1.0
            columns.append(torch.cat([x.flatten() for x in contraction(density, torch.zeros(200, dtype=torch.int64))]))
    values = torch.stack(columns, dim=1)
    assert values.shape[1] == 9 + 8
    assert int(torch.linalg.matrix_rank(values)) == values.shape[1]


def test_monomials_of_one_degree_are_complete() -> None:
    assert sorted(product_monomials((1, 1))) == sorted(combinations_with_replacement([1, 2, 3], 2))


@pytest.mark.parametrize("n", [0, 1])
def test_few_atoms_keep_their_shapes(n: int) -> None:
    contraction = SymmetricContraction(2, 3, 2, [0, 1], 3)
    results = contraction.float()(torch.ones(n, 9, 3), torch.zeros(n, dtype=torch.int64))
    assert [tuple(x.shape) for x in results] == [(n, 1, 3), (n, 3, 3)]
