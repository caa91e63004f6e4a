"""Dense layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def normal_parameter(*shape: int, deviation: float) -> nn.Parameter:
    """Normally distributed weights; under ``torch.device("meta")`` only their shape, for a load that fills them.

    (Random numbers on the meta device would make PyTorch import its compiler, which takes seconds.)

    Args:
        shape: shape of the weights.
        deviation: standard deviation.
    """
    weight = torch.empty(shape)
    return nn.Parameter(weight if weight.is_meta else weight.normal_(std=deviation))


class Linear(nn.Module):
    """``x @ weight``: channel mixing without bias, the same for each component of an equivariant feature.

    The weight starts with variance ``1 / n_in``.

    Args:
        n_in: input channels.
        n_out: output channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = normal_parameter(n_in, n_out, deviation=1 / math.sqrt(max(n_in, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (..., n_in). Returns: (..., n_out)."""
        if x.dim() == 2:
            return torch.mm(x, self.weight)
        return torch.mm(x.reshape(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.weight.shape[1])


class SpeciesEmbedding(nn.Module):
    """Learned vector for each chemical element.

    Args:
        n_species: number of elements.
        channels: length of each vector.
        scale: standard deviation at the start.
    """

    def __init__(self, n_species: int, channels: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = normal_parameter(n_species, channels, deviation=scale)

    def forward(self, species: Tensor) -> Tensor:
        """Args: species (atoms,) indices. Returns: (atoms, channels)."""
        return self.weight.index_select(0, species)
