"""Make a model's confidence data: where its training environments lie, and the force errors found around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forcefield.confidence import GEOMETRIC, TrainingDomain, features, nearest
from forcefield.data.batches import load_batch
from forcefield.data.store import FrameStore
from forcefield.derivatives import evaluate
from forcefield.potential import Potential
from forcefield.train.confidence_errors import calibrate, quality
from forcefield.train.evaluate import group_by_size

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Progress = Callable[[int, str], None]

MAX_EDGES = 40_000
HELD_OUT = 0.1
"""Share of the training frames that gives the percentiles and no landmarks."""
FEWEST_FRAMES = 30
"""Frames drawn for every element, where there are so many, before the rest is drawn from all."""
EIGENVALUE_FLOOR = 1.0e-2
"""Of the mean variance of a descriptor: directions that vary less are not blown up to unit variance."""
GEOMETRY_WEIGHT = 4.0
"""Weight of a standard deviation of the geometric numbers against one of the descriptors."""
MOST_ATOMS = 4000
"""Atoms of one element that landmarks are made of, at most."""
PERCENTAGES = np.array([0.0, *np.linspace(1.0, 99.0, 99), 99.5, 99.7, 99.8, 99.9, 99.95, 99.99, 100.0])


@dataclass(frozen=True)
class Environments:
    """Atoms of many frames.

    Attributes:
        points: (atoms, features) as `forcefield.confidence.features`.
        numbers: (atoms,) atomic numbers.
        frame: (atoms,) number of the frame in its store.
        force: (atoms,) size of the predicted force (eV/Å); zero where it was not wanted.
        error: (atoms,) size of the difference from the label (eV/Å); zero where it was not wanted.
    """

    points: NDArray[np.floating[Any]]
    numbers: Integers
    frame: Integers
    force: Array
    error: Array

    def of(self, chosen: NDArray[np.bool_]) -> Environments:
        """Some of the atoms."""
        return Environments(**{name: value[chosen] for name, value in vars(self).items()})


def fit_domain(
    potential: Potential,
    train: FrameStore,
    validation: FrameStore,
    *,
    frames: int = 20_000,
    landmarks: int = 32,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingDomain:
    """Make the confidence data of a potential.

    Landmarks come from nine tenths of a random sample of the training frames, percentiles from the last tenth. The
    validation materials are divided at random: one half calibrates the force error, the other measures how good that
    is, and its figures are in ``facts``.

    Args:
        potential: trained.
        train: the frames it was trained on.
        validation: frames of other materials with forces.
        frames: training frames to draw.
        landmarks: of each element.
        seed: same seed, same result.
        progress: called with (frames done since, what is being done).

    Raises:
        ValueError: an option is below 1, a store ends before the model's cutoff, or there are too few frames.
    """
    for name, value in {"frames": frames, "landmarks": landmarks}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, but must be 1 or more")
    _check_stores(potential, train, validation)
    generator = np.random.default_rng(seed)
    chosen = draw_frames(train, frames, generator)
    seen = describe(potential, train, chosen, progress=progress)
    tested = describe(potential, validation, np.arange(len(validation)), forces=True, progress=progress)
    tested = tested.of(np.isfinite(tested.error))
    held = generator.random(len(train)) < HELD_OUT
    base = _landmark_domain(potential.cutoff, seen.of(~held[seen.frame]), landmarks, generator)
    kept = seen.of(held[seen.frame])
    if len(kept.numbers) == 0 or len(tested.numbers) == 0:
        raise ValueError("there are too few frames, or none with forces: percentiles and errors need some of both")
    distance = base.distances(kept.points, kept.numbers)
    base = _with(base, quantiles=_increasing(np.percentile(distance[np.isfinite(distance)], PERCENTAGES)))
    material = np.asarray(validation.arrays["material"])[tested.frame]
    names = generator.permutation(np.unique(material))
    calibrating = np.isin(material, names[: max(len(names) // 2, 1)])
    fitted = _calibrated(base, tested.of(calibrating))
    facts = {
        "train": {"frames_drawn": len(chosen), "frames": len(train), "atoms": len(seen.numbers)},
        "landmarks_per_element": landmarks,
        "seed": seed,
        "features": {"descriptors": seen.points.shape[1] - len(GEOMETRIC), "geometric": list(GEOMETRIC)},
        "calibration": {"atoms": int(calibrating.sum()), "materials": max(len(names) // 2, 1)},
        "quality": _measured(fitted, tested.of(~calibrating) if not calibrating.all() else tested),
    }
    return _with(fitted, facts=facts)


def _check_stores(potential: Potential, *stores: FrameStore) -> None:
    for store in stores:
        if store.cutoff < potential.cutoff:
            raise ValueError(
                f"{store.folder} has neighbours up to {store.cutoff} Å, but the model needs {potential.cutoff} Å; "
                "build it anew with a larger cutoff"
            )
        unknown = sorted(set(store.elements) - set(potential.elements))
        if unknown:
            raise ValueError(f"{store.folder} has atomic numbers {unknown}, which the model does not know")


def draw_frames(store: FrameStore, count: int, generator: np.random.Generator) -> Integers:
    """Draw frames at random, but `FEWEST_FRAMES` of every element first; sorted numbers of the frames.

    Frames without an energy, such as pairs of atoms trained on forces alone, do not vouch for one: they are drawn only
    where no frame has any.
    """
    usable = np.isfinite(np.asarray(store.arrays["energy"]))
    if not usable.any():
        usable[:] = True
    candidates = np.flatnonzero(usable)
    count = min(count, len(candidates))
    frame_of_atom = np.repeat(np.arange(len(store)), np.asarray(store.arrays["n_atoms"], dtype=np.int64))
    numbers = np.asarray(store.arrays["numbers"])
    drawn: list[Integers] = []
    for element in store.elements:
        having = np.intersect1d(frame_of_atom[numbers == element], candidates)
        drawn.append(generator.permutation(having)[:FEWEST_FRAMES])
    rare = np.unique(np.concatenate(drawn))
    rest = np.setdiff1d(generator.permutation(candidates)[: count + len(rare)], rare)
    rest = generator.permutation(rest)[: max(count - len(rare), 0)]
    return np.sort(np.concatenate([rare, rest]))


@torch.inference_mode(False)
def describe(
    potential: Potential,
    store: FrameStore,
    chosen: Integers,
    *,
    forces: bool = False,
    progress: Progress | None = None,
) -> Environments:
    """Environments of the chosen frames, with forces and their errors if asked for."""
    parts = []
    for frames in _batches(store, chosen):
        graph, labels = load_batch(store, frames)
        graph = graph.within(potential.cutoff).to(potential.device)
        zeros = np.zeros(graph.n_atoms)
        force, error = zeros, zeros
        if forces:
            found = evaluate(potential, graph, descriptors=True)
            assert found.descriptors is not None
            descriptors = found.descriptors
            force = np.linalg.norm(found.forces.cpu().numpy(), axis=1)
            error = np.linalg.norm(found.forces.cpu().numpy() - labels.forces.numpy(), axis=1)
        else:
            with torch.no_grad():
                descriptors, _ = potential.describe(graph, graph.edge_vectors())
        points = features(graph, descriptors, potential.cutoff).astype(np.float32)
        sizes = graph.atoms_per_structure().cpu().numpy()
        parts.append((points, graph.numbers.cpu().numpy(), np.repeat(frames, sizes), force, error))
        if progress is not None:
            progress(len(frames), store.folder.name)
    points, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Environments(points, *rest)


def _batches(store: FrameStore, chosen: Integers) -> Iterator[Integers]:
    n_atoms = np.asarray(store.arrays["n_atoms"], dtype=np.int64)[chosen]
    most = np.asarray(store.arrays["max_neighbours"], dtype=np.int64)[chosen]
    for batch in group_by_size(n_atoms, most, MAX_EDGES):
        yield np.sort(chosen[batch])


def _landmark_domain(cutoff: float, seen: Environments, count: int, generator: np.random.Generator) -> TrainingDomain:
    """Whitening and landmarks; the rest is empty."""
    elements = np.unique(seen.numbers)
    points = seen.points.astype(np.float64)
    centre = points.mean(axis=0)
    means = np.stack([points[seen.numbers == z].mean(axis=0) for z in elements])
    transform = whitening(points - means[np.searchsorted(elements, seen.numbers)])
    whitened = (points - centre) @ transform
    landmarks = np.stack([make_landmarks(whitened[seen.numbers == z], count, generator) for z in elements])
    nothing = np.zeros(0)
    return TrainingDomain(
        elements=elements,
        centre=centre,
        transform=transform,
        landmarks=landmarks.astype(np.float32).astype(np.float64),
        percentages=PERCENTAGES,
        quantiles=PERCENTAGES,
        coefficients=nothing,
        offsets=np.zeros(len(elements)),
        floor=0.05,
        scores=nothing,
        errors=nothing,
        cutoff=cutoff,
    )


def whitening(residuals: Array) -> Array:
    """Matrix that gives descriptors, and apart from them the geometric numbers, about unit variance.

    Args:
        residuals: (atoms, features) from the mean of the atom's element; the geometric numbers come last.
    """
    n = residuals.shape[1] - len(GEOMETRIC)
    covariance = residuals.T @ residuals / len(residuals)
    values, vectors = np.linalg.eigh(covariance[:n, :n])
    transform = np.zeros_like(covariance)
    transform[:n, :n] = vectors / np.sqrt(values.clip(min=0.0) + EIGENVALUE_FLOOR * values.mean() + 1e-12)
    transform[n:, n:] = np.diag(GEOMETRY_WEIGHT / np.sqrt(np.diag(covariance)[n:] + 1e-12))
    return transform


def make_landmarks(points: Array, count: int, generator: np.random.Generator, *, rounds: int = 12) -> Array:
    """Centres of clusters (k-means, Lloyd's iteration) of points (atoms, features), always ``count`` of them.

    Fewer points than landmarks are landmarks themselves, repeated.
    """
    points = points[generator.permutation(len(points))[:MOST_ATOMS]]
    if len(points) <= count:
        return np.asarray(points[np.arange(count) % len(points)])
    centres = points[:count].copy()
    for _ in range(rounds):
        which = nearest(points, centres)[1]
        members = np.zeros((count, len(points)))
        members[which, np.arange(len(points))] = 1.0
        sizes = members.sum(axis=1)
        filled = sizes > 0
        centres[filled] = (members @ points)[filled] / sizes[filled, None]
    return centres


def _calibrated(domain: TrainingDomain, tested: Environments) -> TrainingDomain:
    distance = np.minimum(domain.distances(tested.points, tested.numbers), 10.0 * domain.outside_distance)
    found = calibrate(distance, tested.force, tested.error, tested.numbers, domain.elements, domain.floor)
    return _with(domain, **found)


def _measured(domain: TrainingDomain, tested: Environments) -> dict[str, Any]:
    distance = domain.distances(tested.points, tested.numbers)
    expected = domain.force_error(distance, tested.force, tested.numbers)
    return quality(domain, distance, expected, tested.force, tested.error)


def _with(domain: TrainingDomain, **changes: Any) -> TrainingDomain:
    return TrainingDomain(**{**vars(domain), **changes})


def _increasing(values: Array) -> Array:
    """Strictly increasing by steps of rounding size, so that a table can be read backwards."""
    return np.maximum.accumulate(values) + 1.0e-9 * np.arange(len(values))
