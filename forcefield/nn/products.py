"""Products of equivariant features on atoms: pairs of components, then one small constant matrix per output degree."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from forcefield.nn.equivariant import clebsch_gordan, coupling_paths, register_constant

BLOCK = 4096
"""Columns (atoms times channels) handled at once, so that their pairs stay in the processor's cache."""


class ChannelProduct(nn.Module):
    """Couple two features channel by channel: ``(x (x) y)_L`` for every path ``(l1, l2) -> L`` of natural parity.

    The components are multiplied pair by pair, and a constant Clebsch-Gordan matrix maps the pairs to the outputs, so
    that all paths of one degree are one matrix product.

    Args:
        lmax: highest degree of both inputs, which hold (lmax + 1)^2 components.
        l_out: degrees wanted.
        symmetric: both inputs are the same tensor: half of the pairs and of the paths are enough.
    """

    select_first: Tensor
    select_second: Tensor
    coupling: Tensor
    first_index: Tensor
    second_index: Tensor

    def __init__(self, lmax: int, l_out: list[int], *, symmetric: bool = False) -> None:
        super().__init__()
        self.l_out = l_out
        degrees = list(range(lmax + 1))
        self.paths = {
            out: [(a, b) for a, b in coupling_paths(degrees, degrees, out) if not symmetric or a <= b] for out in l_out
        }
        size = (lmax + 1) ** 2
        self.first, self.second = self._component_pairs(size, symmetric)
        register_constant(self, "select_first", (len(self.first), size), lambda: np.eye(size)[self.first])
        register_constant(self, "select_second", (len(self.second), size), lambda: np.eye(size)[self.second])
        indices = {"first_index": self.first, "second_index": self.second}
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(index, device="cpu"), persistent=False)
        self.n_rows = sum((2 * out + 1) * len(self.paths[out]) for out in l_out)
        register_constant(self, "coupling", (self.n_rows, len(self.first)), lambda: self._coupling(symmetric))

    def _component_pairs(self, size: int, symmetric: bool) -> tuple[list[int], list[int]]:
        """Pairs of components that belong to at least one path."""
        degree = [int(np.sqrt(k)) for k in range(size)]
        used = {path for paths in self.paths.values() for path in paths}
        pairs = [
            (a, b)
            for a in range(size)
            for b in range(size)
            if (degree[a], degree[b]) in used and (not symmetric or a <= b) and (self.l_out != [0] or a == b)
        ]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def _coupling(self, symmetric: bool) -> np.ndarray:
        """Constant matrix (rows, pairs); rows ordered by degree, path, component."""
        column = {pair: k for k, pair in enumerate(zip(self.first, self.second, strict=True))}
        blocks = []
        for out in self.l_out:
            for l_first, l_second in self.paths[out]:
                block = np.zeros((2 * out + 1, len(column)))
                coefficients = clebsch_gordan(l_first, l_second, out)
                for a, b, m in np.argwhere(np.abs(coefficients) > 1e-12):
                    pair = (l_first**2 + a, l_second**2 + b)
                    if symmetric and pair[0] > pair[1]:
                        pair = pair[::-1]
                    block[m, column[pair]] += coefficients[a, b, m]
                blocks.append(block)
        return np.concatenate(blocks)

    def forward(self, x: Tensor, y: Tensor) -> dict[int, list[Tensor]]:
        """Couple on every atom and channel.

        Args:
            x: ((lmax+1)^2, atoms, channels), components first, so that a coupling is one large matrix product.
            y: same shape.

        Returns:
            L -> list over its paths of (2 L + 1, atoms, channels).
        """
        size, n, channels = x.shape
        flat = (size, n * channels)
        couple = _Couple.apply if type(x) is Tensor else self._couple  # blocks are of no use to a compiler's tensors
        rows = couple(x.reshape(flat), y.reshape(flat), self).view(self.n_rows, n, channels)
        parts = iter(rows.split([2 * out + 1 for out in self.l_out for _ in self.paths[out]]))
        return {out: [next(parts) for _ in self.paths[out]] for out in self.l_out}

    @staticmethod
    def _couple(x: Tensor, y: Tensor, product: ChannelProduct) -> Tensor:
        """What `_Couple` computes, in plain operations."""
        return product.coupling @ (x.index_select(0, product.first_index) * y.index_select(0, product.second_index))


class _Couple(torch.autograd.Function):
    """``coupling @ ((select_first @ x) * (select_second @ y))``, the pairs made block by block and never kept.

    Keeping the pairs for the gradient would cost five times the memory of the inputs; they are made again instead.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, product: ChannelProduct) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.product = product
        rows = x.new_empty(product.n_rows, x.shape[1])
        for start in range(0, x.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            pairs = x[:, block].index_select(0, product.first_index)
            pairs *= y[:, block].index_select(0, product.second_index)
            torch.mm(product.coupling, pairs, out=rows[:, block])
        return rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors
        product = ctx.product
        first, second = product.first_index, product.second_index
        to_first, to_second, transposed = product.select_first.T, product.select_second.T, product.coupling.T
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated: all at once, in plain operations
            weights = transposed @ gradient
            to_x = to_first @ (weights * y.index_select(0, second))
            return to_x, to_second @ (weights * x.index_select(0, first)), None
        to_x, to_y = torch.empty_like(x), torch.empty_like(y)
        for start in range(0, x.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            weights = transposed @ gradient[:, block]
            torch.mm(to_first, weights * y[:, block].index_select(0, second), out=to_x[:, block])
            torch.mm(to_second, weights.mul_(x[:, block].index_select(0, first)), out=to_y[:, block])
        return to_x, to_y, None
