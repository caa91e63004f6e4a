"""Tensors for a head from those that a body carries inside, where it has them.

With x_i the body's features of degree 0 (a network of its invariants h_i), 1, ..., L, the part of degree l is

    T_i^l = W_l [ (A x_i) (x) (B x_i) ]^l

channel by channel, through the Clebsch-Gordan coefficients of every path of natural parity. Paths with a degree of 0 on
one side make it linear in the body's tensors, with factors that depend on the invariants; the others reach degrees up
to 2 L: two vectors of PaiNN make a polarisability, two degree-2 features of NequIP the degree-4 part of a stiffness.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from forcefield.nn.dense import MLP
from forcefield.nn.mlp import Linear
from forcefield.nn.products import ChannelProduct

WIDTH = 16
"""Channels of the products."""


class BodyTensors(nn.Module):
    """Products of a body's tensors; see the module's formula.

    Args:
        channels: invariants of an atom.
        tensor_channels: channels of the body's features of degree 1, 2, ..., L.
        hidden: width of the network of the invariants.
        degrees: degree of each part wanted, all positive; those above 2 L are left out.
    """

    def __init__(self, channels: int, tensor_channels: Sequence[int], hidden: int, degrees: Sequence[int]) -> None:
        super().__init__()
        lmax = len(tensor_channels)
        self.wanted = {l: [k for k, degree in enumerate(degrees) if degree == l] for l in sorted(set(degrees))}
        self.wanted = {l: parts for l, parts in self.wanted.items() if l <= 2 * lmax}
        self.scalars = MLP([channels, hidden, 2 * WIDTH])
        self.tensors = nn.ModuleList([Linear(n, 2 * WIDTH) for n in tensor_channels])
        self.product = ChannelProduct(lmax, list(self.wanted))
        self.mix = nn.ModuleList(
            [Linear(len(self.product.paths[l]) * WIDTH, len(parts)) for l, parts in self.wanted.items()]
        )

    def forward(self, features: Tensor, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
        """Args: features (atoms, channels), tensors over l of (atoms, 2l+1, n). Returns: part -> (atoms, 2l+1)."""
        mixed = [linear(x) for linear, x in zip(self.tensors, tensors, strict=True)]
        x = torch.cat([self.scalars(features)[:, None], *mixed], dim=1).transpose(0, 1)  # (components, atoms, 2 WIDTH)
        products = self.product(*x.split(WIDTH, dim=2))
        found: dict[int, Tensor] = {}
        for (l, parts), mix in zip(self.wanted.items(), self.mix, strict=True):
            values = mix(torch.cat(products[l], dim=2))  # (2l+1, atoms, parts)
            found |= {part: values[..., k].T for k, part in enumerate(parts)}
        return found
