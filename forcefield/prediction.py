"""Predict many structures at once, without an ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import ase
import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from forcefield.calculator import DTYPES, OverlapWarning, resolve_device
from forcefield.derivatives import Prediction, evaluate
from forcefield.evaluation import Evaluator, is_out_of_memory
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.memory import Size, estimate_bytes, size_of
from forcefield.models import CONFIG, Model, load_model, model_folder, read_config
from forcefield.notices import warn_user
from forcefield.potential import Potential
from forcefield.structures import TooLargeError, as_atoms, check_structure, close_contacts, overlap_message


@dataclass(frozen=True)
class StructurePrediction:
    """What the model says of one structure.

    Attributes:
        energy: total energy (eV).
        energies: (atoms,) atomic energies (eV).
        forces: (atoms, 3) in eV/Å.
        stress: (6,) in eV/Å^3, Voigt order xx yy zz yz xz xy, ASE's sign; None unless periodic along all axes.
    """

    energy: float
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    stress: NDArray[np.float64] | None

    @property
    def energy_per_atom(self) -> float:
        """Energy divided by the number of atoms (eV/atom)."""
        return self.energy / len(self.energies)


@overload
def predict(
    structures: list[Any] | tuple[Any, ...],
    *,
    model: str | os.PathLike[str] = ...,
    device: str = ...,
    dtype: Literal["float32", "float64"] = ...,
    max_edges: int = ...,
    memory: float | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> list[StructurePrediction]: ...
@overload
def predict(
    structures: Any,
    *,
    model: str | os.PathLike[str] = ...,
    device: str = ...,
    dtype: Literal["float32", "float64"] = ...,
    max_edges: int = ...,
    memory: float | None = ...,
    progress: Callable[[int, int], None] | None = ...,
) -> StructurePrediction: ...


@torch.inference_mode(False)
def predict(
    structures: Any,
    *,
    model: str | os.PathLike[str] = "default",
    device: str = "auto",
    dtype: Literal["float32", "float64"] = "float32",
    max_edges: int = 100_000,
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StructurePrediction | list[StructurePrediction]:
    """Energy, forces and stress of one structure or of many, in batches.

    Warns once (`OverlapWarning`) where atoms of structures are closer than half the sum of their covalent radii.

    Args:
        structures: an ``ase.Atoms``, a pymatgen ``Structure`` or ``Molecule``, or a list of them.
        model: "default", the name of a shipped model, or the path of a model folder, of a potential or a property.
        device: "auto", "cpu", "cuda", ...
        dtype: precision of the network, "float32" or "float64".
        max_edges: size of a batch in neighbour pairs; memory grows with it. When memory runs out, a batch is computed
            in smaller parts.
        memory: bytes that a batch may take, by the estimate of `forcefield.memory`, instead of `max_edges`; a structure
            that needs more by itself comes alone. Of no effect on property models.
        progress: called with (structures done, structures in all).

    Returns:
        One prediction, or a list of them in the order of the structures. A property model (`forcefield.tasks`) gives
        its values instead: a number or tensor of the structure, an array (atoms, ...), or `EdgeValues`.

    Raises:
        ValueError: a structure is unusable (empty, not finite, an unknown element, ...), and nothing is computed then;
            an energy is not finite, as of atoms at the same place; or memory does not suffice for one structure.
        TypeError: an object is no structure.
    """
    single = not isinstance(structures, (list, tuple))
    given = [structures] if single else list(structures)
    target = resolve_device(device)
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {sorted(DTYPES)}")
    if memory is not None and not memory > 0:
        raise ValueError(f"memory is {memory!r} but must be a number of bytes above 0, such as 2e9")
    folder = model_folder(model).resolve()
    changed = (folder / CONFIG).stat().st_mtime_ns
    if _is_property(folder, changed):
        values = _predict_property(folder, changed, target, dtype, given, single, max_edges, progress)
        return values[0] if single else values
    loaded = _load(folder, changed, target, dtype)
    atoms = [_checked(k, structure, loaded.potential.elements, single) for k, structure in enumerate(given)]
    results: list[StructurePrediction] = []
    overlaps: list[str] = []
    graphs = (graph_from_atoms(structure, loaded.potential.cutoff) for structure in atoms)
    evaluator = _Evaluator(loaded.potential)
    for batch in batches(graphs, max_edges) if memory is None else batches_in_memory(graphs, loaded.potential, memory):
        found = _split(evaluator(collate(batch).to(target), first=len(results)), batch)
        for prediction, graph in zip(found, batch, strict=True):
            name = "" if single else f"structure {len(results)}: "
            overlaps += _overlaps(atoms[len(results)], graph, prediction.energy, name)
            results.append(prediction)
        if progress is not None:
            progress(len(results), len(atoms))
    if overlaps:
        more = f" So do atoms of {len(overlaps) - 1} more structures." if len(overlaps) > 1 else ""
        warn_user(overlaps[0] + more, OverlapWarning)
    return results[0] if single else results


@lru_cache(maxsize=4)
def _load(folder: Path, changed: int, device: torch.device, dtype: str) -> Model:
    """A model stays loaded until its files change (``changed`` is when they last did)."""
    return load_model(folder, device=device, dtype=DTYPES[dtype])


@lru_cache(maxsize=16)
def _is_property(folder: Path, changed: int) -> bool:
    return read_config(folder).get("task", "potential") == "property"


@lru_cache(maxsize=4)
def _load_property(folder: Path, changed: int, device: torch.device, dtype: str) -> Any:
    from forcefield.tasks.storage import load_property

    return load_property(folder, device=device, dtype=DTYPES[dtype]).model


def _predict_property(
    folder: Path,
    changed: int,
    device: torch.device,
    dtype: str,
    given: list[Any],
    single: bool,
    max_edges: int,
    progress: Callable[[int, int], None] | None,
) -> Any:
    """Values of a property model, a list; see `forcefield.tasks.prediction.predict_property`."""
    from forcefield.tasks.prediction import predict_property

    model = _load_property(folder, changed, device, dtype)
    atoms = [_checked(k, structure, model.elements, single) for k, structure in enumerate(given)]
    return predict_property(model, atoms, device=device, max_edges=max_edges, progress=progress)


def _checked(index: int, structure: Any, elements: Iterable[int], single: bool) -> ase.Atoms:
    try:
        atoms = as_atoms(structure)
        check_structure(atoms, elements)
    except (TypeError, ValueError) as error:
        if single:
            raise
        raise type(error)(f"structure {index}: {error}") from error
    return atoms


def batches(graphs: Iterable[Graph], max_edges: int) -> Iterator[list[Graph]]:
    """Consecutive graphs with at most ``max_edges`` edges together (a larger one comes alone)."""
    batch: list[Graph] = []
    edges = 0
    for graph in graphs:
        if batch and edges + graph.n_edges > max_edges:
            yield batch
            batch, edges = [], 0
        batch.append(graph)
        edges += graph.n_edges
    if batch:
        yield batch


def batches_in_memory(graphs: Iterable[Graph], potential: Potential, memory: float) -> Iterator[list[Graph]]:
    """Consecutive graphs that together are estimated to take at most ``memory`` bytes (a larger one comes alone)."""
    batch: list[Graph] = []
    total = Size(0, 0, 0)
    for graph in graphs:
        size = size_of(graph)
        if batch and estimate_bytes(total + size, potential) > memory:
            yield batch
            batch, total = [], Size(0, 0, 0)
        batch.append(graph)
        total += size
    if batch:
        yield batch


class _Evaluator:
    """Evaluates batches whole until memory has run out once, and in parts that fit from then on.

    Args:
        potential: the potential.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self._in_parts: Callable[[Graph], Prediction] | None = None

    def __call__(self, graph: Graph, *, first: int) -> Prediction:
        """Evaluate a batch.

        Args:
            graph: the batch.
            first: number of its first structure, for errors.

        Raises:
            ValueError: one structure alone is too much.
        """
        if self._in_parts is None:
            try:
                return evaluate(self.potential, graph)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._in_parts = Evaluator(self.potential)
        try:
            return self._in_parts(graph)
        except TooLargeError as error:
            raise ValueError(f"structure {first + error.structure}: {error}") from error


def _overlaps(atoms: ase.Atoms, graph: Graph, energy: float, name: str) -> list[str]:
    """What there is to say of overlapping atoms of a structure, if any.

    Raises:
        ValueError: the energy is not finite.
    """
    i, j = graph.edge_index.numpy()
    said = overlap_message(atoms, close_contacts(atoms, pairs=(i, j, graph.edge_lengths().numpy())))
    if not np.isfinite(energy):
        raise ValueError(f"{name}the energy is not finite ({energy}). {said}".rstrip())
    return [name + said] if said else []


def _split(prediction: Prediction, graphs: list[Graph]) -> list[StructurePrediction]:
    sizes = [graph.n_atoms for graph in graphs]
    parts = zip(
        prediction.energy.tolist(),
        torch.split(prediction.energies.cpu(), sizes),
        torch.split(prediction.forces.cpu(), sizes),
        prediction.stress.cpu(),
        graphs,
        strict=True,
    )
    return [
        StructurePrediction(
            energy,
            energies.numpy().copy(),
            forces.numpy().copy(),
            full_3x3_to_voigt_6_stress(stress.numpy()) if bool(graph.pbc.all()) else None,
        )
        for energy, energies, forces, stress, graph in parts
    ]
