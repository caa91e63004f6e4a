"""The start of a run: the structures with their graphs, their division, and a model with the labels' statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forcefield.tasks.bodies import build_body, feature_width
from forcefield.tasks.config import PropertyConfig
from forcefield.tasks.model import PropertyModel
from forcefield.tasks.store import PropertyStore, write_property_store
from forcefield.tasks.structures import Labelled, divide, read_all

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Data:
    """Structures and their division.

    Attributes:
        store: all structures.
        parts: indices of the training, validation and test structures that have a label; the last may be empty.
    """

    store: PropertyStore
    parts: dict[str, NDArray[np.int64]]


def open_data(config: PropertyConfig, cutoff: float) -> Data:
    """The structures of a run, read from its files once and then from the store in the output folder.

    Raises:
        ValueError: a structure is unusable, labels are missing, or a part is empty.
    """
    files = {name: _files(getattr(config, name)) for name in PARTS}
    store = _store(config, cutoff, files)
    counts = [0, *store_counts(store)]
    spans = {name: np.arange(a, b) for name, a, b in zip(PARTS, counts, counts[1:], strict=False)}
    shares = {name: getattr(config, name) for name in PARTS[1:] if isinstance(getattr(config, name), float)}
    materials = [store.materials[k] for k in spans["train"]]
    divided = divide(materials, list(shares.values()), seed=config.seed)
    parts = {**spans, **dict(zip(("train", *shares), divided, strict=True))}
    parts = {name: np.array([k for k in part if _has_label(store, k)], dtype=np.int64) for name, part in parts.items()}
    for name in PARTS[: 2 if config.test is None else 3]:
        if not len(parts[name]):
            raise ValueError(f"no {name} structure has the label {config.task.key!r}; give more data, or another part")
    return Data(store, parts)


def store_counts(store: PropertyStore) -> list[int]:
    """Where the training, validation and test files end."""
    counts = json.loads((store.folder / "files.json").read_text(encoding="utf-8"))
    return [int(count) for count in counts["ends"]]


def _files(given: object) -> list[Path]:
    if isinstance(given, Path):
        return [given]
    return list(given) if isinstance(given, tuple) else []


def _store(config: PropertyConfig, cutoff: float, files: dict[str, list[Path]]) -> PropertyStore:
    """The store of these files, made if it is not there; its name says what it was made from."""
    described = {name: [_describe(path) for path in paths] for name, paths in files.items()}
    task = config.task
    entries = [described, task.key, task.level, task.shape, cutoff, config.max_neighbours, config.material_key]
    name = hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:12]
    folder = config.output / f"data-{name}"
    if not (folder / "files.json").is_file():
        config.output.mkdir(parents=True, exist_ok=True)
        ends: list[int] = []
        made = task.made()

        def counted(paths: list[Path]) -> Iterator[Labelled]:
            total = ends[-1] if ends else 0
            for one in read_all(paths, made, material_key=config.material_key):
                total += 1
                yield one
            ends.append(total)

        if not folder.is_dir():
            everything = chain.from_iterable(counted(paths) for paths in files.values())
            write_property_store(folder, everything, made, cutoff, max_neighbours=config.max_neighbours)
            (folder / "files.json").write_text(json.dumps({"ends": ends}), encoding="utf-8")
    return PropertyStore(folder)


def _describe(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def _has_label(store: PropertyStore, k: int) -> bool:
    return bool(np.isfinite(store.label(k)).any())


def body_cutoff(config: PropertyConfig) -> float:
    """Neighbour radius of the configured network (Å)."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return float(build_body(config.network, [1], **config.hyperparameters).cutoff)  # type: ignore[arg-type]


def build_model(config: PropertyConfig, data: Data) -> PropertyModel:
    """A model with random weights, knowing all elements of the data, and the training labels' statistics."""
    task, store = config.task.made(), data.store
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        body = build_body(config.network, store.frames.elements, **config.hyperparameters)
        model = PropertyModel(body, task, feature_width(body), max_neighbours=config.max_neighbours)
    reference, scale = statistics(config, data)
    model.reference.copy_(torch.from_numpy(reference))
    model.scale.fill_(scale)
    return model.with_dtype(torch.float64 if config.dtype == "float64" else torch.float32)


def statistics(config: PropertyConfig, data: Data) -> tuple[NDArray[np.float64], float]:
    """Reference values (119,) of the elements and the spread of the labels around them, from the training labels."""
    task, train = config.task, data.parts["train"]
    if task.shape != "scalar":
        labels = np.concatenate([data.store.label(k).ravel() for k in train])
        return np.zeros(119), _spread(labels)
    features, labels = _linear_problem(config, data)
    known = np.isfinite(labels)
    features, labels = features[known], labels[known]
    total = features.sum(1)
    mean = float((labels * total).sum() / (total**2).sum())
    reference = np.full(119, mean)
    if config.reference == "elements":
        seen = np.flatnonzero(features.any(axis=0))
        ridge = 1e-3 * np.eye(len(seen))  # pulls rare elements towards the mean
        matrix = features[:, seen]
        right = matrix.T @ (labels - matrix @ reference[seen])
        reference[seen] += np.linalg.solve(matrix.T @ matrix + ridge, right)
    residual = labels - features @ reference
    if task.level == "graph" and task.pooling == "sum":
        residual = residual / np.sqrt(total)  # the sum of n numbers of this spread
    return reference, _spread(residual)


def _linear_problem(config: PropertyConfig, data: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Element counts (rows, 119) that reference values are multiplied with, and labels (rows,)."""
    task, store = config.task, data.store
    features, labels = [], []
    for k in data.parts["train"]:
        numbers = store.numbers(k)
        one_hot = np.eye(119)[numbers]
        if task.level == "graph":
            counts = one_hot.sum(0, keepdims=True)
            features.append(counts if task.pooling == "sum" else counts / len(numbers))
        elif task.level == "atom":
            features.append(one_hot)
        else:
            graph, _ = store.batch(np.array([k]))
            i, j = graph.edge_index.numpy()
            features.append((one_hot[i] + one_hot[j]) / 2)
        labels.append(store.batch(np.array([k]))[1].numpy() if task.level == "edge" else store.label(k))
    return np.concatenate(features), np.concatenate(labels).ravel()


def _spread(values: NDArray[np.float64]) -> float:
    """Root mean square; 1 where all are the same."""
    known = values[np.isfinite(values)]
    spread = float(np.sqrt(np.mean(known**2)))
    return spread if spread > 1e-9 else 1.0
