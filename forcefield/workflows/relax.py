"""Relaxing a structure: `relax(structure, calculator)` moves atoms, and the cell if asked, to a minimum."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io.trajectory import Trajectory

from forcefield.structures import as_atoms, check_structure
from forcefield.units import GPA
from forcefield.workflows import relax_result as ended
from forcefield.workflows.pieces import count_pieces
from forcefield.workflows.relax_progress import Progress
from forcefield.workflows.relax_result import RelaxResult, RelaxStep
from forcefield.workflows.relax_setup import (
    AXES,
    RelaxOptions,
    cell_volume,
    choose_calculator,
    find_optimizer,
    require_stress,
    settle_cell,
    strain_mask,
)
from forcefield.workflows.symmetry import cell_steps_accepted, find_space_group, keep_symmetry

VOLUME_RANGE = (0.2, 5.0)  # volume / initial volume outside of which the cell counts as exploding
# What ASE says, as a RuntimeError, when a line search or a symmetric cell step cannot go on.
GIVE_UP_TEXTS = {"LineSearch failed": ended.STUCK, "large deformation gradient step": ended.CELL_EXPLODING}


def relax(
    atoms: Any,
    calculator: Any = None,
    *,
    cell: bool | None = False,
    cell_axes: str = AXES,
    fmax: float = 0.02,
    smax: float = 0.05,
    steps: int = 500,
    optimizer: str = "FIRE",
    pressure: float = 0.0,
    symmetry: bool = False,
    symprec: float = 0.01,
    trajectory: str | Path | Any | None = None,
    callback: Callable[[RelaxStep], None] | None = None,
) -> RelaxResult:
    """Relax a structure to a minimum of energy, or of enthalpy at a pressure.

    The cell moves by ASE's `FrechetCellFilter`; of a slab or wire only the periodic directions do. The input is not
    modified and its constraints hold. Ctrl-C ends the run early and what was reached is returned.

    Args:
        atoms: `ase.Atoms`, or a pymatgen `Structure` or `Molecule`.
        calculator: an ASE calculator; None takes the one attached to the atoms (stored results of a file do not count),
            else the default model.
        cell: relax the cell together with the atoms; None: of crystals, and of no slabs, wires and molecules, be they
            in a periodic cell or not (`RelaxResult.notice` says so).
        cell_axes: letters of the cell vectors that may change, as "ab" for a layer in the plane of a and b.
        fmax: largest force accepted (eV/Å), constraints applied.
        smax: largest deviation of a stress component from the target accepted when the cell is relaxed (GPa).
        steps: most optimizer steps.
        optimizer: one of `OPTIMIZERS`.
        pressure: external pressure (GPa); needs `cell=True` and three periodic axes.
        symmetry: keep the space group.
        symprec: distance within which atoms count as symmetry-equivalent (Å).
        trajectory: path of an ASE .traj file, or an object with `write(atoms)`; one frame a step, the first included.
        callback: called with a `RelaxStep` after every step, the first included.

    Returns:
        The result; `converged` says whether the final structure meets the limits, `reason` why the run ended.

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: for a structure or options that cannot be relaxed, such as a variable cell without periodic axes or
            with a calculator that gives no stress.
    """
    options = RelaxOptions(
        cell=bool(cell),
        cell_axes=cell_axes,
        fmax=fmax,
        smax=smax,
        steps=steps,
        optimizer=optimizer,
        pressure=pressure,
        symmetry=symmetry,
        symprec=symprec,
    )
    start = as_atoms(atoms)
    check_structure(start)
    options, notice = settle_cell(start, options, automatic_cell=cell is None)
    mask = strain_mask(start, options)
    work = start.copy()
    if symmetry:
        keep_symmetry(work, symprec=symprec)
    work.calc = choose_calculator(atoms, calculator)
    if options.cell:
        require_stress(work)
    run = _Run(start, work, mask, options, callback)
    run.notice = notice
    with ExitStack() as stack:
        if isinstance(trajectory, (str, Path)):
            run.trajectory = stack.enter_context(Trajectory(str(trajectory), "w"))
        else:
            run.trajectory = trajectory
        stack.enter_context(cell_steps_accepted())
        reason = run.drive()
    return run.result(reason)


class _State(NamedTuple):
    """A structure that was computed: atoms with results attached and the user's constraints only."""

    step: int
    atoms: Atoms
    max_force: float  # eV/Å, after constraints
    stress: np.ndarray | None  # (6,) eV/Å³, after constraints
    max_stress: float | None  # GPa, largest deviation from the target

    @property
    def finite(self) -> bool:
        """Whether energy, forces and stress are all finite numbers."""
        numbers = [self.atoms.get_potential_energy(), self.max_force, self.max_stress or 0.0]
        return bool(np.isfinite(numbers).all())


class _Run:
    """One relaxation under way: knows the last state computed, so that an interruption loses nothing."""

    def __init__(
        self,
        start: Atoms,
        work: Atoms,
        mask: np.ndarray | None,
        options: RelaxOptions,
        callback: Callable[[RelaxStep], None] | None,
    ) -> None:
        self.start = start  # the input, with the user's constraints
        self.work = work  # what moves: calculator attached, constraints of symmetry added
        self.mask = mask
        self.options = options
        self.callback = callback
        self.trajectory: Any = None
        self.notice: str | None = None
        self.state: _State | None = None
        self.progress = Progress()
        target = FrechetCellFilter(work, mask=mask, scalar_pressure=options.pressure * GPA) if options.cell else work
        self.optimizer = find_optimizer(options.optimizer)(target, logfile=None)

    def drive(self) -> str:
        """Step until one of the reasons to stop holds, and say which."""
        try:
            # The limits are checked here, on true forces and stress, so ASE's own criterion is set out of reach.
            for _ in self.optimizer.irun(fmax=0.0, steps=self.options.steps):
                state = self._measure()
                if not state.finite:
                    self.state = self.state or state
                    return ended.NON_FINITE
                self.state = state
                self._report(state)
                if self._explodes(state):
                    return ended.CELL_EXPLODING
                if self._meets_limits(state):
                    return ended.CONVERGED
                if self.progress.is_stuck(*self._merit(state)):
                    return ended.STUCK
        except KeyboardInterrupt:
            if self.state is None:
                raise
            return ended.INTERRUPTED
        except RuntimeError as error:
            reasons = [reason for text, reason in GIVE_UP_TEXTS.items() if text in str(error)]
            if not reasons or self.state is None:
                raise
            return reasons[0]
        return ended.STEP_LIMIT

    def _measure(self) -> _State:
        """Read the results at the present positions; the calculator has them already."""
        results: dict[str, Any] = {
            "energy": self.work.get_potential_energy(apply_constraint=False),
            "forces": self.work.get_forces(apply_constraint=False),
        }
        forces = self.work.get_forces()
        stress, max_stress = None, None
        if self.options.cell:
            results["stress"] = self.work.get_stress(apply_constraint=False)
            stress = self.work.get_stress()
            target = -self.options.pressure * GPA * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
            max_stress = float(np.abs((stress - target) * self.mask).max()) / GPA
        atoms = self.start.copy()
        atoms.cell = self.work.cell.copy()
        atoms.positions = self.work.positions
        atoms.calc = SinglePointCalculator(atoms, **results)
        return _State(self.optimizer.nsteps, atoms, float(np.linalg.norm(forces, axis=1).max()), stress, max_stress)

    def _meets_limits(self, state: _State) -> bool:
        calm = state.max_force <= self.options.fmax
        return calm and (state.max_stress is None or state.max_stress <= self.options.smax)

    def _merit(self, state: _State) -> tuple[float, float]:
        """Energy with constraints, or enthalpy (eV), and the distance from the limits in units of them."""
        volume = cell_volume(state.atoms) or 0.0
        enthalpy = self.work.get_potential_energy() + self.options.pressure * GPA * volume
        return enthalpy, max(state.max_force / self.options.fmax, (state.max_stress or 0.0) / self.options.smax)

    def _explodes(self, state: _State) -> bool:
        change = _volume_change(self.start, state.atoms)
        return self.options.cell and change is not None and not VOLUME_RANGE[0] <= change + 1.0 <= VOLUME_RANGE[1]

    def _report(self, state: _State) -> None:
        """Pass the state on to the trajectory and the callback."""
        if self.trajectory is not None:
            self.trajectory.write(state.atoms)
        if self.callback is not None:
            energy = state.atoms.get_potential_energy()
            self.callback(RelaxStep(state.step, energy, state.max_force, state.max_stress, cell_volume(state.atoms)))

    def result(self, reason: str) -> RelaxResult:
        """Sum the last state up."""
        assert self.state is not None
        atoms, symprec = self.state.atoms, self.options.symprec
        energy = float(atoms.get_potential_energy())
        stress = self.state.stress if self.options.cell else self._final_stress(atoms)
        return RelaxResult(
            atoms=atoms,
            converged=reason == ended.CONVERGED,
            reason=reason,
            steps=self.state.step,
            energy=energy,
            energy_per_atom=energy / len(atoms),
            max_force=self.state.max_force,
            stress=None if stress is None else tuple((stress / GPA).tolist()),
            pressure=None if stress is None else -float(stress[:3].mean()) / GPA,
            target_pressure=self.options.pressure,
            volume_change=_volume_change(self.start, atoms) if atoms.pbc.all() else None,
            spacegroup_before=find_space_group(self.start, symprec=symprec),
            spacegroup_after=find_space_group(atoms, symprec=symprec),
            pieces_before=count_pieces(self.start),
            pieces_after=count_pieces(atoms),
            notice=self.notice,
        )

    def _final_stress(self, atoms: Atoms) -> np.ndarray | None:
        """Ask once for the stress of a structure relaxed in a fixed cell; None where the calculator has none for it."""
        if cell_volume(atoms) is None or not atoms.pbc.any():
            return None
        final = atoms.copy()
        final.calc = self.work.calc
        try:
            stress = final.get_stress()
        except PropertyNotImplementedError:
            return None
        atoms.calc.results["stress"] = stress
        return stress


def _volume_change(before: Atoms, after: Atoms) -> float | None:
    """Give final / initial volume - 1, or None without a cell."""
    initial, final = cell_volume(before), cell_volume(after)
    return None if initial is None or final is None else final / initial - 1.0
