"""How far a structure lies from the training data, and what force error to expect there.

Every atom's environment is a point: the network's descriptors, and three plain geometric numbers that no layer of the
network can saturate (nearest neighbour, contacts, crowding, lengths in units of covalent radii). The point is whitened
with the covariance of the training data and compared with landmarks, centres of the training environments of the same
element: the distance to the nearest one says how unusual the atom is. A percentile against held-out training frames
makes it a verdict; the force error is calibrated against validation frames, and grows with the force itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray
from torch import Tensor

from forcefield.graph import Graph
from forcefield.nn.radial import smooth_cutoff
from forcefield.nn.scatter import scatter_sum

Array = NDArray[np.float64]

INSIDE, EDGE, OUTSIDE = "inside", "at the edge", "outside"
EDGE_PERCENTILE, OUTSIDE_PERCENTILE = 99.0, 99.7
"""Percentiles of held-out training environments above which an atom is at the edge of, or outside, the data.

The last few of a thousand are the strangest frames of a training set; beyond them is too far out to be a limit.
"""

FAR_SHARE = 0.01
"""Of the atoms: more than these outside the data, and the structure is far from them."""

FAR = 3.0
"""Nearest distance that an atom without neighbours counts with, in sums of covalent radii."""
CROWDING_DECAY = 4.0
CROWDING_FLOOR = 1.0e-3
GEOMETRIC = ("nearest", "contacts", "crowding")


class DoubtfulAtom(NamedTuple):
    """An atom by its number, with distance, percentile against training data and expected force error (eV/Å)."""

    number: int
    symbol: str
    distance: float
    percentile: float
    force_error: float


@dataclass(frozen=True)
class Confidence:
    """How far the atoms of a structure are from the training data.

    Attributes:
        numbers: (atoms,) atomic numbers.
        distance: (atoms,) to the nearest landmark, in standard deviations of the training data; infinite for an
            element of which no training frame was seen.
        percentile: (atoms,) share of held-out training environments that are nearer (0 to 100).
        force_error: (atoms,) expected size of the error of the force (eV/Å).
        outside_distance: distance from which on an atom is outside the data.
        edge_distance: distance from which on an atom is at the edge of the data.
    """

    numbers: NDArray[np.int64]
    distance: Array
    percentile: Array
    force_error: Array
    outside_distance: float
    edge_distance: float

    @property
    def verdict(self) -> str:
        """That of the worst atom: "inside", "at the edge" or "outside" the training data."""
        worst = self.distance.max(initial=0.0)
        return OUTSIDE if worst > self.outside_distance else EDGE if worst > self.edge_distance else INSIDE

    @property
    def n_outside(self) -> int:
        """Number of atoms outside the training data."""
        return int(np.count_nonzero(self.distance > self.outside_distance))

    @property
    def is_far(self) -> bool:
        """Whether so many atoms are outside the training data that it is no matter of a rare one (`FAR_SHARE`)."""
        return self.n_outside > FAR_SHARE * len(self.numbers)

    def worst(self, shown: int = 5) -> list[DoubtfulAtom]:
        """The atoms farthest from the training data, the farthest first."""
        order = np.argsort(-self.distance, kind="stable")[:shown]
        return [
            DoubtfulAtom(
                int(k),
                chemical_symbols[self.numbers[k]],
                float(self.distance[k]),
                float(self.percentile[k]),
                float(self.force_error[k]),
            )
            for k in order
        ]

    def message(self, shown: int = 3) -> str:
        """One sentence: the verdict, the worst atoms, and the force error to expect."""
        if self.verdict == INSIDE:
            return f"all {len(self.numbers)} environments are inside the training data"
        limit = self.outside_distance if self.verdict == OUTSIDE else self.edge_distance
        count = int(np.count_nonzero(self.distance > limit))
        named = ", ".join(f"{a.number} {a.symbol} ({a.distance:.1f})" for a in self.worst(min(shown, count)))
        return (
            f"{count} of {len(self.numbers)} atoms {'is' if count == 1 else 'are'} {self.verdict} the training data "
            f"(distance above {limit:.1f}: {named}); expect force errors up to about {self.force_error.max():.2g} eV/Å"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; an infinite distance is None."""
        return {
            "verdict": self.verdict,
            "atoms_outside": self.n_outside,
            "largest_distance": _finite(self.distance.max(initial=0.0)),
            "edge_distance": self.edge_distance,
            "outside_distance": self.outside_distance,
            "mean_force_error": float(self.force_error.mean()),
            "max_force_error": float(self.force_error.max()),
            "worst": [{**atom._asdict(), "distance": _finite(atom.distance)} for atom in self.worst()],
            "distance": [_finite(value) for value in self.distance],
            "percentile": self.percentile.tolist(),
            "force_error": self.force_error.tolist(),
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class TrainingDomain:
    """What a model's training data covered.

    Attributes:
        elements: (elements,) atomic numbers of which there are landmarks, sorted.
        centre: (features,) mean of the training data.
        transform: (features, features) that whitens: ``point = (features - centre) @ transform``.
        landmarks: (elements, landmarks, features) whitened centres of training environments.
        percentages: (knots,) from 0 to 100, increasing.
        quantiles: (knots,) distance below which that percentage of held-out training environments lies.
        coefficients: (3,) of the log force error: constant, log (force + floor), log distance.
        offsets: (elements,) of the log force error.
        floor: force (eV/Å) below which a smaller force means no smaller error.
        scores: (bins,) log force errors as the formula gives them, increasing.
        errors: (bins,) mean force error found in validation frames (eV/Å), not decreasing.
        cutoff: neighbour radius (Å) of the model.
        facts: how it was made, and how good it is.
    """

    elements: NDArray[np.int64]
    centre: Array
    transform: Array
    landmarks: Array
    percentages: Array
    quantiles: Array
    coefficients: Array
    offsets: Array
    floor: float
    scores: Array
    errors: Array
    cutoff: float
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def judge(self, graph: Graph, descriptors: Tensor, forces: Array) -> Confidence:
        """Judge every atom of a graph.

        Args:
            graph: one structure.
            descriptors: (atoms, channels) of the network.
            forces: (atoms, 3) predicted (eV/Å).
        """
        numbers = graph.numbers.cpu().numpy()
        distance = self.distances(features(graph, descriptors, self.cutoff), numbers)
        if graph.n_atoms == 1 and graph.n_edges == 0:
            distance[:] = 0.0  # the free atom: exactly its reference energy, and no force
        percentile = self.percentile(distance)
        error = self.force_error(distance, np.linalg.norm(forces, axis=1), numbers)
        if graph.n_atoms == 1 and graph.n_edges == 0:
            error[:] = 0.0
        return Confidence(numbers, distance, percentile, error, self.outside_distance, self.edge_distance)

    @property
    def outside_distance(self) -> float:
        """Distance beyond which an atom is outside the data."""
        return float(np.interp(OUTSIDE_PERCENTILE, self.percentages, self.quantiles))

    @property
    def edge_distance(self) -> float:
        """Distance beyond which an atom is at the edge of the data."""
        return float(np.interp(EDGE_PERCENTILE, self.percentages, self.quantiles))

    def distances(self, points: NDArray[np.floating[Any]], numbers: NDArray[np.int64]) -> Array:
        """Distance of each atom (atoms,) to the nearest landmark of its element, from `features` (atoms, features)."""
        whitened = (points - self.centre) @ self.transform
        found = np.full(len(points), np.inf)
        for number in np.unique(numbers):
            k = int(np.searchsorted(self.elements, number))
            if k < len(self.elements) and self.elements[k] == number:
                atoms = numbers == number
                found[atoms] = nearest(whitened[atoms], self.landmarks[k])[0]
        return found

    def percentile(self, distance: Array) -> Array:
        """Share of held-out training environments (0 to 100) that are nearer."""
        return np.asarray(np.interp(distance, self.quantiles, self.percentages))

    def force_error(self, distance: Array, force: Array, numbers: NDArray[np.int64]) -> Array:
        """Expected size of the force's error (atoms,) in eV/Å, from distance, force (eV/Å) and element.

        Beyond the largest score of the validation frames it continues in proportion to the exponential of the score,
        from the last value measured. An infinite distance counts as ten times that where the data end.
        """
        bounded = np.minimum(distance, 10.0 * self.outside_distance)
        score = self.score(bounded, force, numbers)
        inner = np.interp(score, self.scores, self.errors)
        beyond = np.where(score > self.scores[-1], score - self.scores[-1], 0.0)
        below = np.where(score < self.scores[0], score - self.scores[0], 0.0)
        return np.asarray(inner * np.exp(beyond + below))

    def score(self, distance: Array, force: Array, numbers: NDArray[np.int64]) -> Array:
        """Logarithm of the force error (atoms,) before it is calibrated."""
        k = np.minimum(np.searchsorted(self.elements, numbers), len(self.elements) - 1)
        offset = np.where(self.elements[k] == numbers, self.offsets[k], 0.0)
        return np.asarray(log_terms(distance, force, self.floor) @ self.coefficients + offset)


def log_terms(distance: Array, force: Array, floor: float) -> Array:
    """Columns (atoms, 3) that the log force error is linear in: 1, log (force + floor), log distance."""
    return np.stack([np.ones_like(force), np.log(force + floor), np.log(distance + 1.0e-3)], axis=1)


def nearest(points: Array, landmarks: Array) -> tuple[Array, NDArray[np.int64]]:
    """Distance (points,) of each point (points, features) to the nearest landmark, and which it is."""
    squares = (landmarks**2).sum(axis=1) - 2.0 * points @ landmarks.T  # (points, landmarks)
    which = squares.argmin(axis=1)
    return np.linalg.norm(points - landmarks[which], axis=1), which


def features(graph: Graph, descriptors: Tensor, cutoff: float) -> Array:
    """Descriptors and geometric numbers of every atom, (atoms, channels + 3)."""
    return np.concatenate([descriptors.double().cpu().numpy(), geometry(graph, cutoff).cpu().numpy()], axis=1)


def geometry(graph: Graph, cutoff: float) -> Tensor:
    """Logarithms of nearest distance, contacts and crowding of every atom, (atoms, 3).

    With ``x_ij = r_ij / (R_i + R_j)`` (covalent radii R): the smallest x; ``1 + sum_j u(r_ij)`` with the smooth cutoff
    u of the model's neighbour radius (Å); and ``0.001 + sum_j exp(4 (1 - x_ij))``.
    """
    i, j = graph.edge_index
    length = graph.edge_lengths()
    radii = torch.as_tensor(covalent_radii, dtype=length.dtype, device=length.device)[graph.numbers]
    ratio = length / (radii[i] + radii[j])
    closest = torch.full((graph.n_atoms,), FAR, dtype=length.dtype, device=length.device)
    closest = closest.scatter_reduce(0, i, ratio, "amin")
    contacts = scatter_sum(smooth_cutoff(length, cutoff), i, graph.n_atoms)
    crowding = scatter_sum(torch.exp(CROWDING_DECAY * (1.0 - ratio)), i, graph.n_atoms)
    return torch.stack([closest.log(), contacts.log1p(), (crowding + CROWDING_FLOOR).log()], dim=1)
