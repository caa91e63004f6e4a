"""Cartesian vectors and tensors as sums of irreducible parts, through e3nn's Clebsch-Gordan coefficients.

A symmetric matrix is a scalar and a part of degree 2; a tensor with the symmetries of the elastic one is two scalars,
two parts of degree 2 and one of degree 4, 21 numbers in all. All parts have natural parity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forcefield.nn.equivariant import clebsch_gordan

VOIGT = np.array([[0, 0], [1, 1], [2, 2], [1, 2], [0, 2], [0, 1]])
"""Cartesian indices of the Voigt components xx yy zz yz xz xy."""


@dataclass(frozen=True)
class Shape:
    """A kind of Cartesian tensor.

    Attributes:
        rank: number of Cartesian indices.
        degrees: degrees of its irreducible parts, rising.
    """

    rank: int
    degrees: tuple[int, ...]

    @property
    def n_components(self) -> int:
        """Independent numbers."""
        return sum(2 * degree + 1 for degree in self.degrees)


SHAPES = {
    "scalar": Shape(0, (0,)),
    "vector": Shape(1, (1,)),
    "symmetric": Shape(2, (0, 2)),
    "elastic": Shape(4, (0, 0, 2, 2, 4)),
}
"""Kinds of values: "elastic" is symmetric in the first pair, in the second pair, and under exchange of the pairs."""


def cartesian_basis(shape: str) -> NDArray[np.float64]:
    """Orthonormal Cartesian tensors, one for each component of each irreducible part.

    Args:
        shape: key of `SHAPES`.

    Returns:
        (components, 3^rank), in the order of `Shape.degrees`; rows are orthonormal.
    """
    if shape == "scalar":
        return np.ones((1, 1))
    if shape == "vector":
        return np.eye(3)
    pair = {degree: _normalised(clebsch_gordan(1, 1, degree).transpose(2, 0, 1)) for degree in (0, 2)}
    if shape == "symmetric":
        return np.concatenate([pair[degree].reshape(-1, 9) for degree in (0, 2)])
    parts = [_product(pair, 0, 0, 0), _product(pair, 2, 2, 0)]
    parts += [(_product(pair, 0, 2, 2) + _product(pair, 2, 0, 2)) / np.sqrt(2), _product(pair, 2, 2, 2)]
    parts += [_product(pair, 2, 2, 4)]
    return np.concatenate([part.reshape(-1, 81) for part in parts])


def _product(pair: dict[int, NDArray[np.float64]], first: int, second: int, degree: int) -> NDArray[np.float64]:
    """Part of the given degree of the product of two symmetric matrices' parts, (2 degree + 1, 3, 3, 3, 3)."""
    return np.einsum("abm,aij,bkl->mijkl", _orthonormal(first, second, degree), pair[first], pair[second])


def _orthonormal(first: int, second: int, degree: int) -> NDArray[np.float64]:
    """Wigner 3j times ``sqrt(2 degree + 1)``: its columns m, over (a, b), are orthonormal."""
    coefficients = clebsch_gordan(first, second, degree)
    return coefficients / np.sqrt((coefficients[..., 0] ** 2).sum())


def _normalised(tensors: NDArray[np.float64]) -> NDArray[np.float64]:
    return tensors / np.sqrt((tensors[0] ** 2).sum())


def full_tensor(values: NDArray[np.float64], shape: str) -> NDArray[np.float64]:
    """A label as Cartesian tensor, from Cartesian or Voigt components (xx yy zz yz xz xy; stiffness, not compliance).

    Args:
        values: 1, 3, 6 or 9, or 36 or 81 numbers of any arrangement in rows.
        shape: key of `SHAPES`.

    Returns:
        (), (3,), (3, 3) or (3, 3, 3, 3).

    Raises:
        ValueError: the number of values does not fit.
    """
    rank = SHAPES[shape].rank
    flat = np.asarray(values, dtype=float).ravel()
    if flat.size == 3**rank:
        return flat.reshape((3,) * rank)
    voigt = np.empty((3, 3), dtype=int)
    for index, (a, b) in enumerate(VOIGT):
        voigt[a, b] = voigt[b, a] = index
    if shape == "symmetric" and flat.size == 6:
        return flat[voigt]
    if shape == "elastic" and flat.size == 36:
        return flat.reshape(6, 6)[voigt[:, :, None, None], voigt[None, None]]
    raise ValueError(f"a {shape} label has {flat.size} numbers, but needs {3**rank}{_voigt_size(shape)}")


def _voigt_size(shape: str) -> str:
    return {"symmetric": " or, in Voigt order, 6", "elastic": " or, in Voigt order, 36"}.get(shape, "")


def voigt_matrix(tensor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stiffness (3, 3, 3, 3) as Voigt matrix (6, 6), order xx yy zz yz xz xy."""
    a, b = VOIGT.T
    return tensor[a[:, None], b[:, None], a[None], b[None]]
