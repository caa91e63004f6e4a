"""Parameters that belong to one element each, which can be trained while what all elements share stays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from forcefield.nn.mlp import SpeciesEmbedding
from forcefield.potential import Potential


def element_tables(module: nn.Module) -> set[str]:
    """Names of the parameters that hold one row for each element."""
    return {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, SpeciesEmbedding)}


def freeze_shared(potential: Potential) -> None:
    """Take what all elements share out of the training.

    Raises:
        ValueError: nothing is left to train.
    """
    own = element_tables(potential)
    for name, parameter in potential.named_parameters():
        if name not in own:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in potential.parameters()):
        raise ValueError("the network has no parameters of single elements, so shared_rate cannot be 0; raise it")


def train_rows_of(potential: Potential, symbols: Sequence[str]) -> None:
    """Let the rows of these elements learn, and those of no other.

    Raises:
        ValueError: the model does not know an element.
    """
    numbers = [atomic_numbers[symbol] for symbol in symbols]
    unknown = [symbol for symbol, number in zip(symbols, numbers, strict=True) if number not in potential.elements]
    if unknown:
        raise ValueError(f"trained_elements: the model does not know {', '.join(unknown)}")
    rows = [list(potential.elements).index(number) for number in numbers]
    own = element_tables(potential)
    for name, parameter in potential.named_parameters():
        if name in own and parameter.requires_grad:
            _keep_other_rows(parameter, rows)


def _keep_other_rows(table: nn.Parameter, rows: list[int]) -> None:
    learns = torch.zeros(table.shape[0], 1)
    learns[rows] = 1.0

    def masked(gradient: Tensor) -> Tensor:
        return gradient * learns.to(gradient)

    table.register_hook(masked)
