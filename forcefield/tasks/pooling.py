"""From atoms to the structure: sum, mean, attention, set2set; all blind to the order of the atoms.

Weights of the last three add to one in each structure, so a supercell gives the same as its cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forcefield.nn.dense import MLP, Dense
from forcefield.nn.scatter import scatter_sum


def structure_sum(values: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Args: values (atoms, ...), batch (atoms,) structure of each. Returns: (structures, ...)."""
    return scatter_sum(values, batch, n_structures)


def structure_mean(values: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Args: values (atoms, ...), batch (atoms,) structure of each. Returns: (structures, ...)."""
    size = torch.bincount(batch, minlength=n_structures).to(values.dtype)
    return scatter_sum(values, batch, n_structures) / size.view(-1, *[1] * (values.dim() - 1))


def structure_softmax(scores: Tensor, batch: Tensor, n_structures: int) -> Tensor:
    """Positive weights that add to one in each structure.

    Args:
        scores: (atoms,).
        batch: (atoms,) structure of each.
        n_structures: number of structures.

    Returns:
        (atoms,).
    """
    lowest = torch.full((n_structures,), -torch.inf, dtype=scores.dtype, device=scores.device)
    highest = lowest.scatter_reduce(0, batch, scores.detach(), "amax")
    weights = torch.exp(scores - highest.index_select(0, batch))
    return weights / scatter_sum(weights, batch, n_structures).index_select(0, batch)


class Attention(nn.Module):
    """Weighted mean over the atoms, with weights ``softmax(network(features))``.

    Args:
        channels: features of an atom.
        hidden: width of the network.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.score = MLP([channels, hidden, 1])

    def weights(self, features: Tensor, batch: Tensor, n_structures: int) -> Tensor:
        """Args: features (atoms, channels). Returns: (atoms,), adding to one in each structure."""
        return structure_softmax(self.score(features)[:, 0], batch, n_structures)

    def forward(self, features: Tensor, batch: Tensor, n_structures: int) -> Tensor:
        """Args: features (atoms, channels). Returns: (structures, channels)."""
        weights = self.weights(features, batch, n_structures)
        return scatter_sum(weights[:, None] * features, batch, n_structures)


class Set2Set(nn.Module):
    """A recurrent network (LSTM) asks the set several times: its state is the query, the answer a weighted mean.

    ``a_i = softmax(h_i . q), r = sum_i a_i h_i, q' = LSTM(q, r)``; the result is q and r side by side. One query is the
    atoms' mean, later ones depend on what was found before.

    Args:
        channels: features of an atom.
        steps: queries.

    References:
        Vinyals, Bengio, Kudlur, ICLR 2016, arXiv:1511.06391, section 4.2.
    """

    def __init__(self, channels: int, *, steps: int = 3) -> None:
        super().__init__()
        self.channels, self.steps = channels, steps
        self.gates = Dense(2 * channels, 4 * channels)

    def forward(self, features: Tensor, batch: Tensor, n_structures: int) -> Tensor:
        """Args: features (atoms, channels). Returns: (structures, 2 channels)."""
        query = features.new_zeros(n_structures, self.channels)
        cell, found = query, query
        for _ in range(self.steps):
            keep, write, show, new = self.gates(torch.cat([query, found], dim=1)).chunk(4, dim=1)
            cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(write) * torch.tanh(new)
            query = torch.sigmoid(show) * torch.tanh(cell)
            scores = (features * query.index_select(0, batch)).sum(1)
            weights = structure_softmax(scores, batch, n_structures)
            found = scatter_sum(weights[:, None] * features, batch, n_structures)
        return torch.cat([query, found], dim=1)
