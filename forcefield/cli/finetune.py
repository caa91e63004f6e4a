"""`forcefield finetune`: a model adapted to new data, with its errors before and after and what it forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.groups import expand_groups
from forcefield.cli.options import AsJson, Debug, ReadingOptions
from forcefield.cli.report import INTERRUPTED, format_number, one_line_errors, print_json, print_table
from forcefield.cli.train import ProgressBar, missing_extra_named, time_text

if TYPE_CHECKING:
    from forcefield.train.finetune import FinetuneResult
    from forcefield.train.finetune_report import Errors, Stage

COLUMNS = {
    "energy_mae": ("energy\nmeV/atom", 1000.0, 1),
    "forces_mae": ("forces\nmeV/Å", 1000.0, 1),
    "stress_mae": ("stress\nGPa", 160.21766, 3),
}
NOT_BETTER = 1
"""Status where the fine-tuned model is not better."""


@dataclass(frozen=True)
class Settings:
    """Options as `forcefield.train.finetune_options.FinetuneOptions` takes them."""

    validation: Annotated[
        Path | None, typer.Option(help="Labelled file to validate on.  [default: a part of DATA]")
    ] = None
    validation_share: Annotated[
        float, typer.Option(help="Share of DATA to validate on: whole materials, or the last frames of a single one.")
    ] = 0.1
    epochs: Annotated[float | None, typer.Option(help="Length in passes through the new data.  [default: 30]")] = None
    steps: Annotated[int | None, typer.Option(help="Length in steps, instead.")] = None
    minutes: Annotated[float | None, typer.Option(help="Length in minutes, instead.")] = None
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3
    shared_rate: Annotated[
        float,
        typer.Option(
            help="Share of the rate for parameters that all elements share. Below 1 only DATA's elements change "
            "parameters of their own; at 0 nothing else changes, and little is forgotten."
        ),
    ] = 1.0
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Parameters that stay as they are, such as '*.sender.*'. Repeat for more."
        ),
    ] = None
    replay: Annotated[
        Path | None,
        typer.Option(help="Frames with MODEL's labels to replay.  [default: the sample that comes with MODEL]"),
    ] = None
    no_replay: Annotated[bool, typer.Option("--no-replay", help="Train on DATA alone.")] = False
    replay_share: Annotated[float, typer.Option(help="Share of the training's atoms that are replayed.")] = 0.3
    base_validation: Annotated[
        Path | None,
        typer.Option(help="Frames to measure forgetting on.  [default: the sample that comes with MODEL]"),
    ] = None
    most_forgotten: Annotated[
        float,
        typer.Option(help="Rise of an error on MODEL's own data beyond which the result is not called better (%)."),
    ] = 100.0
    patience: Annotated[int, typer.Option(help="Validations without a new best (of 20) that end the run early.")] = 10
    name: Annotated[str | None, typer.Option(help="Name of the new model, for its card.")] = None
    labels: Annotated[str, typer.Option(help="Where the new labels come from, for the card.")] = (
        "Not stated where the labels come from."
    )
    seed: Annotated[int, typer.Option(help="Another seed, other batches and other frames set aside.")] = 0
    slots: Annotated[int, typer.Option(help="Batch size: atoms times the most neighbours of one of them.")] = 6000
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda.")] = "auto"
    compile: Annotated[
        bool, typer.Option("--compile", help="Let PyTorch compile the network: faster after a minute or two.")
    ] = False


@expand_groups
def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Installed model or model folder to start from.")],
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Labelled files in any format, or store folders.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model, its report, and the run.")],
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew where OUTPUT has an earlier run.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
    *,
    settings: Settings,
    reading: ReadingOptions,
) -> None:
    """Adapt a model to new data without losing what it knows.

    Element energies are refitted to the scale of the new labels, part of the model's own training data is replayed,
    and errors before and after are shown on new data and on the model's validation data. OUTPUT gets model/ with its
    card and report.json. Killed at any moment, the same command goes on. A model that is not better is called
    model-worse/ and the status is 1; it is 2 after an error and 130 after Ctrl-C.
    """
    with one_line_errors(debug=debug), missing_extra_named():
        from forcefield.train.finetune import adapt
        from forcefield.train.finetune_options import FinetuneOptions
        from forcefield.train.finetune_prepare import prepare

        chosen = {**asdict(settings), "freeze": tuple(settings.freeze or ())}
        options = FinetuneOptions(**chosen, read=reading.read_options())
        try:
            with ProgressBar() as bar:
                prepared = prepare(model, data, output=output, options=options, watcher=bar, restart=restart)
                if not as_json:
                    _print_start(prepared.stages, prepared.facts, prepared.shift.total)
                result = adapt(prepared, watcher=bar)
        except KeyboardInterrupt:
            typer.echo(f"stopped; the same command goes on from the last checkpoint in {output}", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(result.as_dict())
    else:
        _print_end(result)
    if not result.better:
        raise typer.Exit(NOT_BETTER)


def _print_start(stages: Sequence[Stage], facts: Mapping[str, Any], shift: Mapping[str, float]) -> None:
    """Errors of the base model, before anything is trained."""
    training = facts["training"]
    typer.echo(f"training on {training['frames']} new frames; validation on {facts['validation']['how']}")
    _print_errors("errors on the new data", [(stage.name, stage.new) for stage in stages])
    if shift:
        moved = ", ".join(f"{symbol} {energy:+.3f}" for symbol, energy in shift.items())
        typer.echo(f"element energies refitted by (eV): {moved}")


def _print_end(result: FinetuneResult) -> None:
    """Errors before and after, and the verdict."""
    start, end = result.stages[1:]
    _print_errors("errors on the new data", [(stage.name, stage.new) for stage in result.stages], start.new, end.new)
    bases = [(stage.name, stage.base) for stage in result.stages[1:] if stage.base is not None]
    if start.base is not None and end.base is not None:
        _print_errors("errors on base validation", bases, start.base, end.base)
        assert result.forgetting is not None
        parts = ", ".join(f"{label} {change:+.1f} %" for label, change in result.forgetting.items())
        typer.echo(f"forgetting: {parts}")
    typer.echo(f"{result.steps} steps in {time_text(result.seconds)}")
    if result.better:
        typer.echo(f"the fine-tuned model is {result.folder}")
    else:
        typer.echo(f"not better: {result.reason}. The model is {result.folder}")


def _print_errors(
    title: str, rows: Sequence[tuple[str, Errors]], before: Errors | None = None, after: Errors | None = None
) -> None:
    """A table of mean absolute errors, with the factor by which each has fallen."""
    present = {key: column for key, column in COLUMNS.items() if any(key in errors["all"] for _, errors in rows)}
    cells = []
    for name, errors in rows:
        values = [(errors["all"].get(key), factor, digits) for key, (_, factor, digits) in present.items()]
        cells.append([name, *(format_number(v if v is None else v * f, d) for v, f, d in values)])
    if before is not None and after is not None:
        pairs = [(before["all"].get(key), after["all"].get(key)) for key in present]
        cells.append(["smaller by a factor of", *(format_number(a / b if a and b else None, 2) for a, b in pairs)])
    titles = [column for column, _, _ in present.values()]
    print_table([title, *titles], cells, numeric=titles)
