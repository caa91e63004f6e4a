"""Whether a network trains at all: how far it learns a few labelled structures by heart, and in what time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from torch import Tensor, nn

from forcefield.derivatives import Prediction, evaluate
from forcefield.graph import collate, graph_from_atoms
from forcefield.potential import Potential
from forcefield.train.optimizer import Optimizers

ENERGY_TARGET, FORCES_TARGET = 5e-3, 20e-3
"""Mean absolute errors (eV/atom, eV/Å) at which structures count as learned."""

ENERGY_WEIGHT = 10.0
ENERGY_THRESHOLD, FORCES_THRESHOLD = 0.05, 0.1
"""Of the Huber losses (eV/atom, eV/Å)."""

WARM_UP, PLATEAU = 20, 0.3
"""Steps in which the learning rate rises, and the share of all steps after which it falls."""

LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Overfit:
    """What a network has learned by heart.

    Attributes:
        energy: mean absolute error of the energy (eV/atom).
        forces: mean absolute error of the force components (eV/Å).
        steps: steps of the optimiser.
        seconds: processor time.
    """

    energy: float
    forces: float
    steps: int
    seconds: float

    def within(self, energy: float = ENERGY_TARGET, forces: float = FORCES_TARGET) -> bool:
        """Whether both errors are below the given ones (eV/atom, eV/Å)."""
        return self.energy < energy and self.forces < forces


def overfit(
    network: nn.Module,
    structures: Sequence[ase.Atoms],
    *,
    steps: int = 150,
    learning_rate: float = 0.01,
    optimizer: str = "muon",
) -> Overfit:
    """Train a network on all structures at once until it knows them, or for so many steps.

    The energies of the elements are fitted to the structures; the rest, energies and forces, is left to the network.

    Args:
        network: float32, knows the elements; its weights are changed.
        structures: with energies (eV) and forces (eV/Å), as from a calculator.
        steps: most steps; the learning rate is planned for as many.
        learning_rate: peak learning rate.
        optimizer: as in a training configuration.

    Raises:
        ValueError: there is no structure, or an element that the network does not know.
    """
    task = _Task(network, structures)
    optimizers = Optimizers(network, optimizer, learning_rate)
    start = time.process_time()
    for step in range(steps):
        prediction = evaluate(task.potential, task.graph, training=True)
        energy_error, force_error = task.errors(prediction)
        loss = ENERGY_WEIGHT * _huber(energy_error, ENERGY_THRESHOLD) + _huber(force_error, FORCES_THRESHOLD)
        reached = Overfit(
            float(energy_error.detach().abs().mean()),
            float(force_error.detach().abs().mean()),
            step,
            time.process_time() - start,
        )
        if reached.within():
            return reached
        optimizers.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizers.set_learning_rate(learning_rate * _course(step, steps))
        optimizers.step()
    energy_error, force_error = task.errors(evaluate(task.potential, task.graph))
    seconds = time.process_time() - start
    return Overfit(float(energy_error.abs().mean()), float(force_error.abs().mean()), steps, seconds)


class _Task:
    """Structures with their labels, and a potential with the elements' energies fitted to them."""

    def __init__(self, network: nn.Module, structures: Sequence[ase.Atoms]) -> None:
        if not structures:
            raise ValueError("there is no structure to learn; give at least one with energy and forces")
        elements = sorted({int(z) for atoms in structures for z in atoms.numbers})
        known = tuple(network.elements)  # type: ignore[arg-type]
        unknown = [z for z in elements if z not in known]
        if unknown:
            raise ValueError(f"the network knows the atomic numbers {known}, but the structures have {unknown} too")
        counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in structures])
        energies = np.array([atoms.get_potential_energy() for atoms in structures])
        fitted = np.linalg.lstsq(counts, energies, rcond=None)[0]
        bound = dict.fromkeys(known, 0.0) | dict(zip(elements, fitted.tolist(), strict=True))
        self.potential = Potential(network, isolated_energies=dict.fromkeys(known, 0.0), bound_energies=bound)
        self.graph = collate([graph_from_atoms(atoms, self.potential.cutoff) for atoms in structures])
        self.energy, self.n_atoms = torch.from_numpy(energies), torch.from_numpy(counts.sum(axis=1))
        self.forces = torch.from_numpy(np.concatenate([atoms.get_forces() for atoms in structures]))

    def errors(self, prediction: Prediction) -> tuple[Tensor, Tensor]:
        """Of the energy per atom (structures,), eV, and of the forces (atoms, 3), eV/Å."""
        return (prediction.energy - self.energy) / self.n_atoms, prediction.forces - self.forces


def _course(step: int, steps: int) -> float:
    """Learning rate as a share of its peak: rising, level, falling to zero as a cosine."""
    progress = step / steps
    falling = 0.5 * (1 + math.cos(math.pi * (progress - PLATEAU) / (1 - PLATEAU))) if progress > PLATEAU else 1.0
    return min((step + 1) / WARM_UP, 1.0) * falling


def _huber(error: Tensor, threshold: float) -> Tensor:
    return nn.functional.huber_loss(error, torch.zeros_like(error), delta=threshold)
