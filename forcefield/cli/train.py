"""`forcefield train`: from a configuration to a model with its card, resumable, in one process or several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.options import Debug
from forcefield.cli.report import INTERRUPTED, fail, make_console, one_line_errors

LABELS = {
    "energy": ("energy", 1000, "meV/atom"),
    "forces": ("forces", 1000, "meV/Å"),
    "stress": ("stress", 160.21766, "GPa"),
}


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file; its relative paths are taken from its folder.")
    ] = None,
    set_entries: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change an entry of the configuration, such as hessian.weight=2."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to train: auto, cpu, cuda.  [default: as CONFIG says]")
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--restart",
            help="Insist on a checkpoint to go on from, or begin anew.  [default: go on if there is a checkpoint]",
        ),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a configuration with comments, and end.")] = False,
    debug: Debug = False,
) -> None:
    """Train a potential, or with `task:` in CONFIG a model of another property; leave a model folder with its card.

    Killed at any moment, the same command goes on from the last checkpoint. The output folder gets checkpoint.pt,
    log.jsonl, train.csv, validation.csv, plots, and at the end model/. Several processes or GPUs:
    torchrun --nproc-per-node N -m forcefield train CONFIG. The status is 0 after a finished run, 2 after an error and
    130 after Ctrl-C.
    """
    with one_line_errors(debug=debug), missing_extra_named():
        if example:
            from forcefield.train.reference import example as example_text

            typer.echo(example_text())
            return
        if config is None:
            fail("no CONFIG; `forcefield train --example > config.yaml` makes one to start with.")
        settings, work = run_of(config, set_entries or ())
        if device is not None:
            settings = settings.model_copy(update={"device": device})
        if resume and not any((settings.output / name).is_file() for name in ("checkpoint.pt", "previous.pt")):
            fail(f"--resume, but {settings.output} has no checkpoint.")
        try:
            with ProgressBar(quiet=os.environ.get("RANK", "0") != "0") as bar:
                work(settings, watcher=bar, restart=resume is False)
        except KeyboardInterrupt:
            typer.echo(f"stopped; the same command goes on from the last checkpoint in {settings.output}", err=True)
            raise typer.Exit(INTERRUPTED) from None


def run_of(config: Path, set_entries: Sequence[str]) -> tuple[Any, Callable[..., Any]]:
    """Settings of a potential or, if the configuration has a task, of a property; and what trains with them.

    Raises:
        ValueError: the configuration cannot be read, or is wrong.
    """
    from forcefield.train.config_file import read_config, read_mapping

    if "task" in read_mapping(config):
        from forcefield.tasks.config import read_property_config
        from forcefield.tasks.finish import train_property

        return read_property_config(config, set_entries), train_property
    from forcefield.train.finish import train_to_model

    return read_config(config, set_entries), train_to_model


@contextmanager
def missing_extra_named() -> Iterator[None]:
    """Name the extra where a library for training is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("pydantic", "yaml", "torch_ema"):
            raise
        fail(f'training needs {error.name}: pip install "gnn-forcefield[train]"')


class ProgressBar:
    """A bar with the time left in a terminal, and a line for every entry of the log, on standard error.

    Args:
        quiet: show nothing (in all processes but one).
    """

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._quiet = quiet
        self._console = make_console(stderr=True)
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[left]}  {task.fields[detail]}"),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=1.0, left="", detail="")

    def __enter__(self) -> ProgressBar:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def note(self, text: str) -> None:
        """Leave a line."""
        if not self._quiet:
            self._console.print(text, markup=False)

    def event(self, entry: Mapping[str, Any]) -> None:
        """Leave a line about an entry of the log."""
        self.note(describe(entry))

    def progress(self, share: float, seconds: float, step: int) -> None:
        """Move the bar."""
        left = time_text(seconds * (1 - share) / share) + " left" if share > 0 else ""
        self._bar.update(self._task, completed=share, left=left, detail=f"step {step:,}")


def time_text(seconds: float) -> str:
    """Hours, minutes and seconds, as far as they say something."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def describe(entry: Mapping[str, Any]) -> str:
    """One line about an entry of the log."""
    parts = [f"{entry['event']:<10} step {entry['step']:>7,}  {entry['minutes']:7.1f} min"]
    if "loss" in entry:
        parts.append(f"loss {entry['loss']:.4g}")
    for name, (title, factor, unit) in LABELS.items():
        value = entry.get(name, entry.get(f"{name}_mae"))
        if value is not None:
            parts.append(f"{title} {factor * value:.3g} {unit}")
    if "mae" in entry:
        parts.append(f"MAE {entry['mae']:.4g}")
    if "hessian" in entry:
        parts.append(f"Hessian {entry['hessian']:.3g} eV/Å^2")
    if entry.get("skipped"):
        parts.append(f"{entry['skipped']} steps skipped")
    return "  ".join(parts)
