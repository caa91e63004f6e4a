"""Fewer digits where they do not matter: TF32 and bfloat16 inside the network, nothing global changed for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor
from torch.nn import Module

from forcefield.graph import Graph
from forcefield.nn.products import ChannelProduct
from forcefield.potential import Potential

STORED = {"float32": torch.float32, "float64": torch.float64, "tf32": torch.float32, "bf16": torch.float32}
"""Type of the weights for each precision."""


class Autocast:
    """A potential whose network multiplies in bfloat16; its derivatives are taken in the types that come out of that.

    Energies, distances and sums over atoms are float64 and are left alone by autocast.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential

    def __call__(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Atomic energies (atoms,) in eV, float64."""
        with torch.autocast(vectors.device.type, torch.bfloat16, cache_enabled=False):
            return self.potential(graph, vectors)


def keep_products_exact(potential: Potential) -> None:
    """Have channel-wise products take float32: they are written by hand, and autocast does not see into them."""
    for module in potential.modules():
        if isinstance(module, ChannelProduct):
            module.register_forward_pre_hook(_as_stored)


def _as_stored(_: Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(values.to(torch.float32) for values in arguments)


def in_precision(potential: Potential, precision: str) -> Potential:
    """What `forcefield.derivatives.evaluate` shall be given: the potential, or the same in bfloat16."""
    return cast(Potential, Autocast(potential)) if precision == "bf16" else potential


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """TF32 for float32 matrix products on a GPU while the context lasts, if that is the precision."""
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
