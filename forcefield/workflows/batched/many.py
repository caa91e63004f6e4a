"""Relaxing many structures: one batch on one device, which structures leave when they are done and others join."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from forcefield.structures import TooLargeError, as_atoms
from forcefield.workflows import relax_result as ended
from forcefield.workflows.batched.choices import (
    BATCH_OPTIMIZERS,
    ENGINES,
    why_not_torch_sim,
)
from forcefield.workflows.batched.outcome import BatchOutcome, BatchProgress, failure
from forcefield.workflows.batched.store import RelaxStore, structure_key
from forcefield.workflows.relax import relax
from forcefield.workflows.relax_setup import AXES, RelaxOptions

if TYPE_CHECKING:
    from forcefield.workflows.batched.engine import BatchEngine


def relax_many(structures: Iterable[Any], calculator: Any = None, **options: Any) -> list[BatchOutcome]:
    """Relax many structures, a batch of them at a time on one device.

    As `relax_each`, with the outcomes in the order of the structures. After Ctrl-C those of the structures that were
    computed at all are returned, with the reason "interrupted" where they were not done.
    """
    return sorted(relax_each(structures, calculator, **options), key=lambda outcome: outcome.index)


def relax_each(
    structures: Iterable[Any],
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
    max_edges: int | None = None,
    skin: float = 0.5,
    engine: str = "auto",
    store: str | Path | None = None,
    callback: Callable[[BatchProgress], None] | None = None,
) -> Generator[BatchOutcome, None, None]:
    """Relax many structures and give each as soon as it is done.

    With a model of this package and the optimizer FIRE or LBFGS, as many structures as `max_edges` allows are evaluated
    together at every step; one that is done leaves the batch and the next joins at once. Each takes the steps that it
    would take in `relax`. Crystals, slabs and molecules mix; all constraints hold. With another optimizer, calculator,
    or a calculator attached to a structure, structures are relaxed by `relax`, one after the other.

    Args:
        structures: `ase.Atoms`, or pymatgen structures or molecules; an iterator is read as room comes up.
        calculator: an ASE calculator; None takes the one attached to a structure, else the default model.
        cell: relax the cell together with the atoms; None: of crystals, and of no slabs and molecules, be they in a
            periodic cell or not (`RelaxResult.notice` says so).
        cell_axes: letters of the cell vectors that may change; fewer than three are relaxed by `relax`.
        fmax: as in `relax`, as are all options up to `symprec`.
        smax: see there.
        steps: see there.
        optimizer: see there.
        pressure: see there.
        symmetry: see there.
        symprec: see there.
        max_edges: neighbour pairs in a batch; None chooses by the device. It falls to half when memory runs out.
        skin: extra radius of the neighbour lists (Å).
        engine: "own", the loop described above; "torch-sim", which serves FIRE without constraints or symmetry, for
            crystals and molecules (others are relaxed by `relax`); "auto" takes "own", which was measured faster.
        store: file in which finished relaxations are kept; those it holds of an earlier run are not done again.
        callback: called with a `BatchProgress` after every step of the batch and every structure done.

    Returns:
        An iterator over the outcomes, in the order in which they are done. A structure that cannot be relaxed is an
        outcome with an `error` and stops no other. After Ctrl-C come the last states of those in flight.

    Raises:
        ValueError: for an impossible option, or a store of other options.
        ImportError: if torch-sim is asked for and not installed.
        TypeError: if a single structure came instead of many.
    """
    if isinstance(structures, Atoms):
        raise TypeError("A single ase.Atoms came, but many structures are expected. Use relax(atoms), or give a list.")
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
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}, but must be one of {', '.join(ENGINES)}.")
    if engine == "torch-sim":
        from forcefield.torchsim.model import require_torch_sim  # loads torch

        require_torch_sim()
    if max_edges is not None and max_edges < 1:
        raise ValueError(f"max_edges is {max_edges}, but must be 1 or more.")
    if not (math.isfinite(skin) and skin >= 0.0):
        raise ValueError(f"skin is {skin}, but must be a length in Å, 0 or more.")
    total = len(structures) if isinstance(structures, Sized) else None
    run = _Run(calculator, options, cell is None, max_edges, skin, engine == "torch-sim", callback, total)
    if store is not None:
        run.store = RelaxStore(store, run.identity())
    return run.drive(iter(structures))


@dataclass
class _Run:
    """A run under way."""

    calculator: Any
    options: RelaxOptions
    automatic_cell: bool
    max_edges: int | None
    skin: float
    with_torch_sim: bool
    callback: Callable[[BatchProgress], None] | None
    total: int | None
    store: RelaxStore | None = None
    engine: BatchEngine | None = None
    finished: int = 0
    keys: dict[int, str] = field(default_factory=dict)  # of structures that are not done
    default: Any = None  # the default model, once it is needed

    def identity(self) -> dict[str, Any]:
        """What results depend on beside the structure."""
        options = self.options.to_dict() | ({"cell": "automatic"} if self.automatic_cell else {})
        engine = {"engine": "torch-sim"} if self.with_torch_sim else {}
        return {"options": options, "calculator": describe_calculator(self._calculator()), **engine}

    def drive(self, source: Iterator[Any]) -> Generator[BatchOutcome, None, None]:
        """Give every outcome once, kept in the store; after Ctrl-C the last states of those in flight."""
        given = set()
        try:
            for outcome in self._outcomes(enumerate(source)):
                self._keep(outcome)
                self.finished += 1
                given.add(outcome.index)
                self._report()
                yield outcome
                if outcome.reason == ended.INTERRUPTED:  # as `relax` says it
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            for outcome in self.engine.interrupted() if self.engine is not None else ():
                if outcome.index not in given:
                    yield outcome

    def _outcomes(self, waiting: Iterator[tuple[int, Any]]) -> Iterator[BatchOutcome]:
        """Let structures in while there is room, make a step, give those that are done; until none is left."""
        more = True
        while True:
            while more and (self.engine is None or self.engine.has_room()):
                found = next(waiting, None)
                more = found is not None
                outcome = None if found is None else self._enter(*found)
                if outcome is not None:
                    yield outcome
            if self.engine is None or len(self.engine) == 0:
                return
            yield from self.engine.step()
            self._report()

    def _enter(self, index: int, structure: Any) -> BatchOutcome | None:
        """Let a structure into the batch, or give its outcome at once."""
        try:
            start = as_atoms(structure)
            attached = _attached(structure) if self.calculator is None else None
            known = self._known(index, start, attached)
            if known is not None:
                return known
            if attached is None and self._batch_serves(start):
                self._engine().add(index, start)
                return None
            cell = None if self.automatic_cell else self.options.cell
            result = relax(start, attached or self._calculator(), **{**self.options.to_dict(), "cell": cell})
            return BatchOutcome(index, result, route="alone")
        except Exception as error:  # whatever a structure or a calculator runs into belongs to this structure
            return failure(index, error)

    def _known(self, index: int, start: Atoms, attached: Any) -> BatchOutcome | None:
        """Look a structure up in the store."""
        if self.store is None:
            return None
        self.keys[index] = structure_key(start, "" if attached is None else str(describe_calculator(attached)))
        return self.store.get(self.keys[index], index, start)

    def _keep(self, outcome: BatchOutcome) -> None:
        """Write an outcome down that would come out the same again."""
        key = self.keys.pop(outcome.index, None)
        if self.store is None or key is None or outcome.route == "stored" or outcome.reason == ended.INTERRUPTED:
            return
        lasting = isinstance(outcome.exception, (ValueError, TypeError)) and not isinstance(
            outcome.exception, TooLargeError
        )
        if outcome.result is not None or lasting:
            self.store.add(key, outcome)

    def _batch_serves(self, start: Atoms) -> bool:
        """Whether optimizer and calculator work in a batch: a model of this package, and no class derived from it."""
        if not self.options.all_axes:  # a strain with held components is `relax`'s alone
            return False
        if self.options.optimizer.upper() not in BATCH_OPTIMIZERS or not hasattr(self._calculator(), "model"):
            return False
        from forcefield.calculator import GNNCalculator

        if type(self._calculator()) is not GNNCalculator:
            return False
        return not self.with_torch_sim or why_not_torch_sim(start, self.options) is None

    def _engine(self) -> BatchEngine:
        if self.engine is None:
            self.engine = self._new_engine()
        return self.engine

    def _new_engine(self) -> BatchEngine:
        from forcefield.evaluation import Evaluator  # loads torch, as do the next
        from forcefield.workflows.batched.batch import Batch
        from forcefield.workflows.batched.engine import BatchEngine, Crew

        calculator, options, skin = self._calculator(), self.options, self.skin
        evaluator = Evaluator(calculator.model.potential, compiled=calculator._compiled, max_edges=self.max_edges)
        crew: Crew
        if self.with_torch_sim:
            from forcefield.workflows.batched.torchsim_fleet import Fleet  # loads torch-sim

            crew, route = Fleet(calculator, evaluator, options, skin=skin), "torch-sim"
        else:
            crew, route = Batch(evaluator, options, skin=skin), "batch"
        return BatchEngine(evaluator, crew, options, automatic_cell=self.automatic_cell, skin=skin, route=route)

    def _calculator(self) -> Any:
        """The calculator given, or the default model."""
        if self.calculator is not None:
            return self.calculator
        if self.default is None:
            from forcefield.calculator import GNNCalculator  # loads torch and a model, needed in this case only

            self.default = GNNCalculator()
        return self.default

    def _report(self) -> None:
        if self.callback is None:
            return
        running, evaluations, edges = 0, 0, 0
        if self.engine is not None:
            running, evaluations, edges = len(self.engine), self.engine.evaluations, self.engine.n_edges
        self.callback(BatchProgress(self.finished, running, self.total, evaluations, edges))


def _attached(structure: Any) -> Any:
    """The calculator attached to a structure; stored results of a file do not count."""
    attached = getattr(structure, "calc", None) if isinstance(structure, Atoms) else None
    return None if isinstance(attached, SinglePointCalculator) else attached


def describe_calculator(calculator: Any) -> dict[str, str]:
    """What tells one calculator from another in a store: the model's checksum and precision, or the class."""
    model = getattr(calculator, "model", None)
    if model is not None and hasattr(model, "config"):
        return {"model": model.name, "sha256": model.config["sha256"], "dtype": calculator.dtype}
    kind = type(calculator)
    return {"class": f"{kind.__module__}.{kind.__qualname__}"}
