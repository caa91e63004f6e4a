"""`ForceFieldModel`: a model of this package behind torch-sim's `ModelInterface` (torch-sim 0.3 and newer).

torch-sim: Cohen et al., TorchSim: An efficient atomistic simulation engine in PyTorch, arXiv:2508.06628.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from forcefield.calculator import DTYPES, GNNCalculator, resolve_device
from forcefield.compiled import CompiledPotential
from forcefield.derivatives import Prediction, evaluate
from forcefield.graph import Graph
from forcefield.models import load_model
from forcefield.torchsim.neighbours import BatchNeighbours

NEEDS = 'torch-sim is needed; install it with: pip install "gnn-forcefield[torchsim]" (Python 3.11 or newer)'

if TYPE_CHECKING:
    _Base = nn.Module
else:
    try:
        with warnings.catch_warnings():  # torch-sim 0.3 is made of functions that newer PyTorch calls deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch_sim.models.interface import ModelInterface as _Base
    except ModuleNotFoundError:
        _Base = None


def require_torch_sim() -> None:
    """Refuse to go on without torch-sim.

    Raises:
        ImportError: it is not installed.
    """
    if _Base is None:
        raise ImportError(NEEDS)


class ForceFieldModel(_Base if _Base is not None else nn.Module):  # type: ignore[misc]
    """The force field as torch-sim wants it: batches of crystals, or of molecules, in one call.

    States are float64 by default, since forces of tiny displacements need it; the network runs in `dtype`. Results are
    those of `GNNCalculator`, whatever else is in the batch.

    Args:
        model: "default", the name of a shipped model, the path of a model folder, or a `GNNCalculator`, whose model,
            device and precision are then used.
        device: "auto" (a GPU if there is one), "cpu", "cuda", ...
        dtype: precision of the network, "float32" or "float64".
        skin: extra radius of the neighbour lists (Å).
        compile: let PyTorch compile the network at the first call (`forcefield.compiled`).
        state_dtype: precision of the states that torch-sim makes for this model.
        evaluator: evaluates graphs in place of `forcefield.derivatives.evaluate`, for example in parts.

    Raises:
        ImportError: torch-sim is not installed.
        ModelError: the model is missing or damaged.
        ValueError: an option has an impossible value.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GNNCalculator = "default",
        *,
        device: str | torch.device = "auto",
        dtype: Literal["float32", "float64"] = "float32",
        skin: float = 0.5,
        compile: bool = False,
        state_dtype: torch.dtype = torch.float64,
        evaluator: Callable[[Graph], Prediction] | None = None,
    ) -> None:
        require_torch_sim()
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r} but must be one of {sorted(DTYPES)}")
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(f"skin is {skin!r} but must be a length in Å, 0 or larger")
        if isinstance(model, GNNCalculator):
            self.potential = model.model.potential
        else:
            self.potential = load_model(model, device=resolve_device(str(device)), dtype=DTYPES[dtype]).potential
        self._device, self._dtype = self.potential.device, state_dtype
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        compiled = CompiledPotential(self.potential) if compile else None
        self._evaluate = evaluator or partial(evaluate, self.potential, compiled=compiled)
        self._neighbours = BatchNeighbours(self.potential.cutoff, skin)
        known = torch.zeros(len(chemical_symbols), dtype=torch.bool)
        known[list(self.potential.elements)] = True
        self._known = known.to(self._device)

    @property
    def neighbour_list_builds(self) -> int:
        """How many neighbour lists of single structures were built."""
        return self._neighbours.builds

    @torch.inference_mode(False)
    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies, forces and stresses of a state.

        Args:
            state: torch-sim `SimState`, or a mapping with positions, cell (columns are lattice vectors), pbc,
                atomic_numbers and system_idx.

        Returns:
            energy (systems,) eV, forces (atoms, 3) eV/Å and stress (systems, 3, 3) eV/Å³, which is zero where not all
            axes are periodic.

        Raises:
            ValueError: an element is unknown to the model, a number is not finite, or a periodic cell spans no volume.
        """
        graph = self.graph(state)
        found = self._evaluate(graph)
        crystal = graph.pbc.all(dim=1)[:, None, None]
        stress = torch.where(crystal, found.stress, 0.0)
        results = {"energy": found.energy, "forces": found.forces, "stress": stress}
        dtype = _get(state, "positions").dtype
        return {name: value.to(dtype) for name, value in results.items()}

    def graph(self, state: Any) -> Graph:
        """The neighbour graph of a state, at the model's cutoff; the state is not modified."""
        numbers = _get(state, "atomic_numbers").detach().long()
        positions = _get(state, "positions").detach().double()
        cell = _get(state, "cell").detach().double().reshape(-1, 3, 3).transpose(1, 2).contiguous()
        batch = _get(state, "system_idx")
        batch = torch.zeros_like(numbers) if batch is None else batch.detach().long()
        pbc = periodic_axes(_get(state, "pbc"))
        self._check(numbers, positions, cell, pbc)
        counts = torch.bincount(batch, minlength=len(cell)).tolist()
        edge_index, edge_shift = self._neighbours.edges(positions, cell, pbc, counts)
        axes = torch.from_numpy(pbc).to(positions.device).expand(len(cell), 3)
        graph = Graph(numbers, positions, cell, axes, edge_index, edge_shift, batch, len(numbers))
        return graph.within(self.potential.cutoff)

    def _check(self, numbers: Tensor, positions: Tensor, cell: Tensor, pbc: np.ndarray) -> None:
        inside = (numbers >= 0) & (numbers < len(self._known))
        strange = numbers[~(inside & self._known[numbers.clamp(0, len(self._known) - 1)])]
        if len(strange):
            names = sorted({int(z) for z in strange.tolist()})
            elements = " ".join(chemical_symbols[z] for z in self.potential.elements)
            raise ValueError(f"atomic numbers {names} are unknown to the model; it knows {elements}")
        finite = bool(torch.isfinite(positions).all()) and bool(torch.isfinite(cell).all())
        if not finite:
            raise ValueError("positions or cells of the state are not finite; take a smaller time step")
        if np.all(pbc) and not bool((torch.linalg.det(cell).abs() > 1e-6).all()):
            raise ValueError("a periodic cell of the state has no volume; set the cell, or pbc=False for molecules")


def periodic_axes(pbc: Any) -> np.ndarray:
    """Periodic axes (3,) of a state: older torch-sim has one truth value for all, newer ones three."""
    axes = pbc.detach().cpu().numpy() if isinstance(pbc, Tensor) else np.asarray(pbc)
    return np.array(np.broadcast_to(axes.astype(bool), (3,)))


def _get(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name)
