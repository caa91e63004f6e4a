"""`screen(structures, task, executor)`: structures come from an iterator, a few are under way, records go to disk."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from ase import Atoms

from forcefield.screening.journal import Journal
from forcefield.screening.pool import Workplace
from forcefield.screening.result import (
    MISSING,
    ScreeningProgress,
    ScreeningResult,
    read_records,
    rows_of,
)
from forcefield.screening.table import NO_PARQUET, write_tables
from forcefield.screening.work import describe_work, prepare_work
from forcefield.screening.worker import Work, compute, failed_record
from forcefield.structures import as_atoms, is_from_pymatgen
from forcefield.workflows.batched.store import structure_key

JOURNAL = "screening.jsonl"
DIED = "its worker process died (out of memory, or a crash of the calculator)"

Callback = Callable[[ScreeningProgress], None]
Places = Executor | Callable[[], Executor] | int | None


class Item(NamedTuple):
    """A structure under way: its number, name (or None), key in the journal, and itself."""

    number: int
    label: str | None
    key: str
    atoms: Atoms


def screen(
    structures: Iterable[Any],
    task: str | Callable[..., Any] = "relax",
    executor: Places = None,
    *,
    options: Mapping[str, Any] | None = None,
    calculator: Any = None,
    output: str | Path = "screening",
    in_flight: int | None = None,
    retry_failed: bool = False,
    calculator_name: str | None = None,
    callback: Callback | None = None,
) -> ScreeningResult:
    """Do one task with very many structures, on any `concurrent.futures.Executor`.

    Structures are taken from the iterable as room comes up, and records are written to disk as they come, so that the
    memory does not grow with structures or results. The same call again goes on where an earlier one was ended. An
    error, or the death of a worker process, belongs to one structure and stops no other. Ctrl-C ends it with what is
    done.

    Args:
        structures: `ase.Atoms`, pymatgen structures, or pairs (name, structure); a pair (name, exception) counts as
            failed.
        task: "predict", "relax" (the cells of crystals too, unless `cell` says otherwise), "eos", "elastic", or a
            function (atoms, calculator, **options), without a calculator (atoms, **options), that gives a mapping; it
            must be importable where it runs.
        executor: None computes in this process; a number is that of own processes, with one PyTorch thread each; else
            an executor, such as Dask's `client.get_executor()`, or a function that makes one (which then is replaced
            when it breaks).
        options: of the task.
        calculator: a function without arguments that makes an ASE calculator, called once in each worker, such as
            `functools.partial(GNNCalculator, "mp-0")` or a class; an ASE calculator itself only without executor. None:
            the default model for the tasks of this package, nothing for other functions.
        output: folder for screening.jsonl (all records), results.csv and, with pyarrow, results.parquet.
        in_flight: most structures under way; twice the number of own processes, or 256 on other executors. Several
            times the number of workers keeps all of them busy.
        retry_failed: do structures again that failed in an earlier run.
        calculator_name: what the folder is to remember of the calculator, where its own description does not do.
        callback: called with a `ScreeningProgress` after every structure.

    Returns:
        Counts, files, and iterators over records, failures and structures.

    Raises:
        ValueError: for an unknown task, impossible options, a folder of another screening, or a broken executor that
            cannot be replaced.
        TypeError: if a single structure or a path came instead of many structures.
        OSError: if the folder cannot be written.
    """
    if isinstance(structures, Atoms) or is_from_pymatgen(structures):
        kind = type(structures).__name__
        raise TypeError(f"A single {kind} came, but many structures are expected; give a list or an iterator")
    if isinstance(structures, str | PathLike):
        raise TypeError(
            f"The path {str(structures)!r} came, but structures are expected; give ase.io.iread(path, ':') for a file, "
            "or use the command `forcefield screen` for a folder"
        )
    if in_flight is not None and in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}, but must be 1 or more")
    work = prepare_work(task, options or {}, calculator, here=executor is None)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    identity = describe_work(task, work, calculator_name)
    with Journal(folder / JOURNAL, identity, retry_failed=retry_failed) as journal:
        run = Screening(work, Workplace(executor), journal, in_flight, callback)
        run.drive(structures)
    return _sum_up(folder, run)


class Screening:
    """One run: what is under way, and what became of each structure.

    Args:
        work: what to do with each.
        workplace: where.
        journal: of the records.
        in_flight: most structures under way; None leaves it to the workplace.
        callback: told of every structure.
    """

    def __init__(
        self, work: Work, workplace: Workplace, journal: Journal, in_flight: int | None, callback: Callback | None
    ) -> None:
        self.work, self.workplace, self.journal, self.callback = work, workplace, journal, callback
        self.in_flight = in_flight or workplace.in_flight
        self.running: dict[Future[dict[str, Any]], Item] = {}
        self.places = array("q")
        self.n_done = self.n_known = self.n_ok = self.n_failed = 0
        self.interrupted = False

    def drive(self, structures: Iterable[Any]) -> None:
        """Take the structures one after the other, and wait for the last."""
        ended = False
        try:
            for index, given in enumerate(structures):
                self.places.append(MISSING)
                self._take(index, given)
                self._collect(self.in_flight - 1)
            self._collect(0)
            ended = True
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            if not ended:
                self._keep_finished()
            self.workplace.close(at_once=not ended)

    def _take(self, index: int, given: Any) -> None:
        """Let a structure in, unless it is known or cannot be computed at all."""
        label, structure = given if isinstance(given, tuple) else (None, given)
        try:
            if isinstance(structure, Exception):
                raise structure
            atoms = as_atoms(structure)
            item = Item(index, label, _key(label, atoms), atoms)
        except Exception as error:  # of this structure, whatever its reader had to say
            self._keep(Item(index, label, "", Atoms()), failed_record(error))
            return
        place = self.journal.find(item.key)
        if place is None:
            self._submit(item)
        else:
            self.n_known += 1
            self._count(item, place, self.journal.read(place), known=True)

    def _submit(self, item: Item) -> None:
        try:
            self.running[self.workplace.executor.submit(compute, self.work, item.atoms)] = item
        except BrokenExecutor as error:
            self._recover(error, [item])

    def _collect(self, most: int) -> None:
        """Wait until no more than so many structures are under way."""
        while len(self.running) > most:
            done = wait(self.running, return_when=FIRST_COMPLETED).done
            for future in [future for future in self.running if future in done]:  # in the order they were taken
                if future not in self.running:
                    continue  # lost with others, and dealt with
                item = self.running.pop(future)
                try:
                    self._finish(item, future)
                except BrokenExecutor as error:
                    self._recover(error, [item])

    def _finish(self, item: Item, future: Future[dict[str, Any]]) -> None:
        """Keep what came of a structure; what the executor itself raises is not remembered for the next run.

        Raises:
            BrokenExecutor: if processes have died.
        """
        try:
            record = future.result()
        except BrokenExecutor:
            raise
        except Exception as error:
            self._keep(item._replace(key=""), failed_record(error))
        else:
            self._keep(item, record)

    def _recover(self, error: BrokenExecutor, lost: list[Item]) -> None:
        """Do what was lost with dead processes again, one by one, to find out which structure kills them."""
        lost += [item for future, item in self.running.items() if not self._has_result(future)]
        finished = {future: item for future, item in self.running.items() if self._has_result(future)}
        self.running = {}
        for future, item in finished.items():
            self._finish(item, future)
        self.workplace.replace(error)
        for item in sorted(lost):
            try:
                self._finish(item, self.workplace.executor.submit(compute, self.work, item.atoms))
            except BrokenExecutor as again:
                self._keep(item, failed_record(ValueError(DIED)))
                self.workplace.replace(again)

    @staticmethod
    def _has_result(future: Future[dict[str, Any]]) -> bool:
        return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenExecutor)

    def _keep_finished(self) -> None:
        """After an early end: keep what has just been done, and let go of what waits."""
        for future in self.running:
            future.cancel()
        for future, item in self.running.items():
            if self._has_result(future):
                self._finish(item, future)
        self.running = {}

    def _keep(self, item: Item, record: Mapping[str, Any]) -> None:
        place = self.journal.add(item.key, {"label": item.label, **record})
        self._count(item, place, record, known=False)

    def _count(self, item: Item, place: int, record: Mapping[str, Any], *, known: bool) -> None:
        self.places[item.number] = place
        self.n_done += 1
        self.n_ok += bool(record["ok"])
        self.n_failed += record["error"] is not None
        if self.callback is not None:
            label = item.label or str(item.number)
            how = (record["verdict"], record["error"], known)
            also = record["values"].get("note"), tuple(record.get("warnings", ()))
            self.callback(ScreeningProgress(label, *how, self.n_done, len(self.running), *also))


def _key(label: str | None, atoms: Atoms) -> str:
    """Key of a structure with its name, 24 hexadecimal digits."""
    if label is None:
        return structure_key(atoms)
    return hashlib.sha256(f"{label}\n{structure_key(atoms)}".encode()).hexdigest()[:24]


def _sum_up(folder: Path, run: Screening) -> ScreeningResult:
    journal = folder / JOURNAL
    table, parquet = write_tables(folder, lambda: rows_of(read_records(journal, run.places)))
    return ScreeningResult(
        folder=folder,
        table=table,
        parquet=parquet,
        n_structures=len(run.places),
        n_done=run.n_done,
        n_known=run.n_known,
        n_ok=run.n_ok,
        n_failed=run.n_failed,
        interrupted=run.interrupted,
        notes=() if parquet is not None else (NO_PARQUET,),
        _journal=journal,
        _places=run.places,
    )
