"""Loss on products of the Hessian with directions, and how soft a potential is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from forcefield.data.batches import FEWEST_SLOTS
from forcefield.derivatives import second_derivative
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.potential import Potential
from forcefield.train.config import HessianLoss
from forcefield.train.hessian_labels import HessianLabels, read_hessian_labels


class HessianTask:
    """Hessian labels in batches.

    Args:
        settings: entries of the configuration.
        cutoff: of the network (Å).
        elements: atomic numbers that the network knows.
        slots: batch size in padded edges.
        seed: of the order of batches.

    Raises:
        ValueError: the file cannot be used, or has elements unknown to the model.
    """

    def __init__(self, settings: HessianLoss, *, cutoff: float, elements: Sequence[int], slots: int, seed: int) -> None:
        self.settings = settings
        self.labels = read_hessian_labels(settings.file)
        unknown = sorted(set(self.labels.numbers.tolist()) - set(elements))
        if unknown:
            names = ", ".join(chemical_symbols[z] for z in unknown)
            raise ValueError(f"{settings.file} has the elements {names}, which the model does not know")
        count = len(self.labels.n_atoms)
        self.graphs = [graph_from_atoms(self.labels.atoms(k), cutoff) for k in range(count)]
        self.cost = np.array([_padded_edges(graph) for graph in self.graphs])
        self.seed = seed
        self.plan = self._plan(settings.slots or max(slots // 3, 1))

    def _plan(self, slots: int) -> list[NDArray[np.int64]]:
        """Batches of samples ``structure * directions + direction``, of at most ``slots`` padded edges each."""
        n_directions = len(self.labels.directions)
        order = np.random.default_rng(self.seed).permutation(len(self.graphs) * n_directions)
        batches: list[list[int]] = [[]]
        filled = 0
        for sample in order:
            cost = int(self.cost[sample // n_directions])
            if batches[-1] and filled + cost > slots:
                batches.append([])
                filled = 0
            batches[-1].append(int(sample))
            filled += cost
        return [np.array(batch, dtype=np.int64) for batch in batches]

    def batch(self, number: int) -> NDArray[np.int64]:
        """The samples of the n-th batch since the start of the run; every pass through the plan has its own order."""
        turn, place = divmod(number, len(self.plan))
        return self.plan[np.random.default_rng([self.seed, turn]).permutation(len(self.plan))[place]]

    def structure_cost(self) -> NDArray[np.int64]:
        """(samples,) cost of every sample."""
        return np.repeat(self.cost, len(self.labels.directions))

    def load(self, samples: NDArray[np.int64], device: str) -> tuple[Graph, Sample]:
        """Structures of the samples as one batch, with what they are labelled with."""
        structures, directions = np.divmod(samples, len(self.labels.directions))
        rows = [self.labels.rows(int(k)) for k in structures]

        def joined(values: NDArray[np.float64]) -> Tensor:
            parts = [values[d, row] for d, row in zip(directions, rows, strict=True)]
            return torch.from_numpy(np.concatenate(parts)).to(device)

        def of_cells(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values[directions, structures]).to(device)

        graph = collate([self.graphs[int(k)] for k in structures]).to(device)
        atoms = joined(self.labels.directions), joined(self.labels.products)
        return graph, Sample(*atoms, of_cells(self.labels.strains), of_cells(self.labels.virials))

    def differences(self, potential: Potential, samples: NDArray[np.int64], device: str) -> Tensor:
        """Predicted minus labelled products, to be differentiated.

        Returns:
            (atoms + 3 structures, 3): minus the changes of forces in eV/Å^2, then those of stresses in eV per atom,
            `stress_factor` times; NaN where there is no label.
        """
        graph, sample = self.load(samples, device)
        products, changes = second_derivative(potential, graph, sample.directions, sample.strains, training=True)
        size = torch.bincount(graph.batch, minlength=graph.n_structures)[:, None, None]
        virials = (changes - graph.volume[:, None, None] * sample.virials) / size
        return torch.cat([products - sample.products, self.settings.stress_factor * virials.reshape(-1, 3)])


@dataclass(frozen=True)
class Sample:
    """Labels of a batch: directions and products (atoms, 3), strains and virials (structures, 3, 3)."""

    directions: Tensor
    products: Tensor
    strains: Tensor
    virials: Tensor


def _padded_edges(graph: Graph) -> int:
    counts = torch.bincount(graph.edge_index[0], minlength=graph.n_atoms)
    return graph.n_atoms * max(int(counts.max()), FEWEST_SLOTS)


@dataclass(frozen=True)
class HessianErrors:
    """How well a potential does on Hessian labels.

    Attributes:
        mae: mean absolute error of the components of products (eV/Å^2).
        softening: slope of predicted over labelled curvatures ``v H v``, through the origin; below 1 is too soft.
        label_size: mean absolute label (eV/Å^2).
        elastic_mae: mean absolute error of the stresses that strains bring about, for a strain of norm one (eV/Å^3).
        elastic_softening: slope of predicted over labelled energies of strains; both NaN without strains.
    """

    mae: float
    softening: float
    label_size: float
    elastic_mae: float
    elastic_softening: float


def hessian_errors(potential: Potential, labels: HessianLabels, *, device: str = "cpu") -> HessianErrors:
    """Errors of a potential on Hessian labels, structure by structure and direction by direction."""
    errors, sizes, curvatures, elastic, energies = [], [], [], [], []
    for k in range(len(labels.n_atoms)):
        graph = graph_from_atoms(labels.atoms(k), potential.cutoff).to(device)
        for d, direction in enumerate(labels.directions):
            v, label, strain = direction[labels.rows(k)], labels.products[d, labels.rows(k)], labels.strains[d, k]
            given = torch.from_numpy(v).to(device), torch.from_numpy(strain[None]).to(device)
            products, changes = (x.detach().cpu().numpy() for x in second_derivative(potential, graph, *given))
            errors.append(np.abs(products - label).ravel())
            sizes.append(np.abs(label).ravel())
            norm = np.linalg.norm(strain)
            if norm == 0:
                curvatures.append(((v * products).sum(), (v * label).sum()))
            else:
                found = changes[0] / float(graph.volume[0])
                elastic.append(np.abs(found - labels.virials[d, k]).ravel() / norm)
                energies.append(((strain * found).sum(), (strain * labels.virials[d, k]).sum()))
    return HessianErrors(
        mae=float(np.concatenate(errors).mean()),
        softening=_slope(curvatures),
        label_size=float(np.concatenate(sizes).mean()),
        elastic_mae=float(np.concatenate(elastic).mean()) if elastic else math.nan,
        elastic_softening=_slope(energies),
    )


def _slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Slope of the first over the second values, through the origin; NaN if there are none."""
    if not pairs:
        return math.nan
    predicted, wanted = np.array(pairs).T
    return float((predicted * wanted).sum() / (wanted * wanted).sum())
