"""Barriers between two structures: `neb(initial, final, calculator)`, a nudged elastic band with a climbing image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep.neb import NEB, NEBOptimizer
from ase.optimize import FIRE
from ase.utils.forcecurve import fit_images
from numpy.typing import NDArray

from forcefield.structures import as_atoms
from forcefield.workflows.barrier_checkpoint import SearchCheckpoint, optimizer_state, restore_optimizer
from forcefield.workflows.barrier_setup import SAME_STRUCTURE, NEBOptions, match_ends
from forcefield.workflows.outcome import require_converged
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_setup import choose_calculator

Array = NDArray[np.float64]

FOUND = "barrier found"
NO_BARRIER = "no barrier"
NOT_CONVERGED = "not converged"
END_MOVED = "an end relaxed away"
FLAT = 1.0e-3  # eV; a smaller rise is no barrier
FIRST_STAGE = 5.0  # times fmax, to which the band comes before an image climbs


class NEBStep(NamedTuple):
    """A step of the band as a callback sees it: number, largest force (eV/Å), highest energy above the initial (eV)."""

    step: int
    max_force: float
    barrier: float


@dataclass(frozen=True)
class BarrierResult:
    """A path between two minima.

    Attributes:
        images: the path, both ends included, with energies and forces attached.
        verdict: "barrier found", "no barrier" (an end is the highest point), "not converged" or "an end relaxed away"
            (in the relaxation of the ends, by more than half the distance between them).
        warnings: what else to know, one sentence each.
        forward: barrier from the initial structure (eV).
        reverse: barrier from the final structure (eV).
        reaction_energy: final less initial energy (eV).
        path: length along the path (Å), one an image.
        energies: above the initial structure (eV), one an image.
        fit_path: (points,) length along the path (Å).
        fit_energies: (points,) cubic fit through energies and forces (eV).
        highest: number of the image that is highest.
        max_force: largest force on the band left (eV/Å).
        steps: of the band.
        order: which atom of the final structure each atom of the path was.
        ends_moved: largest displacement of an atom in the relaxation of the ends (Å); None without.
        options: what it was computed with.
    """

    images: list[Atoms]
    verdict: str
    warnings: tuple[str, ...]
    forward: float
    reverse: float
    reaction_energy: float
    path: Array
    energies: Array
    fit_path: Array
    fit_energies: Array
    highest: int
    max_force: float
    steps: int
    order: NDArray[np.int64]
    ends_moved: tuple[float, float] | None
    options: NEBOptions

    @property
    def saddle(self) -> Atoms:
        """The highest image: the saddle point, where the band climbed and converged."""
        return self.images[self.highest]

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        content = {name: value for name, value in vars(self).items() if name != "images"}
        about = {"formula": self.images[0].get_chemical_formula(), "n_atoms": len(self.images[0])}
        return {**about, "ok": self.verdict == FOUND, **content, "saddle": self.saddle}


def neb(
    initial: Any,
    final: Any,
    calculator: Any = None,
    *,
    n_images: int = 5,
    climb: bool = True,
    relax_ends: bool = True,
    mapping: bool = True,
    interpolation: str = "idpp",
    optimizer: str = "FIRE",
    fmax: float = 0.03,
    steps: int = 500,
    spring: float = 0.5,
    checkpoint: SearchCheckpoint | None = None,
    callback: Callable[[NEBStep], None] | None = None,
) -> BarrierResult:
    """Find the path of least energy between two structures and the barrier on it.

    The inputs are not modified; the constraints of the initial structure hold. With improved tangents (G. Henkelman,
    H. Jónsson, J. Chem. Phys. 113, 9978 (2000), https://doi.org/10.1063/1.1323224) and a climbing image (G. Henkelman,
    B. P. Uberuaga, H. Jónsson, J. Chem. Phys. 113, 9901 (2000), https://doi.org/10.1063/1.1329672), by ASE.

    Args:
        initial: `ase.Atoms`, or a pymatgen `Structure` or `Molecule`.
        final: likewise, with the same elements and the same cell.
        calculator: an ASE calculator; None takes the one attached to the initial structure, else the default model.
        n_images: number of images between the ends.
        climb: let the highest image climb to the saddle point.
        relax_ends: relax both ends first.
        mapping: pair the atoms of both ends anew, by the smallest displacements; False keeps their order, which is
            needed where like atoms change places.
        interpolation: "idpp" (image dependent pair potential) or "linear".
        optimizer: "FIRE", or "ode" for ASE's `NEBOptimizer`.
        fmax: largest force on the band, and on the ends, accepted (eV/Å).
        steps: most steps of the band, and of the relaxation of each end.
        spring: stiffness of the springs between images (eV/Å²).
        checkpoint: keeps ends and band in a file at every step, so that an interrupted search can go on; exactly so
            with FIRE. A band that ran out of steps goes on with more of them.
        callback: called with an `NEBStep` at every step.

    Raises:
        TypeError: for a structure of an unknown type.
        ValueError: if the ends do not fit together, are the same, or do not relax; for impossible options; or for a
            checkpoint that is damaged or of another search.
        KeyboardInterrupt: after Ctrl-C.
    """
    settings: dict[str, Any] = {
        **{"n_images": n_images, "climb": climb, "relax_ends": relax_ends, "mapping": mapping, "fmax": fmax},
        **{"interpolation": interpolation, "optimizer": optimizer, "steps": steps, "spring": spring},
    }
    options = NEBOptions(**settings)
    engine = choose_calculator(initial, calculator)
    first = as_atoms(initial)
    last, order = match_ends(first, as_atoms(final), mapping=mapping)
    apart = _largest(last.positions - first.positions)
    if checkpoint is not None:
        checkpoint.take_up({"initial": first, "final": last}, options.to_dict())
    moved = None
    if relax_ends:
        first, last, moved = _relaxed_ends(first, last, engine, options, checkpoint)
    band = _Band(first, last, engine, options, checkpoint, callback)
    band.relax()
    return _result(band, order, moved, apart, options)


def _relaxed_ends(
    first: Atoms, last: Atoms, calculator: Any, options: NEBOptions, checkpoint: SearchCheckpoint | None
) -> tuple[Atoms, Atoms, tuple[float, float]]:
    """Relax both ends, or take them as an earlier search left them; they and their largest displacements (Å)."""
    kept = None if checkpoint is None else checkpoint["ends"]
    if kept is not None:
        first, last = first.copy(), last.copy()
        for end, name in ((first, "first"), (last, "last")):
            end.positions[:] = kept[name]
        moved = (float(kept["moved"][0]), float(kept["moved"][1]))
    else:
        (first, moved_first), (last, moved_last) = (
            _relaxed(end, calculator, options, name) for end, name in ((first, "initial"), (last, "final"))
        )
        moved = (moved_first, moved_last)
    if _largest(last.positions - first.positions) < SAME_STRUCTURE:
        raise ValueError(
            "Both ends relax into the same structure, so there is no path between them. Start from ends that are "
            "minima, or use relax_ends=False."
        )
    if checkpoint is not None and kept is None:
        ends = {"first": first.positions.tolist(), "last": last.positions.tolist(), "moved": moved}
        checkpoint.keep("ends", ends)
    return first, last, moved


def _largest(displacements: Array) -> float:
    return float(np.linalg.norm(displacements, axis=1).max())


def _relaxed(end: Atoms, calculator: Any, options: NEBOptions, name: str) -> tuple[Atoms, float]:
    """Relax an end; it and the largest displacement of an atom (Å)."""
    result = relax(end, calculator, fmax=options.fmax, steps=options.steps)
    require_converged(result, f"the relaxation of the {name} structure")
    atoms = result.atoms.copy()
    return atoms, _largest(atoms.positions - end.positions)


class OwnResults(Calculator):
    """One image's view of a calculator that all images share: keeps the results of its own structure."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, shared: Any) -> None:
        super().__init__()
        self.shared = shared

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Let the shared calculator compute energy and forces.

        Raises:
            ValueError: if the positions, or the results of the calculator, are not finite.
        """
        super().calculate(atoms, properties or ["energy"], system_changes)
        assert self.atoms is not None
        work = self.atoms.copy()
        if not np.isfinite(work.positions).all():  # ASE divided by a force or a distance of zero
            raise ValueError("The search came to rest on a stationary point and has no way on; start it another way.")
        work.set_constraint()
        work.calc = self.shared
        energy, forces = float(work.get_potential_energy()), np.array(work.get_forces())
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise ValueError(f"{type(self.shared).__name__} gave an energy or forces that are not finite.")
        self.results = {"energy": energy, "forces": forces}


class _Band:
    """A band under way."""

    def __init__(
        self,
        first: Atoms,
        last: Atoms,
        calculator: Any,
        options: NEBOptions,
        checkpoint: SearchCheckpoint | None,
        callback: Callable[[NEBStep], None] | None,
    ) -> None:
        self.options, self.checkpoint, self.callback = options, checkpoint, callback
        self.images = [first.copy() for _ in range(options.n_images + 1)] + [last.copy()]
        for image in self.images:
            image.calc = OwnResults(calculator)
        self.neb = NEB(self.images, k=options.spring, climb=False, method="improvedtangent")
        # the ends are nearest images of each other, so that a straight line needs no images
        self.neb.interpolate(mic=False, apply_constraint=bool(first.constraints))
        if options.interpolation == "idpp" and len(first) > 1:
            self.neb.interpolate("idpp", mic=bool(first.pbc.any()), apply_constraint=bool(first.constraints))
        self.steps = 0
        self.near = not options.climb  # whether the first of two stages is over, or there is but one
        self.converged = False
        self._kept: dict[str, Any] = {}  # of an optimizer that was interrupted
        if checkpoint is not None and checkpoint["band"] is not None:
            self._restore(checkpoint["band"])

    def _restore(self, kept: Mapping[str, Any]) -> None:
        """Go on where an earlier search stopped."""
        for image, positions in zip(self.images, kept["positions"], strict=True):
            image.positions[:] = positions
        self.steps, self.near, self.neb.climb = kept["steps"], kept["near"], kept["climb"]
        self._kept = kept["optimizer"]

    def _keep(self, optimizer: Any) -> None:
        if self.checkpoint is not None:
            positions = [image.positions.tolist() for image in self.images]
            stage = {"steps": self.steps, "near": self.near, "climb": bool(self.neb.climb)}
            self.checkpoint.keep("band", {**stage, "positions": positions, "optimizer": optimizer_state(optimizer)})

    def relax(self) -> None:
        """Bring the band to rest; an image climbs once the band is near, unless an end is the highest point."""
        options = self.options
        if not self.near:
            self._drive(FIRST_STAGE * options.fmax, options.steps // 2 - self.steps)
            self.near = True
            self.neb.climb = 0 < int(np.argmax(self.energies)) < len(self.images) - 1
        self.converged = self._drive(options.fmax, options.steps - self.steps)

    def _drive(self, fmax: float, steps: int) -> bool:
        """Optimise until forces are small; whether they became so."""
        taken, kept, self._kept = self.steps, self._kept, {}
        optimizer = (
            FIRE(self.neb, logfile=None) if self.options.optimizer == "FIRE" else NEBOptimizer(self.neb, logfile=None)
        )
        restore_optimizer(optimizer, kept)

        def count() -> None:
            self.steps = taken + optimizer.nsteps
            self._keep(optimizer)
            if self.callback is not None:
                energies = self.energies
                self.callback(NEBStep(self.steps, self.max_force, float(energies.max() - energies[0])))

        with optimizer:
            optimizer.attach(count)
            optimizer.run(fmax=fmax, steps=max(steps, 0 if taken else 1))
        self.steps = taken + optimizer.nsteps
        return self.max_force <= fmax

    @property
    def energies(self) -> Array:
        """Energy of every image (eV)."""
        return np.array([image.get_potential_energy() for image in self.images])

    @property
    def max_force(self) -> float:
        """Largest force on an image of the band (eV/Å)."""
        return float(np.linalg.norm(self.neb.get_forces(), axis=1).max())


def _result(
    band: _Band,
    order: NDArray[np.int64],
    moved: tuple[float, float] | None,
    apart: float,
    options: NEBOptions,
) -> BarrierResult:
    images = [_frozen(image) for image in band.images]
    fit = fit_images(images)
    energies = np.asarray(fit.energies)
    highest = int(np.argmax(energies))
    top = float(energies[highest]) if options.climb else float(np.max(fit.fit_energies))
    verdict = FOUND
    if not band.converged:
        verdict = NOT_CONVERGED
    elif moved is not None and max(moved) > 0.5 * apart:
        verdict = END_MOVED
    elif highest in (0, len(images) - 1) or min(top, top - energies[-1]) < FLAT:
        verdict = NO_BARRIER
    return BarrierResult(
        images=images,
        verdict=verdict,
        warnings=_warnings(energies, highest, order, moved),
        forward=top,
        reverse=top - float(energies[-1]),
        reaction_energy=float(energies[-1]),
        path=np.asarray(fit.path),
        energies=energies,
        fit_path=np.asarray(fit.fit_path),
        fit_energies=np.asarray(fit.fit_energies),
        highest=highest,
        max_force=band.max_force,
        steps=band.steps,
        order=order,
        ends_moved=moved,
        options=options,
    )


def _frozen(image: Atoms) -> Atoms:
    frozen = image.copy()
    results = {"energy": image.get_potential_energy(), "forces": image.get_forces(apply_constraint=False)}
    frozen.calc = SinglePointCalculator(frozen, **results)
    return frozen


def _warnings(
    energies: Array, highest: int, order: NDArray[np.int64], moved: tuple[float, float] | None
) -> tuple[str, ...]:
    warnings = []
    if not np.array_equal(order, np.arange(len(order))):
        changed = int(np.sum(order != np.arange(len(order))))
        warnings.append(f"{changed} atoms of the final structure were paired anew; mapping=False keeps their order")
    inner = energies[1:-1]
    valleys = [k + 1 for k in range(len(inner)) if inner[k] < min(energies[k], energies[k + 2]) - FLAT]
    if valleys:
        warnings.append(
            f"image {valleys[0]} of 0 to {len(energies) - 1} lies in a minimum between the ends; relax it and look for "
            "the barriers on both sides"
        )
    if moved is not None and max(moved) > 0.3:
        warnings.append(f"the ends moved by up to {moved[0]:.2f} Å and {moved[1]:.2f} Å as they relaxed")
    return tuple(warnings)
