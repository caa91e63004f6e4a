"""Channel mixing of equivariant features, given as a list over l of (atoms, 2 l + 1, channels)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.nn.mlp import Linear, normal_parameter


def side_by_side(features: Sequence[Tensor]) -> Tensor:
    """A list over l of (atoms, 2l+1, channels) as (atoms, d), degrees side by side, components outermost in each."""
    return torch.cat([x.flatten(1) for x in features], dim=1)


class DegreeLinear(nn.Module):
    """``x_l @ weight_l`` for every degree that both sides have.

    Args:
        channels_in: channels of degree 0, 1, ...
        channels_out: channels of degree 0, 1, ... wanted.
    """

    def __init__(self, channels_in: Sequence[int], channels_out: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(channels_in, channels_out, strict=False)
        self.degrees = nn.ModuleList([Linear(n_in, n_out) for n_in, n_out in pairs])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Args: list over l of (atoms, 2l+1, n_in). Returns: list over l of (atoms, 2l+1, n_out)."""
        return [linear(x) for linear, x in zip(self.degrees, features, strict=False)]


class SpeciesDegreeLinear(nn.Module):
    """``x_l @ weight_l[z]``: a matrix for each element, as in a fully connected product with the one-hot element.

    Args:
        n_species: number of elements.
        channels_in: channels of degree 0, 1, ...
        channels_out: channels of degree 0, 1, ... wanted; degrees that only one side has are left out.
    """

    def __init__(self, n_species: int, channels_in: Sequence[int], channels_out: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(channels_in, channels_out, strict=False)
        self.weights = nn.ParameterList(
            [normal_parameter(n_species, n_in, n_out, deviation=1 / math.sqrt(n_in)) for n_in, n_out in pairs]
        )

    def forward(self, features: Sequence[Tensor], species: Tensor) -> list[Tensor]:
        """Args: list over l of (atoms, 2l+1, n_in), species (atoms,). Returns: list over l of (atoms, 2l+1, n_out)."""
        return [x.bmm(weight.index_select(0, species)) for x, weight in zip(features, self.weights, strict=False)]
