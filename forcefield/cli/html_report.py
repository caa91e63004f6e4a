"""One page for an output folder: the table and every figure, in a single HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

REPORT = "report.html"
MOST_FIGURES = 200  # embedded in a page; the others are named with their folder
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; border-top: 1px solid #d0d7de; padding-top: 1rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #d0d7de; text-align: right; }
th { white-space: pre-line; vertical-align: bottom; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
.scroll { overflow-x: auto; }
.failed { color: #b42318; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .made, dt { color: #57606a; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; }
dd { margin: 0; word-break: break-word; }
"""


@dataclass(frozen=True)
class Section:
    """What the page tells of one computation.

    Attributes:
        title: heading, such as the structure.
        record: what was computed, as in result.json.
        folder: where its files are, None for one that has none.
    """

    title: str
    record: Mapping[str, Any]
    folder: Path | None


def write_report(
    root: Path,
    title: str,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    sections: Sequence[Section],
    calculator: str,
) -> Path:
    """Write `report.html` into an output folder.

    Args:
        root: the folder.
        title: of the page, such as the command.
        table: headings, and rows with a text for each.
        sections: what follows the table.
        calculator: name of the calculator.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    from forcefield import __version__
    from forcefield.workflows.outcome import write_whole

    made = f"{datetime.now():%Y-%m-%d %H:%M}, forcefield {__version__}, calculator {calculator}"
    parts, left = [], MOST_FIGURES
    for section in sections:
        part, used = _section(section, left)
        left -= used
        parts.append(part)
    page = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="made">{escape(made)}</p>',
        _table(*table),
        *parts,
        "</body></html>",
    ]
    write_whole(root / REPORT, "\n".join(page) + "\n")
    return root / REPORT


def report_failures(
    root: Path,
    title: str,
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
    sections: Sequence[Section],
    calculator: str,
) -> list[str]:
    """As `write_report`; why there is no page, in a line, so that a full disk does not keep the results from view."""
    from forcefield.cli.io import describe_error

    try:
        write_report(root, title, table, sections, calculator)
    except OSError as error:
        return [f"{root / REPORT}: {describe_error(error)}"]
    return []


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body.append(f"<tr{' class=failed' if row[1] == 'failed' else ''}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _section(section: Section, left: int) -> tuple[str, int]:
    """Verdict, warnings, figures, options; and how many figures were taken of those left."""
    record, folder = section.record, section.folder
    parts = [f"<h2>{escape(section.title)}</h2><p>{escape(str(record.get('error') or record['verdict']))}</p>"]
    warnings = [f"<li>{escape(str(text))}</li>" for text in record.get("warnings") or ()]
    if warnings:
        parts.append(f"<ul>{''.join(warnings)}</ul>")
    if folder is None:
        return "".join(parts), 0
    figures = [folder / name for name in record.get("files", ()) if name.endswith(".png")]
    for path in figures[:left]:
        parts.append(_figure(path))
    if len(figures) > left:
        parts.append(f"<p>{len(figures) - left} more figures in {escape(folder.name)}</p>")
    options = (record.get("identity") or {}).get("options") or {}
    terms = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in options.items())
    parts.append(f"<details><summary>options and files</summary><dl>{terms}</dl>")
    parts.append(f"<p>{escape(folder.name)}: {escape(', '.join(record.get('files', ())))}</p></details>")
    return "".join(parts), min(len(figures), left)


def _figure(path: Path) -> str:
    """A picture at the size it was drawn in, so that the letters of all figures are equally large."""
    from forcefield.workflows.plots import DOTS_PER_INCH

    content = path.read_bytes()
    width = round(int.from_bytes(content[16:20], "big") * 96 / DOTS_PER_INCH)  # pixels, from the header of a PNG
    caption = escape(path.stem.replace("_", " "))
    picture = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{picture}" width="{width}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
