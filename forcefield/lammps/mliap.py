"""The force field for LAMMPS's `pair_style mliap unified`, which Kokkos runs on GPUs.

LAMMPS makes the neighbour pairs, passes features of ghosts between processes, and adds up forces and virial; here the
energies and their derivatives are computed, by the same networks as everywhere.

LAMMPS loads such a model from a pickle, which can run any code: load only files that you trust. What ours holds is the
configuration of a model and the bytes of its safetensors file, no more.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from forcefield.graph import Graph
from forcefield.lammps.ending import end_all_processes, is_alone
from forcefield.lammps.exchange import OrderedExchange
from forcefield.models import CONFIG, WEIGHTS, Model, load_model, read_config, read_weights

if TYPE_CHECKING:
    _Base = object
else:
    try:
        from lammps.mliap.mliap_unified_abc import MLIAPUnified as _Base
    except ImportError:  # a file can be made where there is no LAMMPS, and LAMMPS asks for no base class
        _Base = object

COLUMNS_ON_HOST = 3
"""Columns that LAMMPS's communication buffers on the CPU have room for; more would be written past their end.

The width is set when the pair style exchanges, after the buffers were made, and only those on a GPU grow (LAMMPS of
July 2026 and before, issue 4814).
"""
NO_EXCHANGE = (
    "this model needs the features of ghost atoms, but the pair style cannot exchange them; use the Kokkos one "
    "(`-k on -sf kk`) of a LAMMPS of autumn 2025 or newer, or `python -m forcefield.lammps`"
)


class MLIAPForceField(_Base):
    """A model of this package as LAMMPS's ML-IAP wants it.

    Args:
        folder: model folder.
        elements: symbols that `pair_coeff` may name; all of the model if not given.
        dtype: precision of the network, "float32" or "float64".

    Raises:
        ModelError: the model is missing or damaged.
        ValueError: the model does not know an element.
    """

    def __init__(self, folder: Path, *, elements: Sequence[str] | None = None, dtype: str = "float32") -> None:
        read_weights(folder, read_config(folder))  # checks them
        self._config = (folder / CONFIG).read_text(encoding="utf-8")
        self._weights = (folder / WEIGHTS).read_bytes()
        self._name, self._network_dtype = folder.name, dtype
        self._prepare()
        known = [chemical_symbols[z] for z in self.model.potential.elements]
        self.element_types = list(known if elements is None else elements)
        unknown = [symbol for symbol in self.element_types if symbol not in known]
        if unknown:
            raise ValueError(f"the model does not know {', '.join(unknown)}; it knows {' '.join(known)}")
        self.ndescriptors = self.nparams = 1  # neither exists here, but LAMMPS wants a number
        self.rcutfac = 0.5 * self.model.potential.cutoff  # LAMMPS doubles it
        self.interface: Any = None  # set by LAMMPS

    def _prepare(self) -> None:
        """Make the model of what the file holds."""
        from forcefield.calculator import DTYPES

        if self._network_dtype not in DTYPES:
            raise ValueError(f"dtype is {self._network_dtype!r} but must be one of {sorted(DTYPES)}")
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / self._name
            folder.mkdir()
            (folder / CONFIG).write_text(self._config, encoding="utf-8")
            (folder / WEIGHTS).write_bytes(self._weights)
            self.model: Model = load_model(folder, dtype=DTYPES[self._network_dtype])
        self.model.potential.requires_grad_(False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("model", "interface")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.interface = None
        self._prepare()

    def save(self, path: Path) -> None:
        """Write the file that `pair_style mliap unified FILE` names.

        Args:
            path: ending in .pt or .pth LAMMPS reads it with `torch.load`, else with `pickle`.
        """
        if path.suffix in (".pt", ".pth"):
            torch.save(self, path)
        else:
            path.write_bytes(pickle.dumps(self))

    def compute_gradients(self, data: Any) -> None:
        """Called by LAMMPS; there is nothing to do, since forces are computed as a whole."""

    def compute_descriptors(self, data: Any) -> None:
        """Called by LAMMPS; there are no descriptors."""

    def compute_forces(self, data: Any) -> None:
        """Compute energies of the local atoms and the derivative with respect to every pair's vector.

        Called by LAMMPS on every process, also on one without atoms, which exchanges as often as the others. An error
        in one of several processes ends all of them with a line, since LAMMPS itself would wait for the others first.

        Args:
            data: LAMMPS's view of the atoms of this process.

        Raises:
            ValueError: in a single process, an energy or a force is not finite, or the pair style cannot exchange
                features.
        """
        try:
            self._compute(data)
        except BaseException as error:
            if is_alone():
                raise
            end_all_processes(f"{type(error).__name__}: {error}")

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _compute(self, data: Any) -> None:
        pairs = Pairs(data, self._numbers())
        if pairs.device != self.model.potential.device:
            self.model.potential.to(pairs.device)
        vectors = pairs.vectors.requires_grad_()
        exchange = OrderedExchange(PairStyleExchange(data, pairs.graph), pairs.device)
        with torch.autograd.set_multithreading_enabled(False):  # LAMMPS is called in the backward pass
            energies = self.model.potential(pairs.graph, vectors, exchange)
            (pull, _) = torch.autograd.grad([energies.sum(), exchange.token], [vectors, exchange.start])
        if not (bool(torch.isfinite(energies).all()) and bool(torch.isfinite(pull).all())):
            raise ValueError("energies or forces are not finite; check the structure, or take a smaller time step")
        pairs.give(energies.detach(), pull)

    def _numbers(self) -> Tensor:
        return torch.tensor([atomic_numbers[symbol] for symbol in self.element_types])


class Pairs:
    """What LAMMPS has on one process as a graph, and the way back.

    Views of LAMMPS's arrays fail where there is nothing to view, so they are only touched where there is something.

    Args:
        data: LAMMPS's view of the atoms.
        numbers: (element types,) atomic numbers.
    """

    def __init__(self, data: Any, numbers: Tensor) -> None:
        self.data = data
        self.n_local, n_total = _local(data), int(data.ntotal)
        types = _tensor(data.elems) if n_total else torch.zeros(0, dtype=torch.int64)
        self.device = types.device
        self.n_pairs = int(data.npairs) if n_total else 0
        centre, neighbour, vectors = self._pairs()
        mine = torch.nonzero(centre < self.n_local)[:, 0]
        self._order = mine.index_select(0, torch.argsort(centre.index_select(0, mine), stable=True))
        edge_index = torch.stack([centre, neighbour]).index_select(1, self._order)
        self.vectors = vectors.index_select(0, self._order).clone()  # (edges, 3), sorted by centre
        nowhere = self.vectors.new_zeros(n_total, 3)
        self.graph = Graph(
            numbers=numbers.to(self.device)[types.long()],
            positions=nowhere,
            cell=nowhere.new_zeros(1, 3, 3),
            pbc=torch.zeros(1, 3, dtype=torch.bool, device=self.device),
            edge_index=edge_index,
            edge_shift=torch.zeros_like(self.vectors),
            batch=torch.zeros(n_total, dtype=torch.int64, device=self.device),
            n_local=self.n_local,
        )

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.n_pairs == 0:
            none = torch.zeros(0, dtype=torch.int64, device=self.device)
            return none, none, torch.zeros(0, 3, dtype=torch.float64, device=self.device)
        centre, neighbour = _tensor(self.data.pair_i).long(), _tensor(self.data.pair_j).long()
        return centre, neighbour, _tensor(self.data.rij).double()

    def give(self, energies: Tensor, pull: Tensor) -> None:
        """Hand the results to LAMMPS.

        Args:
            energies: (n_local,) eV.
            pull: (edges, 3) derivatives of the energy with respect to `vectors` (eV/Å).
        """
        if self.n_local:
            self._give_energies(energies)
        self.data.energy = float(energies.sum())
        if self.n_pairs == 0:
            return
        forces = pull.new_zeros(self.n_pairs, 3, dtype=torch.float64).index_copy(0, self._order, pull)
        if self.device.type == "cpu":
            self.data.update_pair_forces(np.ascontiguousarray(forces.numpy()))
        else:
            torch.cuda.synchronize(self.device)
            self.data.update_pair_forces_gpu(forces.contiguous())

    def _give_energies(self, energies: Tensor) -> None:
        """Kokkos shows LAMMPS's own array; without it there is only a property that takes one."""
        try:
            view = self.data.eatoms
        except AttributeError:  # write-only
            self.data.eatoms = energies.cpu().numpy()
            return
        _tensor(view)[: self.n_local].copy_(energies)


class PairStyleExchange:
    """Exchange of features through the pair style, which keeps who needs what.

    Args:
        data: LAMMPS's view of the atoms.
        graph: local and ghost atoms.
    """

    def __init__(self, data: Any, graph: Graph) -> None:
        self.data, self.n_local, self.n_total = data, graph.n_local, graph.n_atoms

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n_local, d) of local atoms to those of all atoms, (atoms, d)."""
        every = rows.new_zeros(self.n_total, rows.shape[1])
        every[: self.n_local] = rows.detach()
        return self._exchange("forward_exchange", every)

    def backward(self, rows: Tensor) -> Tensor:
        """Rows (atoms, d), those of ghosts added to their atoms, (n_local, d)."""
        return self._exchange("reverse_exchange", rows)[: self.n_local].clone()

    def _exchange(self, name: str, rows: Tensor) -> Tensor:
        exchange = getattr(self.data, name, None)
        if exchange is None:
            raise ValueError(NO_EXCHANGE)
        width = rows.shape[1] if rows.is_cuda else COLUMNS_ON_HOST
        parts = []
        for start in range(0, rows.shape[1], max(width, 1)):
            given = rows[:, start : start + width].contiguous()
            taken = given.clone()
            exchange(given, taken, given.shape[1])
            parts.append(taken)
        return torch.cat(parts, dim=1) if parts else rows.clone()


def _local(data: Any) -> int:
    """Number of local atoms; LAMMPS's older views name only the length of the neighbour list, which is the same."""
    found = getattr(data, "nlocal", None)
    return int(data.nlistatoms if found is None else found)


def _tensor(array: Any) -> Tensor:
    """A NumPy or CuPy array of LAMMPS as a tensor on the device where it is."""
    return torch.as_tensor(array, device="cuda" if hasattr(array, "__cuda_array_interface__") else None)
