"""A saddle point from one structure: `saddle(structure, calculator)`, by the dimer method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import DimerControl, MinModeAtoms, MinModeTranslate
from numpy.typing import NDArray

from forcefield.structures import as_atoms, check_structure
from forcefield.workflows.barrier import OwnResults
from forcefield.workflows.relax_setup import choose_calculator

Array = NDArray[np.float64]

FOUND = "saddle point found"
NOT_CONVERGED = "not converged"
NOT_A_SADDLE = "no direction of negative curvature"


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

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: for a structure or options that make no sense, or a dimer that finds no way on.
    """
    options = SaddleOptions(fmax=fmax, steps=steps, kick=kick, seed=seed)
    work = as_atoms(atoms)
    check_structure(work)
    engine = choose_calculator(atoms, calculator)
    work.calc = OwnResults(engine)
    start_energy = work.get_potential_energy()
    first = _kick(work, direction, moving, options)
    control = DimerControl(logfile=None)
    control.parameters = {**control.parameters, "max_num_rot": 4, "f_rot_min": 0.01}  # ASE's own are of the class
    # the seed is used for random modes only, and the mode is given here
    dimer = MinModeAtoms(work, control, eigenmodes=[first / np.linalg.norm(first)], random_seed=seed)
    before = work.get_positions()
    work.set_positions(before + first)
    dimer.eigenmodes = [(work.positions - before) / np.linalg.norm(work.positions - before)]
    # where the force vanishes ASE divides by it; positions that are not finite are refused as they are computed
    with control, MinModeTranslate(dimer, logfile=None) as optimizer, np.errstate(invalid="ignore"):
        optimizer.run(fmax=fmax, steps=steps)
        taken = int(optimizer.nsteps)
    return _result(work, dimer, start_energy, taken, options)


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


def _result(work: Atoms, dimer: MinModeAtoms, start_energy: float, steps: int, options: SaddleOptions) -> SaddleResult:
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
        barrier=float(work.get_potential_energy() - start_energy),
        curvature=curvature,
        mode=np.asarray(dimer.get_eigenmode()),
        max_force=largest,
        steps=steps,
        options=options,
    )
