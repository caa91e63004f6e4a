"""Layers with biases and the multilayer perceptron that most papers mean by "a neural network"."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from forcefield.nn.gate import SILU_RMS
from forcefield.nn.mlp import Linear

Activation = Callable[[Tensor], Tensor]


def scaled_silu(x: Tensor) -> Tensor:
    """``silu(x)`` divided by its root mean square for a standard normal x, so that variances are kept."""
    return nn.functional.silu(x) / SILU_RMS


class Dense(nn.Module):
    """``x @ weight + bias``; the weight starts with variance ``1 / n_in``, the bias at zero.

    Args:
        n_in: input channels.
        n_out: output channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = Linear(n_in, n_out)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (..., n_in). Returns: (..., n_out)."""
        return self.linear(x) + self.bias


class MLP(nn.Module):
    """Dense layers with an activation between any two of them, none after the last.

    Args:
        sizes: channels of the input, of each hidden layer and of the output.
        activation: function between the layers.
        last_scale: factor on the last layer's weights at the start.
    """

    def __init__(self, sizes: Sequence[int], *, activation: Activation = scaled_silu, last_scale: float = 1.0) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList([Dense(a, b) for a, b in zip(sizes, sizes[1:], strict=False)])
        self.layers[-1].get_parameter("linear.weight").data *= last_scale

    def forward(self, x: Tensor) -> Tensor:
        """Args: x (..., sizes[0]). Returns: (..., sizes[-1])."""
        for k, layer in enumerate(self.layers):
            x = layer(self.activation(x) if k else x)
        return x


class EnergyReadout(nn.Module):
    """Atomic energy from an atom's scalars by an MLP with one hidden layer.

    The last weights start ten times smaller than usual: forces of an untrained network stay of the order of 1 per Å.

    Args:
        channels: scalars.
        hidden: width of the hidden layer.
        activation: function after the hidden layer.
    """

    def __init__(self, channels: int, hidden: int, *, activation: Activation = scaled_silu) -> None:
        super().__init__()
        self.mlp = MLP([channels, hidden, 1], activation=activation, last_scale=0.1)

    def forward(self, scalars: Tensor) -> Tensor:
        """Args: scalars (atoms, channels). Returns: (atoms,)."""
        return self.mlp(scalars)[:, 0]
