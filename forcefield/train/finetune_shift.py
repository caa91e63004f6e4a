"""The energy scale of new data: one shift for each element, taken into the reference energies of a potential.

Two calculations of one method on two pseudopotentials, or of two functionals, differ first of all by a constant for
each atom. `fit_shift` finds these constants, and a `EnergyShift` puts them into the free atoms' energies, where they
change no force, no stress and no cohesive energy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor, nn

from forcefield.data.batches import load_batch
from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore
from forcefield.graph import Graph
from forcefield.nn.scatter import scatter_sum
from forcefield.potential import Exchange, Potential
from forcefield.train.evaluate import MAX_EDGES, group_by_size, predict_data


@dataclass(frozen=True)
class EnergyShift:
    """What is added to the reference energies of a potential.

    Attributes:
        isolated: atomic number -> change of the free atom's energy (eV).
        bound: atomic number -> change of the bound atoms' mean energy relative to the free atom (eV); only where the
            new data has free atoms of their own.
    """

    isolated: Mapping[int, float] = field(default_factory=dict)
    bound: Mapping[int, float] = field(default_factory=dict)

    def __add__(self, other: EnergyShift) -> EnergyShift:
        return EnergyShift(_sum(self.isolated, other.isolated), _sum(self.bound, other.bound))

    def __bool__(self) -> bool:
        return any(self.isolated.values()) or any(self.bound.values())

    @property
    def total(self) -> dict[str, float]:
        """Symbol -> change of the energy of an atom in a crystal (eV)."""
        return {chemical_symbols[z]: energy for z, energy in sorted(_sum(self.isolated, self.bound).items())}

    def apply(self, potential: Potential) -> None:
        """Shift the reference energies of a potential in place."""
        for table, changes in (("isolated", self.isolated), ("bound", self.bound)):
            for number, energy in changes.items():
                potential.get_buffer(table)[number] += energy

    def potential(self, base: Potential) -> Potential:
        """The difference that the shift makes, as a potential of its own."""
        elements = base.elements
        return Potential(
            _Nothing(base.cutoff, elements),
            isolated_energies={z: self.isolated.get(z, 0.0) for z in elements},
            bound_energies={z: self.bound.get(z, 0.0) for z in elements},
            repulsion=False,
            saturates=base.saturates,
            saturation_rate=base.saturation_rate,
        )

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Plain values by element symbol, for JSON."""
        tables = {"isolated": self.isolated, "bound": self.bound}
        return {name: {chemical_symbols[z]: v for z, v in sorted(table.items())} for name, table in tables.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, float]]) -> EnergyShift:
        """What `as_dict` gave."""
        return cls(**{name: {chemical_symbols.index(s): v for s, v in table.items()} for name, table in values.items()})


def _sum(one: Mapping[int, float], other: Mapping[int, float]) -> dict[int, float]:
    return {z: one.get(z, 0.0) + other.get(z, 0.0) for z in one.keys() | other.keys()}


class _Nothing(nn.Module):
    """A network whose energies are zero."""

    def __init__(self, cutoff: float, elements: tuple[int, ...]) -> None:
        super().__init__()
        self.cutoff, self.elements = cutoff, elements

    def forward(self, graph: Graph, vectors: Tensor, exchange: Exchange | None = None) -> Tensor:
        return vectors.new_zeros(graph.n_local)


def fit_shift(potential: Potential, store: FrameStore, frames: NDArray[np.int64]) -> EnergyShift:
    """Fit one shift for each element to the energies of labelled frames by least squares on the energy per atom.

    Frames with neighbours determine the shift of an atom in a crystal; of elements that only occur together, or in
    proportions that the frames do not tell apart, the solution of least norm is taken, and elements that do not occur
    are left alone. The shift goes into the free atoms' energies. Where the frames include free atoms (no neighbour
    within the cutoff), these determine the free atoms' energies instead, and the bound atoms take the difference.

    Args:
        potential: the potential to be shifted.
        store: labelled frames.
        frames: which of them to use.

    Returns:
        The shift; an empty one where no frame has an energy.
    """
    composition, rest = _residuals(potential, store, frames)
    known = ~np.isnan(rest)
    free = np.asarray(store.arrays["n_edges"])[frames] == 0
    together = _least_squares(composition[known & ~free], rest[known & ~free])
    alone = _least_squares(composition[known & free], rest[known & free])
    bound = {z: energy - alone[z] for z, energy in together.items() if z in alone}
    return EnergyShift(isolated={**together, **alone}, bound=bound)


def _least_squares(composition: NDArray[np.float64], rest: NDArray[np.float64]) -> dict[int, float]:
    """Shifts of the elements that occur, from numbers of atoms (frames, 119) and energies to explain (frames,)."""
    present = np.flatnonzero(composition.any(axis=0))
    if not len(present):
        return {}
    n_atoms = composition.sum(axis=1)
    shifts, *_ = np.linalg.lstsq(composition[:, present] / n_atoms[:, None], rest / n_atoms, rcond=None)
    return {int(z): float(shift) for z, shift in zip(present, shifts, strict=True)}


@torch.no_grad()
def _residuals(
    potential: Potential, store: FrameStore, frames: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Atoms of each element (frames, 119) and label minus prediction of the total energy (frames,), NaN if unknown."""
    composition, rest = np.zeros((len(frames), 119)), np.full(len(frames), np.nan)
    n_atoms, most = (np.asarray(store.arrays[name][frames], dtype=np.int64) for name in ("n_atoms", "max_neighbours"))
    for members in group_by_size(n_atoms, most, MAX_EDGES):
        graph, labels = load_batch(store, frames[members])
        np.add.at(composition, (members[graph.batch.numpy()], graph.numbers.numpy()), 1.0)
        graph = graph.to(potential.device).within(potential.cutoff)
        energy = scatter_sum(potential(graph, graph.edge_vectors()), graph.batch, graph.n_structures)
        rest[members] = labels.energy.numpy() - energy.cpu().numpy()
    return composition, rest


def shifted_frames(path: str | Path, shift: EnergyShift, base: Potential) -> Iterator[Frame]:
    """Frames of a store whose labels are moved by what a shift adds to a potential, so that its errors stay the same.

    Args:
        path: store folder with labels on the energy scale of ``base``.
        shift: what is added to ``base``.
        base: the potential before the shift.
    """
    for _, frame, change in predict_data(shift.potential(base), path):
        labels = {
            name: getattr(frame, name) + getattr(change, name)
            for name in ("energy", "forces", "stress", "atomic_energies")
            if getattr(frame, name) is not None and getattr(change, name) is not None
        }
        yield replace(frame, **labels)
