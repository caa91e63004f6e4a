"""Sums over neighbours of ``radial weight * (features (x) spherical harmonics)``, the convolution of NequIP and MACE.

For a path (l1, l2) -> l3 and every channel c, with the weight w of an edge given by its length,

    out_i[m3, c] = sum_j sum_{m1, m2} C[m1, m2, m3] Y_l2[m2](r_ij) w_j[c] h_j[m1, c]

The coefficients C and the harmonics Y are contracted first, into a small matrix T_j[m1, m3] that all channels and all
layers share; the sum over neighbours and m1 is then one dense product per atom, ``T^T (m3, j m1) @ (w h) (j m1, c)``,
and no (edges, m3, channels) message is ever made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from forcefield.nn.equivariant import SphericalHarmonics, clebsch_gordan, coupling_paths, register_constant
from forcefield.nn.gate import SILU_RMS
from forcefield.nn.mlp import Linear
from forcefield.nn.radial import BesselBasis
from forcefield.nn.scatter import NeighbourTable

Path = tuple[int, int, int]
"""Degrees of the features, of the spherical harmonics and of the result."""


def convolution_paths(l_in: Sequence[int], lmax: int, l_out: Sequence[int], *, parity: bool = True) -> list[Path]:
    """Paths of natural parity, ordered by the degree of the result, then of the features, then of the harmonics.

    Args:
        l_in: degrees of the features.
        lmax: highest degree of the spherical harmonics.
        l_out: degrees of the result.
        parity: False for all paths, which give up the symmetry under reflections.
    """
    harmonics = list(range(lmax + 1))
    return [
        (first, second, out)
        for out in l_out
        for first, second in coupling_paths(list(l_in), harmonics, out, parity=parity)
    ]


class EdgeGeometry(nn.Module):
    """Radial basis and coupling matrices T of every edge, in the padded layout, shared by all layers.

    Args:
        radial: the radial basis.
        lmax: highest degree of the spherical harmonics.
        paths: every path that some layer uses.
        scale: factor on T, and so on every sum over neighbours.
    """

    def __init__(self, radial: BesselBasis, lmax: int, paths: Iterable[Path], *, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.radial, self.angular = radial, SphericalHarmonics(lmax)
        self.paths = sorted(set(paths))
        for path in self.paths:
            first, second, out = path
            if first:  # scalars are multiplied by the harmonics as they are
                shape = (2 * second + 1, (2 * first + 1) * (2 * out + 1))
                register_constant(self, self._name(path), shape, partial(self._coupling, path))

    @staticmethod
    def _name(path: Path) -> str:
        return "coupling_{}_{}_{}".format(*path)

    @staticmethod
    def _coupling(path: Path) -> np.ndarray:
        """(2 l2 + 1, (2 l1 + 1)(2 l3 + 1)): maps the harmonics to T."""
        return clebsch_gordan(*path).transpose(1, 0, 2).reshape(2 * path[1] + 1, -1)

    def forward(self, vectors: Tensor, table: NeighbourTable) -> tuple[Tensor, dict[Path, Tensor]]:
        """Evaluate the edges.

        Args:
            vectors: (edges, 3) from centre to neighbour (Å).
            table: layout of the edges.

        Returns:
            radial basis (centres * slots, n_radial), zero in empty slots, and
            path -> T of shape (centres, slots * (2 l1 + 1), 2 l3 + 1).
        """
        n, slots = table.n_centres, table.n_slots
        beyond = vectors.new_tensor([2 * self.radial.cutoff, 0.0, 0.0])
        padded = table.pad(vectors, beyond).view(n * slots, 3)
        distance = (padded * padded).sum(1).sqrt()
        harmonics = [y * self.scale for y in self.angular(padded / distance[:, None])]
        couplings = {}
        for path in self.paths:
            first, second, out = path
            harmonic = harmonics[second]  # (centres * slots, 2 l2 + 1)
            mixed = harmonic @ getattr(self, self._name(path)) if first else harmonic
            couplings[path] = mixed.view(n, slots * (2 * first + 1), 2 * out + 1)
        return self.radial(distance), couplings


class RadialWeights(nn.Module):
    """MLP without biases from the radial basis to the weights of an edge; it gives zero, smoothly, at the cutoff.

    Args:
        n_radial: radial functions.
        hidden: widths of the hidden layers.
        n_weights: weights per edge.
    """

    def __init__(self, n_radial: int, hidden: Sequence[int], n_weights: int) -> None:
        super().__init__()
        sizes = [n_radial, *hidden, n_weights]
        layers = [Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
        for layer in layers[1:]:
            layer.weight.data /= SILU_RMS  # keeps the variance through the activation
        self.layers = nn.ModuleList(layers)

    def damp(self, factor: float) -> None:
        """Make the weights of the last layer, and so those of the edges, smaller at the start."""
        self.layers[-1].get_parameter("weight").data *= factor

    def forward(self, basis: Tensor) -> Tensor:
        """Args: basis (edges, n_radial). Returns: (edges, n_weights)."""
        x = self.layers[0](basis)
        for layer in self.layers[1:]:
            x = layer(nn.functional.silu(x))
        return x


class Convolution(nn.Module):
    """The sum of the module's formula over all paths of a layer, one weight per edge, path and channel ('uvu').

    Args:
        channels: channels of the features of degree 0, 1, ...
        lmax: highest degree of the spherical harmonics.
        l_out: degrees wanted.
        n_radial: radial functions.
        radial_hidden: widths of the radial MLP.
        parity: False for paths of any parity, see `convolution_paths`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        lmax: int,
        l_out: Sequence[int],
        *,
        n_radial: int,
        radial_hidden: Sequence[int],
        parity: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.l_out = list(channels), list(l_out)
        self.paths = convolution_paths(range(len(self.channels)), lmax, self.l_out, parity=parity)
        self.widths = [self.channels[first] for first, _, _ in self.paths]
        self.weights = RadialWeights(n_radial, radial_hidden, sum(self.widths))

    @property
    def out_channels(self) -> list[int]:
        """Channels of the result for each degree in ``l_out``: those of all its paths, side by side."""
        widths = zip(self.paths, self.widths, strict=True)
        total = {out: 0 for out in self.l_out}
        for (_, _, out), width in widths:
            total[out] += width
        return [total[out] for out in self.l_out]

    def forward(
        self, messages: Tensor, basis: Tensor, couplings: Mapping[Path, Tensor], table: NeighbourTable
    ) -> list[Tensor]:
        """Sum over neighbours.

        Args:
            messages: (atoms, sum_l (2l+1) channels_l), degrees side by side, components outermost in each.
            basis: (centres * slots, n_radial).
            couplings: path -> (centres, slots * (2 l1 + 1), 2 l3 + 1).
            table: layout of the edges.

        Returns:
            list over ``l_out`` of (centres, 2l+1, channels), the channels of all paths side by side.
        """
        n, slots = table.n_centres, table.n_slots
        sizes = [(2 * l + 1) * c for l, c in enumerate(self.channels)]
        received = [
            part.view(n, slots, 2 * l + 1, c)
            for l, (part, c) in enumerate(zip(table.gather(messages).split(sizes, dim=2), self.channels, strict=True))
        ]
        weights = self.weights(basis).view(n, slots, 1, sum(self.widths)).split(self.widths, dim=3)
        sums: dict[int, list[Tensor]] = {out: [] for out in self.l_out}
        for path, weight in zip(self.paths, weights, strict=True):
            first, _, out = path
            weighted = (weight * received[first]).view(n, slots * (2 * first + 1), self.channels[first])
            sums[out].append(couplings[path].transpose(1, 2).bmm(weighted))
        return [torch.cat(sums[out], dim=2) for out in self.l_out]
