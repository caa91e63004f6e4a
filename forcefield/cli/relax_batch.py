"""`forcefield relax --batch`: the structures of all files relaxed together instead of one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forcefield.cli.batch import each_frame, failure_handler, overlaps_known
from forcefield.cli.report import ProgressLine

if TYPE_CHECKING:
    from ase import Atoms

    from forcefield.cli.io import Frame
    from forcefield.cli.relax_work import Batch
    from forcefield.workflows import RelaxResult
    from forcefield.workflows.batched import BatchProgress

STORE = "relax_batch.jsonl"  # what --resume reads, in the output folder


def relax_together(
    files: Sequence[Path],
    index: str,
    work: Batch,
    calculator: Any,
    *,
    engine: str,
    max_edges: int | None,
    debug: bool,
) -> bool:
    """Relax every frame of every file in a batch, and finish each as soon as it is done.

    Args:
        files: input files.
        index: frames to take from each, in ASE's notation.
        work: options and folder of the relaxations; keeps what became of them.
        calculator: the ASE calculator.
        engine: what moves the structures, as `relax_each` takes it.
        max_edges: neighbour pairs in the batch; None chooses by the device.
        debug: let errors through.

    Returns:
        Whether Ctrl-C ended it early.

    Raises:
        ValueError: if the folder's store belongs to other options or another model.
        ImportError: if torch-sim is asked for and not installed.
    """
    from forcefield.workflows.batched import relax_each

    plan = work.plan
    own = {**plan.options.to_dict(), **({"cell": None} if plan.automatic_cell else {})}
    frames: dict[int, Frame] = {}
    with ProgressLine(len(set(files))) as progress:
        failed = failure_handler(progress, work.refuse, debug=debug)
        source = _remembered(each_frame(files, index, progress, failed), frames, work, progress)
        outcomes = relax_each(
            source,
            calculator,
            max_edges=max_edges,
            engine=engine,
            store=plan.folder / STORE,
            callback=_detail(progress),
            **own,
        )
        interrupted = False
        try:
            with overlaps_known(), closing(outcomes):
                for outcome in outcomes:
                    frame = frames.pop(outcome.index)
                    if outcome.result is None:
                        failed(frame.label, outcome.exception or ValueError(outcome.error))
                        continue
                    interrupted = interrupted or outcome.reason == "interrupted"
                    _finish(frame, outcome.result, work, failed, progress, stored=outcome.route == "stored")
        except KeyboardInterrupt:
            return True
    return interrupted


def _remembered(
    frames: Iterator[Frame], known: dict[int, Frame], work: Batch, progress: ProgressLine
) -> Iterator[Atoms]:
    """Give the structures of the frames, note which frame each came from, and tell what was settled for it."""
    for number, frame in enumerate(frames):
        known[number] = frame
        work.plan.tell(frame, progress.note)
        yield frame.atoms


def _finish(
    frame: Frame,
    result: RelaxResult,
    work: Batch,
    failed: Callable[[str, Exception], None],
    progress: ProgressLine,
    *,
    stored: bool,
) -> None:
    try:
        line = work.finish(frame, result, stored=stored)
    except (OSError, ValueError) as error:  # its files cannot be written
        failed(frame.label, error)
    else:
        progress.done(line)


def _detail(progress: ProgressLine) -> Callable[[BatchProgress], None]:
    def show(state: BatchProgress) -> None:
        progress.detail(f"step {state.evaluations}  {state.running} in flight  {state.edges:,} neighbour pairs")

    return show
