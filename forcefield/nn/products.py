"""Products of equivariant features on atoms: pairs of components, then one small constant matrix per output degree."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from forcefield.nn.equivariant import clebsch_gordan, coupling_paths, register_constant


class ChannelProduct(nn.Module):
    """Couple two features channel by channel: ``(x (x) y)_L`` for every path ``(l1, l2) -> L`` of natural parity.

    The components are multiplied pair by pair, and a constant Clebsch-Gordan matrix maps the pairs to the outputs, so
    that all paths of one degree are one matrix product.

    Args:
        lmax: highest degree of both inputs, which hold (lmax + 1)^2 components.
        l_out: degrees wanted.
        symmetric: both inputs are the same tensor: half of the pairs and of the paths are enough.
    """

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
        for out in l_out:
            shape = ((2 * out + 1) * len(self.paths[out]), len(self.first))
            register_constant(self, f"coupling_{out}", shape, lambda out=out: self._coupling(out, symmetric))

    def _component_pairs(self, size: int, symmetric: bool) -> tuple[list[int], list[int]]:
        """Pairs of components that belong to at least one path."""
        degree = [int(np.sqrt(k)) for k in range(size)]
        used = {path for paths in self.paths.values() for path in paths}
        pairs = [
            (a, b)
            for a in range(size)
            for b in range(size)
            if (degree[a], degree[b]) in used and (not symmetric or a <= b)
        ]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def _coupling(self, out: int, symmetric: bool) -> np.ndarray:
        """Constant matrix (components * paths, pairs) of one degree; rows ordered by component, then path."""
        column = {pair: k for k, pair in enumerate(zip(self.first, self.second, strict=True))}
        paths = self.paths[out]
        matrix = np.zeros((2 * out + 1, len(paths), len(column)))
        for p, (l_first, l_second) in enumerate(paths):
            coefficients = clebsch_gordan(l_first, l_second, out)
            for a, b, m in np.argwhere(np.abs(coefficients) > 1e-12):
                pair = (l_first**2 + a, l_second**2 + b)
                if symmetric and pair[0] > pair[1]:
                    pair = pair[::-1]
                matrix[m, p, column[pair]] += coefficients[a, b, m]
        return matrix.reshape(-1, len(column))

    def forward(self, x: Tensor, y: Tensor) -> dict[int, Tensor]:
        """Args: x, y of shape (atoms, (lmax+1)^2, channels). Returns: L -> (atoms, 2L+1, paths * channels)."""
        n, _, channels = x.shape
        pairs = self.select_first.expand(n, -1, -1).bmm(x) * self.select_second.expand(n, -1, -1).bmm(y)
        outputs = {}
        for out in self.l_out:
            coupling = getattr(self, f"coupling_{out}")
            product = coupling.expand(n, -1, -1).bmm(pairs)  # (atoms, (2L+1) * paths, channels)
            outputs[out] = product.view(n, 2 * out + 1, len(self.paths[out]) * channels)
        return outputs
