"""The ASE calculator: any structure in; energy, forces, stress out. Voigt order is settled here and nowhere else."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import ase
import numpy as np
import torch
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from forcefield.compiled import CompiledPotential
from forcefield.confidence import Confidence, TrainingDomain
from forcefield.confidence_files import load_domain, why_no_domain
from forcefield.derivatives import evaluate, hessian
from forcefield.graph import Graph, graph_from_atoms
from forcefield.memory import estimate_bytes, size_of
from forcefield.models import load_model, model_folder
from forcefield.neighbours import SkinList
from forcefield.notices import warn_user
from forcefield.structures import check_structure, close_contacts, overlap_message

if TYPE_CHECKING:
    from forcefield.tasks.calculator import PropertySet

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class OverlapWarning(UserWarning):
    """Atoms are closer than half the sum of their covalent radii."""


class OutsideDataWarning(UserWarning):
    """Atoms are in environments that the training data of the model do not cover."""


class GNNCalculator(Calculator):
    """Universal force field as an ASE calculator.

    Works for crystals, slabs, wires, molecules and single atoms of the model's elements, without options and without
    a network connection. Properties: ``energy``, ``free_energy`` (eV), ``energies`` (eV per atom), ``forces`` (eV/Å)
    and ``stress`` (eV/Å^3, Voigt order xx yy zz yz xz xy, ASE's sign). Forces and stress are exact derivatives of the
    energy. The user's atoms are never modified. Safe to pickle, deep-copy, and call from several threads.

    Args:
        model: "default", the name of a shipped model (see ``forcefield models``), or the path of a model folder.
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ...
        dtype: "float32" (default) or "float64" for finite differences, phonons and the like; geometry, reference
            energies and sums are in float64 either way.
        skin: extra radius (Å) of the neighbour list, which is built anew only when an atom may have crossed it;
            0 builds it at every step.
        compile: let PyTorch compile the network at the first call (`forcefield.compiled`): twice as fast from then on,
            most of all for small structures; needs a C++ compiler and from half a minute to minutes.
        check_overlaps: warn once (`OverlapWarning`) when atoms are closer than half the sum of covalent radii.
        confidence: look at a structure whenever its neighbour list is built anew, and warn once (`OutsideDataWarning`)
            when atoms are outside the training data, for a model that has confidence data; `get_confidence` works
            either way.

        properties: folders of property models (`forcefield.tasks`), each computed when its result is asked for, such as
            ``magmoms`` or ``charges``.

    Raises:
        ModelError: the model is missing or damaged.
        ValueError: an option has an impossible value.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
    default_parameters: dict[str, Any] = {}
    nolabel = True

    def __init__(
        self,
        model: str | os.PathLike[str] = "default",
        *,
        device: str = "auto",
        dtype: Literal["float32", "float64"] = "float32",
        skin: float = 0.5,
        compile: bool = False,
        check_overlaps: bool = True,
        confidence: bool = True,
        properties: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype!r} but must be one of {sorted(DTYPES)}")
        if not (np.isfinite(skin) and skin >= 0):
            raise ValueError(f"skin is {skin!r} but must be a length in Å, 0 or larger")
        self._device = resolve_device(device)
        self._folder = model_folder(model)
        self.model = load_model(self._folder, device=self._device, dtype=DTYPES[dtype])
        self._domain: TrainingDomain | None = None
        self._domain_missing: str | None = None
        self._watches_domain = confidence
        self._dtype, self._skin, self._check_overlaps = dtype, float(skin), check_overlaps
        self._compile = compile
        self._properties: PropertySet | None = None
        if properties:
            from forcefield.tasks.calculator import PropertySet

            self._properties = PropertySet(properties, device=self._device, dtype=DTYPES[dtype])
            self.implemented_properties = [*self.implemented_properties, *self._properties.names]
        self._reset_cache()

    def _reset_cache(self) -> None:
        self._neighbours = SkinList(self.model.potential.cutoff, self._skin)
        self._compiled = CompiledPotential(self.model.potential) if self._compile else None
        self._lock = threading.RLock()
        self._overlap_warned = self._domain_warned = False

    def __getstate__(self) -> dict[str, Any]:
        if self.has_confidence:
            self._trained_domain()  # so that it goes along
        transient = ("_neighbours", "_compiled", "_lock", "_overlap_warned", "_domain_warned")
        return {name: value for name, value in self.__dict__.items() if name not in transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_cache()

    def __repr__(self) -> str:
        """Model, device and precision."""
        return f"GNNCalculator({self.model.name!r}, device={str(self._device)!r}, dtype={self._dtype!r})"

    @property
    def device(self) -> torch.device:
        """Where the model is evaluated."""
        return self._device

    @property
    def dtype(self) -> str:
        """Precision of the network, "float32" or "float64"."""
        return self._dtype

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that the model knows."""
        return self.model.potential.elements

    @property
    def atomic_reference_energies(self) -> dict[str, float]:
        """Energy of the free atom of each element (eV), which is what an atom without neighbours gets."""
        table = self.model.potential.get_buffer("isolated").tolist()
        return {chemical_symbols[z]: table[z] for z in self.elements}

    @property
    def neighbour_list_builds(self) -> tuple[int, int]:
        """How often the neighbour list was built, and how often one was needed."""
        return self._neighbours.builds, self._neighbours.calls

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE defines it; one thread at a time, so that no thread sees another's results."""
        with self._lock:
            structure = self._given(atoms)
            if name == "stress" and name not in self.results and not np.all(structure.pbc):
                self._refuse_stress(structure)
            return super().get_property(name, atoms, allow_calculation)

    def check_state(self, atoms: ase.Atoms, tol: float = 0.0) -> list[str]:
        """What has changed since the last calculation, of all that the energy depends on; any difference counts.

        Initial charges and magnetic moments are not looked at, and there is no tolerance: ASE's own comparison takes
        longer than anything else that surrounds the network.
        """
        before = self.atoms
        if before is None:
            return list(all_changes)
        names = ("positions", "numbers", "cell", "pbc")
        return [name for name in names if not np.array_equal(getattr(before, name), getattr(atoms, name))]

    @torch.inference_mode(False)
    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute everything at once; called by ASE when something has changed."""
        super().calculate(atoms, properties or ["energy"], system_changes)
        self.results = {}
        structure = self._structure(None)
        builds = self._neighbours.builds
        graph = self.graph(structure)
        self._warn_of_overlaps(structure, graph)
        new = "numbers" in system_changes or self._neighbours.builds > builds
        looking = new and self._watches_domain and not self._domain_warned and self.has_confidence
        on_device = graph.to(self._device)
        prediction = evaluate(self.model.potential, on_device, compiled=self._compiled, descriptors=looking)
        energy = float(prediction.energy[0])
        if not np.isfinite(energy):
            raise ValueError(
                f"the energy is not finite ({energy}). {overlap_message(structure, close_contacts(structure))}"
            )
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction.energies.cpu().numpy(),
            "forces": prediction.forces.cpu().numpy(),
        }
        if np.all(structure.pbc):
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction.stress[0].cpu().numpy())
        elif properties and "stress" in properties:
            self._refuse_stress(structure)
        if self._properties is not None:
            self.results.update(self._properties.results(structure, properties or ()))
        if looking:
            self._warn_outside(self._judge(on_device, prediction.descriptors, self.results["forces"]))

    def graph(self, atoms: ase.Atoms) -> Graph:
        """The neighbour graph of ``atoms`` at the model's cutoff, through the Verlet list."""
        potential = self.model.potential
        edges = self._neighbours.edges(atoms.get_positions(), np.asarray(atoms.cell), np.asarray(atoms.pbc))
        graph = graph_from_atoms(atoms, potential.cutoff, edges=edges)
        return graph.within(potential.cutoff) if self._skin > 0 else graph

    def estimate_memory(self, atoms: ase.Atoms | None = None) -> int:
        """Peak memory of a call for a structure (bytes), beyond that of the loaded model; see `forcefield.memory`.

        Args:
            atoms: the structure; the attached one if not given. Only its neighbours are searched for.
        """
        with self._lock:
            return estimate_bytes(size_of(self.graph(self._structure(atoms))), self.model.potential)

    @torch.inference_mode(False)
    def get_hessian(self, atoms: ase.Atoms | None = None, *, chunk: int = 16) -> NDArray[np.float64]:
        """Matrix of second derivatives of the energy, by automatic differentiation; best with ``dtype="float64"``.

        Args:
            atoms: the structure; the attached one if not given.
            chunk: columns computed at once; memory grows with it.

        Returns:
            (3 atoms, 3 atoms) in eV/Å^2; index 3 a + k is component k of atom a.
        """
        with self._lock:
            structure = self._structure(atoms)
            graph = self.graph(structure).to(self._device)
            return hessian(self.model.potential, graph, chunk=chunk).cpu().numpy()

    @torch.inference_mode(False)
    def get_descriptors(self, atoms: ase.Atoms | None = None) -> NDArray[np.float64]:
        """Per-atom features of the last layer, unchanged by rotation, translation and reflection.

        Returns:
            (atoms, channels).
        """
        with self._lock:
            graph = self.graph(self._structure(atoms)).to(self._device)
            descriptors = evaluate(self.model.potential, graph, descriptors=True).descriptors
            assert descriptors is not None
            return descriptors.double().cpu().numpy()

    @property
    def has_confidence(self) -> bool:
        """Whether the model has confidence data, so that `get_confidence` works."""
        return self._domain is not None or self._no_domain() is None

    @torch.inference_mode(False)
    def get_confidence(self, atoms: ase.Atoms | None = None) -> Confidence:
        """How far each atom is from the training data, and the force error to expect; see `forcefield.confidence`.

        Forces are those of the last calculation where it was of the same structure.

        Raises:
            ValueError: the model has no confidence data.
            ModelError: they are damaged.
        """
        with self._lock:
            structure = self._structure(atoms)
            self._trained_domain()
            graph = self.graph(structure).to(self._device)
            if "forces" in self.results and not self.check_state(structure):
                return self._judge(graph, None, self.results["forces"])
            found = evaluate(self.model.potential, graph, descriptors=True)
            return self._judge(graph, found.descriptors, found.forces.cpu().numpy())

    def _judge(self, graph: Graph, descriptors: torch.Tensor | None, forces: NDArray[np.float64]) -> Confidence:
        if descriptors is None:
            with torch.no_grad():
                descriptors, _ = self.model.potential.describe(graph, graph.edge_vectors())
        return self._trained_domain().judge(graph, descriptors, forces)

    def _trained_domain(self) -> TrainingDomain:
        if self._domain is None:
            reason = self._no_domain()
            if reason is not None:
                raise ValueError(reason)
            self._domain = load_domain(self._folder)
        return self._domain

    def _no_domain(self) -> str | None:
        if self._domain_missing is None:  # the files are read once, not at every neighbour list
            self._domain_missing = why_no_domain(self._folder, weights=self.model.config["sha256"]) or ""
        return self._domain_missing or None

    def _warn_outside(self, found: Confidence) -> None:
        if found.is_far and not self._domain_warned:
            self._domain_warned = True
            warn_user(found.message(), OutsideDataWarning)

    def _given(self, atoms: ase.Atoms | None) -> ase.Atoms:
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("no structure: give atoms, or calculate something first")
        if not isinstance(structure, ase.Atoms):
            raise TypeError(
                f"a {type(structure).__name__} came, but a calculator needs ase.Atoms; for pymatgen's structures use "
                "forcefield.predict(structure), or structure.to_ase_atoms()"
            )
        return structure

    def _structure(self, atoms: ase.Atoms | None) -> ase.Atoms:
        structure = self._given(atoms)
        check_structure(structure, self.elements)
        return structure

    def _warn_of_overlaps(self, atoms: ase.Atoms, graph: Graph) -> None:
        if not self._check_overlaps or self._overlap_warned:
            return
        i, j = graph.edge_index.numpy()
        contacts = close_contacts(atoms, pairs=(i, j, graph.edge_lengths().numpy()))
        if contacts:
            self._overlap_warned = True
            warn_user(overlap_message(atoms, contacts), OverlapWarning)

    @staticmethod
    def _refuse_stress(atoms: ase.Atoms) -> None:
        raise PropertyNotImplementedError(
            f"the stress needs a volume, but the structure is {_periodicity(atoms)}; "
            "set atoms.pbc = True if the cell is that of a crystal"
        )


def _periodicity(atoms: ase.Atoms) -> str:
    names = [name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic]
    return f"periodic only along {' and '.join(names)}" if names else "not periodic along any axis"


def resolve_device(device: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one, else the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f'device is {device!r} but must be "auto", "cpu", "cuda", "cuda:1", ...') from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f'device is {device!r}, but PyTorch sees {torch.cuda.device_count()} GPUs; use "auto" or "cpu"'
        )
    try:
        torch.zeros(1, dtype=torch.float64, device=found)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # no such hardware, or one without double precision
        reason = str(error).partition("\n")[0]
        raise ValueError(f'device is {device!r}, which cannot be used here ({reason}); use "auto" or "cpu"') from error
    return found
