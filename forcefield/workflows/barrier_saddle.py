"""A saddle point from one structure: `saddle(structure, calculator)`, by the dimer method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import DimerControl, MinModeAtoms, MinModeTranslate
from ase.mep.dimer import DimerEigenmodeSearch
from numpy.typing import NDArray

from forcefield.structures import as_atoms, check_structure
from forcefield.workflows.barrier import OwnResults
from forcefield.workflows.barrier_checkpoint import SearchCheckpoint
from forcefield.workflows.barrier_setup import rigid_motions
from forcefield.workflows.relax_setup import choose_calculator

Array = NDArray[np.float64]

FOUND = "saddle point found"
NOT_CONVERGED = "not converged"
NOT_A_SADDLE = "no direction of negative curvature"

CONJUGATE = ("direction_old", "cg_direction")  # what ASE's conjugate gradients remember of the step before


@dataclass(frozen=True)
class SaddleOptions:
    """Options of `saddle`, checked; see there for their meaning."""

    fmax: float = 0.02
    steps: int = 500
    kick: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        for name in ("fmax", "kick"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.steps < 1 or self.seed < 0:
            raise ValueError(f"steps is {self.steps} and seed {self.seed}, but must be positive.")

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


class SaddleStep(NamedTuple):
    """A step of the search: number, largest force (eV/Å), curvature along the mode (eV/Å²)."""

    step: int
    max_force: float
    curvature: float


@dataclass(frozen=True)
class SaddleResult:
    """A saddle point.

    Attributes:
        atoms: the structure, with energy and forces attached.
        verdict: "saddle point found", "not converged" or "no direction of negative curvature".
        barrier: energy above the structure that came (eV).
        curvature: along the mode (eV/Å²), negative at a saddle point.
        mode: (atoms, 3) direction across the saddle, of length one.
        max_force: largest force left (eV/Å).
        steps: taken.
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    barrier: float
    curvature: float
    mode: Array
    max_force: float
    steps: int
    options: SaddleOptions

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {"ok": self.verdict == FOUND, **vars(self)}


def saddle(
    atoms: Any,
    calculator: Any = None,
    *,
    direction: Array | None = None,
    moving: Sequence[int] | None = None,
    fmax: float = 0.02,
    steps: int = 500,
    kick: float = 0.1,
    seed: int = 0,
    checkpoint: SearchCheckpoint | None = None,
    callback: Callable[[SaddleStep], None] | None = None,
) -> SaddleResult:
    """Climb from a minimum to a saddle point nearby, along the softest direction.

    By ASE's dimer method (G. Henkelman, H. Jónsson, J. Chem. Phys. 111, 7010 (1999), https://doi.org/10.1063/1.480097).
    Which saddle is found depends on the first kick; try several seeds. The input is not modified, its constraints hold.

    Args:
        atoms: a relaxed structure: `ase.Atoms`, or a pymatgen `Structure` or `Molecule`.
        calculator: an ASE calculator; None takes the one attached to the atoms, else the default model.
        direction: (atoms, 3) first kick, of any length; None kicks at random.
        moving: indices of the atoms that a random kick moves; None takes all that are not fixed.
        fmax: largest force accepted (eV/Å).
        steps: most steps.
        kick: length of the first kick of an atom (Å).
        seed: of a random kick.
        checkpoint: keeps the dimer in a file at every step, so that an interrupted search goes on exactly, and one that
            ran out of steps with more of them.
        callback: called with a `SaddleStep` at every step.

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: for a structure or options that make no sense, a dimer that finds no way on, or a checkpoint that is
            damaged or of another search.
        KeyboardInterrupt: after Ctrl-C.
    """
    options = SaddleOptions(fmax=fmax, steps=steps, kick=kick, seed=seed)
    work = as_atoms(atoms)
    check_structure(work)
    engine = choose_calculator(atoms, calculator)
    work.calc = OwnResults(engine)
    first = _kick(work, direction, moving, options)
    if checkpoint is not None:
        kicked = work.copy()
        kicked.positions += first
        checkpoint.take_up({"structure": work, "direction": kicked}, options.to_dict())
    climb = _Climb(work, first, options, checkpoint, callback)
    climb.run()
    return _result(climb, options)


class _Dimer(MinModeAtoms):
    """ASE's dimer without rigid motions: it would rather shift or turn the whole structure, at no cost, than climb."""

    def find_eigenmodes(self, order: int = 1) -> None:
        """Turn the dimer towards the softest direction that is no rigid motion."""
        rigid = rigid_motions(self.atoms, self.atoms.get_forces())
        mode = self.eigenmodes[0]
        for motion in rigid:
            mode = mode - np.vdot(mode, motion) * motion
        search = DimerEigenmodeSearch(self, self.control, eigenmode=mode / np.linalg.norm(mode), basis=rigid or None)
        search.converge_to_eigenmode()
        search.set_up_for_optimization_step()
        self.eigenmodes, self.curvatures = [search.get_eigenmode()], [search.get_curvature()]


class _Climb:
    """A dimer under way."""

    def __init__(
        self,
        work: Atoms,
        first: Array,
        options: SaddleOptions,
        checkpoint: SearchCheckpoint | None,
        callback: Callable[[SaddleStep], None] | None,
    ) -> None:
        self.work, self.options, self.checkpoint, self.callback = work, options, checkpoint, callback
        kept = None if checkpoint is None else checkpoint["dimer"]
        self.start_energy = float(work.get_potential_energy()) if kept is None else float(kept["start_energy"])
        control = DimerControl(logfile=None)
        control.parameters = {**control.parameters, "max_num_rot": 4, "f_rot_min": 0.01}  # ASE's own are of the class
        # the seed is used for random modes only, and the mode is given here
        mode = first / np.linalg.norm(first)
        self.dimer = _Dimer(work, control, eigenmodes=[mode], random_seed=options.seed)
        self.optimizer = MinModeTranslate(self.dimer, logfile=None)
        if kept is not None:
            self._restore(kept)
        else:
            before = work.get_positions()
            work.set_positions(before + first)
            self.dimer.eigenmodes = [(work.positions - before) / np.linalg.norm(work.positions - before)]

    @property
    def steps(self) -> int:
        """Taken so far."""
        return int(self.optimizer.nsteps)

    def run(self) -> None:
        """Climb until the forces are small on a saddle, or the steps are used up."""
        # where the force vanishes ASE divides by it; positions that are not finite are refused as they are computed
        with self.dimer.control, self.optimizer, np.errstate(invalid="ignore"):
            self.optimizer.attach(self._note)
            self.optimizer.run(fmax=self.options.fmax, steps=max(self.options.steps - self.steps, 0))

    def _note(self) -> None:
        """Keep the state and tell of it, once the dimer is turned."""
        self.dimer.get_forces()
        if self.checkpoint is not None:
            self.checkpoint.keep("dimer", self._state())
        if self.callback is not None:
            largest = float(np.linalg.norm(self.dimer.get_forces(real=True), axis=1).max())
            self.callback(SaddleStep(self.steps, largest, float(self.dimer.get_curvature())))

    def _state(self) -> dict[str, Any]:
        """Give all that the next step depends on."""
        state = {"steps": self.steps, "start_energy": self.start_energy, "positions": self.work.positions.tolist()}
        mode = {"mode": self.dimer.get_eigenmode().tolist(), "curvature": float(self.dimer.get_curvature())}
        old = {} if self.optimizer.cg_init else {name: getattr(self.optimizer, name).tolist() for name in CONJUGATE}
        return {**state, **mode, **old}

    def _restore(self, kept: Mapping[str, Any]) -> None:
        """Go on where an earlier search stopped: the dimer is turned already, the forces are computed again."""
        self.work.positions[:] = kept["positions"]
        self.dimer.minmode_init = False
        self.dimer.calculate_real_forces_and_energies()
        self.dimer.eigenmodes, self.dimer.curvatures = [np.array(kept["mode"])], [kept["curvature"]]
        self.dimer.rotation_required = False
        self.optimizer.nsteps = kept["steps"]
        if CONJUGATE[0] in kept:
            self.optimizer.cg_init = False
            for name in CONJUGATE:
                setattr(self.optimizer, name, np.array(kept[name]))


def _kick(atoms: Atoms, direction: Array | None, moving: Sequence[int] | None, options: SaddleOptions) -> Array:
    """Give the first displacement, (atoms, 3) Å; its largest is `kick` long.

    Raises:
        ValueError: for a direction of another shape or without length, or atoms that are not there.
    """
    if direction is None:
        chosen = np.arange(len(atoms)) if moving is None else np.asarray(moving, dtype=int)
        if len(chosen) == 0 or chosen.min() < -len(atoms) or chosen.max() >= len(atoms):
            raise ValueError(f"moving is {list(chosen)}, but must name atoms from 0 to {len(atoms) - 1}.")
        direction = np.zeros((len(atoms), 3))
        direction[chosen] = np.random.default_rng(options.seed).standard_normal((len(chosen), 3))
    vectors = np.array(direction, dtype=float)
    if vectors.shape != (len(atoms), 3) or not np.isfinite(vectors).all() or not vectors.any():
        raise ValueError(f"direction has the shape {vectors.shape}, but ({len(atoms)}, 3) and a length are needed.")
    trial = atoms.copy()
    trial.set_positions(atoms.positions + vectors)  # constraints take their part
    vectors = trial.positions - atoms.positions
    if not vectors.any():
        raise ValueError("The atoms to be kicked are all fixed; name others in moving, or free them.")
    return np.asarray(vectors * (options.kick / np.linalg.norm(vectors, axis=1).max()))


def _result(climb: _Climb, options: SaddleOptions) -> SaddleResult:
    work, dimer = climb.work, climb.dimer
    forces, curvature = work.get_forces(), float(dimer.get_curvature())
    largest = float(np.linalg.norm(forces, axis=1).max())
    verdict = FOUND if curvature < 0.0 else NOT_A_SADDLE
    if not largest <= options.fmax:
        verdict = NOT_CONVERGED
    final = work.copy()
    final.calc = SinglePointCalculator(final, energy=work.get_potential_energy(), forces=work.get_forces(False))
    return SaddleResult(
        atoms=final,
        verdict=verdict,
        barrier=float(work.get_potential_energy() - climb.start_energy),
        curvature=curvature,
        mode=np.asarray(dimer.get_eigenmode()),
        max_force=largest,
        steps=climb.steps,
        options=options,
    )
