"""What the commands show: tables, lines of progress, errors; readable in a terminal, in a pipe and in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_WIDTH = 400  # columns where no terminal sets a limit, so that nothing is cut


def make_console(*, stderr: bool = False) -> Console:
    """Make a rich console that does not wrap where its output is no terminal."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def fail(message: str) -> NoReturn:
    """Print one line of error and end the command with the status of wrong usage."""
    typer.secho(f"Error: {message}", fg="red", err=True)
    raise typer.Exit(USAGE_ERROR)


@contextmanager
def one_line_errors(*, debug: bool) -> Iterator[None]:
    """Turn an error before the work into one line, or let it through for debugging."""
    from forcefield.cli.io import describe_error

    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        if debug:
            raise
        fail(describe_error(error))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[str] = ()) -> None:
    """Print rows of text under headings to standard output.

    Args:
        columns: headings; a line break in one is kept in a terminal only.
        rows: one text for each heading.
        numeric: headings of columns that hold numbers, which are set to the right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = make_console()
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for number, column in enumerate(columns):
        title = column if console.is_terminal else column.replace("\n", " ")
        justify: Literal["left", "right"] = "right" if column in numeric else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=0 < number < len(columns) - 1)
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    console.print(table)


def print_summary(summary: str, failures: Sequence[str]) -> None:
    """Print a closing line to standard output, and why each failure failed."""
    typer.echo(summary)
    for failure in failures:
        typer.echo(f"failed: {failure}")


def print_json(content: Any) -> None:
    """Print JSON to standard output."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def format_number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """Write a number with a fixed number of decimals and no negative zero, or a dash for none."""
    if value is None:
        return "-"
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"  # -0.0 becomes 0.0


class ProgressLine:
    """A progress bar over the files in a terminal, and one line for every structure done, on standard error."""

    def __init__(self, n_files: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = make_console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("structures", total=n_files, detail="")

    def __enter__(self) -> ProgressLine:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._bar.stop()

    def expect(self, more: int) -> None:
        """Raise the number of structures to come, once a file turned out to hold several."""
        total = self._bar.tasks[0].total or 0
        self._bar.update(self._task, total=total + more)

    def detail(self, text: str) -> None:
        """Show what goes on at the moment."""
        self._bar.update(self._task, detail=text)

    def note(self, text: str) -> None:
        """Leave a line that is not the end of a structure."""
        self._console.print(text, markup=False)

    def done(self, text: str) -> None:
        """Leave a line about a finished structure and go on to the next."""
        self.note(text)
        self._bar.update(self._task, advance=1, detail="")
