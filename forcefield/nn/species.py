"""Atomic numbers to consecutive species indices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MAX_NUMBER = 118


class SpeciesIndex(nn.Module):
    """Table from atomic number to the row of an element in a network's embeddings.

    Args:
        elements: atomic numbers known, each once.

    Raises:
        ValueError: an element is given twice or is no atomic number.
    """

    row: Tensor

    def __init__(self, elements: Sequence[int]) -> None:
        super().__init__()
        numbers = [int(z) for z in elements]
        if len(set(numbers)) != len(numbers) or any(not 1 <= z <= MAX_NUMBER for z in numbers):
            raise ValueError(f"elements must be distinct atomic numbers from 1 to {MAX_NUMBER}, got {numbers}")
        self.elements = tuple(numbers)
        row = torch.zeros(MAX_NUMBER + 1, dtype=torch.int64, device="cpu")
        for index, number in enumerate(numbers):
            row[number] = index
        self.register_buffer("row", row, persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        """Args: numbers (atoms,), all known. Returns: (atoms,) indices."""
        return self.row.index_select(0, numbers)
