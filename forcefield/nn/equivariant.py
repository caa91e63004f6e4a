"""Constants of the rotation group, taken from e3nn once at construction and stored with the weights.

A saved model carries these numbers, so it computes the same under any e3nn and needs none to load.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn


def register_constant(module: nn.Module, name: str, shape: tuple[int, ...], compute: Callable[[], np.ndarray]) -> None:
    """Register a persistent buffer; under ``torch.device("meta")`` only its shape, for a load that fills it.

    Args:
        module: owner of the buffer.
        name: attribute name.
        shape: shape of the constant.
        compute: returns the constant as a float64 array.
    """
    placeholder = torch.empty(shape, dtype=torch.float64)
    if placeholder.device.type == "meta":
        module.register_buffer(name, placeholder)
        return
    value = np.asarray(compute(), dtype=np.float64)
    assert value.shape == shape, (name, value.shape, shape)
    module.register_buffer(name, torch.from_numpy(value.copy()).to(placeholder.device))


def tensor_power(power: Tensor, vectors: Tensor) -> Tensor:
    """One more outer product: (..., 3^l) times (..., 3) -> (..., 3^(l+1)), last index fastest."""
    return (power[..., :, None] * vectors[..., None, :]).flatten(-2)


def harmonic_coefficients(degree: int) -> np.ndarray:
    """Real spherical harmonics as polynomials: ``Y_l(v) = (v (x) ... (x) v) @ coefficients`` for unit vectors v.

    e3nn's order of components and "component" normalisation (``|Y_l|^2 = 2l + 1``).

    Returns:
        (3^l, 2 l + 1), float64, symmetric in the l factors.
    """
    from e3nn import o3

    points = np.random.default_rng(0).normal(size=(60 + 3**degree, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    vectors = torch.from_numpy(points)
    target = o3.spherical_harmonics(degree, vectors, normalize=False, normalization="component").numpy()
    power = vectors
    for _ in range(degree - 1):
        power = tensor_power(power, vectors)
    coefficients = np.linalg.lstsq(power.numpy(), target, rcond=1e-10)[0]
    coefficients[np.abs(coefficients) < 1e-12] = 0.0
    return coefficients


def clebsch_gordan(l_first: int, l_second: int, l_out: int) -> np.ndarray:
    """Coupling tensor that keeps the variance: for unit-variance inputs each output component has variance one.

    Returns:
        (2 l_first + 1, 2 l_second + 1, 2 l_out + 1), e3nn's Wigner 3j times ``sqrt(2 l_out + 1)``.
    """
    from e3nn import o3

    return o3.wigner_3j(l_first, l_second, l_out, dtype=torch.float64).numpy() * np.sqrt(2 * l_out + 1)


def coupling_paths(
    l_first: list[int], l_second: list[int], l_out: int, *, parity: bool = True
) -> list[tuple[int, int]]:
    """Degree pairs that couple to ``l_out`` with the parity of ``l_out``, all degrees having parity (-1)^l.

    Without ``parity`` also those that need not have it: such a product keeps rotations, but no reflections.
    """
    pairs = [(a, b) for a in l_first for b in l_second if abs(a - b) <= l_out <= a + b]
    return [(a, b) for a, b in pairs if not parity or (a + b + l_out) % 2 == 0]


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics Y_0 ... Y_lmax of unit vectors, e3nn order, "component" normalisation.

    Args:
        lmax: highest degree.
    """

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        for degree in range(2, lmax + 1):
            shape = (3**degree, 2 * degree + 1)
            register_constant(self, f"coefficients_{degree}", shape, partial(harmonic_coefficients, degree))

    def forward(self, unit_vectors: Tensor) -> list[Tensor]:
        """Args: (..., 3). Returns: list over l of (..., 2 l + 1)."""
        harmonics = [torch.ones_like(unit_vectors[..., :1])]
        if self.lmax >= 1:
            harmonics.append(unit_vectors * 3**0.5)
        power = unit_vectors
        for degree in range(2, self.lmax + 1):
            power = tensor_power(power, unit_vectors)
            harmonics.append(power @ getattr(self, f"coefficients_{degree}"))
        return harmonics
