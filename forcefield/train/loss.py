"""Loss on energy per atom, forces, stress and a teacher's atomic energies; missing labels count nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from forcefield.data.batches import Labels
from forcefield.derivatives import Prediction
from forcefield.graph import Graph
from forcefield.train.config import HuberThresholds, LossWeights

ROWS, COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
"""Tensor components in Voigt order."""


def differences(graph: Graph, prediction: Prediction, labels: Labels) -> dict[str, Tensor]:
    """Prediction minus label, NaN where there is no label.

    Returns:
        energy (structures,) in eV/atom, forces (atoms, 3) in eV/Å, stress (structures, 6) in eV/Å^3 and Voigt order,
        atomic_energies (atoms,) in eV.
    """
    return {
        "energy": (prediction.energy - labels.energy) / graph.atoms_per_structure(),
        "forces": prediction.forces - labels.forces,
        "stress": (prediction.stress - labels.stress)[:, ROWS, COLUMNS],
        "atomic_energies": prediction.energies - labels.atomic_energies,
    }


def huber(error: Tensor, threshold: float) -> Tensor:
    """Mean of ``e^2 / 2t`` where ``|e| < t`` and ``|e| - t / 2`` beyond, over what is labelled; 0 if nothing is."""
    error = error[~torch.isnan(error.detach())]
    if error.numel() == 0:
        return error.sum()
    size = error.abs()
    return torch.where(size < threshold, error * error / (2 * threshold), size - threshold / 2).mean()


def total_loss(errors: dict[str, Tensor], weights: LossWeights, thresholds: HuberThresholds) -> Tensor:
    """Weighted sum of the Huber losses."""
    parts = [
        getattr(weights, name) * huber(error, getattr(thresholds, name))
        for name, error in errors.items()
        if getattr(weights, name) > 0
    ]
    return torch.stack(parts).sum()
