"""Nonlinearity and normalisation of equivariant features, given as a list over l of (atoms, 2 l + 1, channels)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

SILU_RMS = 0.5964692111227134
"""Root mean square of ``silu(x)`` for a standard normal x (numerical quadrature)."""


class Gate(nn.Module):
    """SiLU of the scalars; a feature of higher degree is multiplied, channel by channel, by the SiLU of a scalar.

    The activations are divided by their root mean square, so that variances are kept.

    Args:
        channels: channels of degree 0, 1, ... after the gate.

    References:
        Weiler et al., NeurIPS 2018, arXiv:1807.02547, "Equivariant nonlinearities"; Batzner et al. (2022),
        doi:10.1038/s41467-022-29939-5, "Equivariant nonlinearity".
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)

    @property
    def in_channels(self) -> list[int]:
        """Channels needed before the gate: the scalars followed by the gates of degree 1, 2, ..., then each degree."""
        return [sum(self.channels), *self.channels[1:]]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Args: features with ``in_channels``. Returns: features with ``channels``."""
        active = nn.functional.silu(features[0]) / SILU_RMS  # (atoms, 1, scalars and gates)
        scalars, *gates = active.split(self.channels, dim=2)
        return [scalars] + [x * gate for x, gate in zip(features[1:], gates, strict=True)]


class RMSNorm(nn.Module):
    """Divide all features of an atom by one root mean square; a learned gain per channel.

    ``norm^2 = mean over l of sum_{m, c} x_l[m, c]^2 / (2 l + 1)^2``: scalars count most. The gains start at the value
    that gives unit variance for unit variance.

    Args:
        channels: channels of degree 0, 1, ...
        floor: added to the mean square, which keeps the norm smooth where all features are small.

    References:
        The layer norm of Nequix: Koker, Kotak, Smidt, arXiv:2508.16067.
    """

    def __init__(self, channels: Sequence[int], *, floor: float = 1e-12) -> None:
        super().__init__()
        self.floor = floor
        typical = math.sqrt(sum(c / (2 * l + 1) for l, c in enumerate(channels)) / len(channels))
        self.gains = nn.ParameterList([nn.Parameter(torch.full((c,), typical)) for c in channels])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Args: features of the given channels. Returns: features of the same shapes."""
        square = features[0].square().sum(dim=(1, 2), keepdim=True)  # (atoms, 1, 1)
        for l, x in enumerate(features[1:], start=1):
            square = square + x.square().sum(dim=(1, 2), keepdim=True) / (2 * l + 1) ** 2
        inverse = torch.rsqrt(square / len(features) + self.floor)
        return [x * (gain * inverse) for x, gain in zip(features, self.gains, strict=True)]
