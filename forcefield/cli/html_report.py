"""One page for an output folder: the table and every figure, in a single HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
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
img { max-width: 100%; max-height: 26rem; }
figcaption, .made, dt { color: #57606a; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; }
dd { margin: 0; word-break: break-word; }
"""


def write_report(
    root: Path,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    records: Sequence[Mapping[str, Any]],
    folders: Sequence[Path | None],
    calculator: str,
) -> Path:
    """Write `report.html` into an output folder.

    Args:
        root: the folder.
        title: of the page, such as the command.
        columns: headings of the table.
        rows: a text for each heading, a row for each record.
        records: what was computed, as in each structure's result.json.
        folders: where each structure's files are, None for one that has none.
        calculator: name of the calculator.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    from forcefield import __version__

    made = f"{datetime.now():%Y-%m-%d %H:%M}, forcefield {__version__}, calculator {calculator}"
    sections, left = [], MOST_FIGURES
    for row, record, folder in zip(rows, records, folders, strict=True):
        section, used = _section(row, record, folder, left)
        left -= used
        sections.append(section)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="made">{escape(made)}</p>',
        _table(columns, rows),
        *sections,
        "</body></html>",
    ]
    path = root / REPORT
    partial = path.with_name(REPORT + ".partial")
    partial.write_text("\n".join(parts) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for row in rows:
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        body.append(f"<tr{' class=failed' if row[1] == 'failed' else ''}>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _section(row: Sequence[str], record: Mapping[str, Any], folder: Path | None, left: int) -> tuple[str, int]:
    """One structure: verdict, warnings, options, figures; and how many figures it took."""
    parts = [f"<h2>{escape(row[0])}</h2><p>{escape(str(record.get('error') or record['verdict']))}</p>"]
    warnings = [f"<li>{escape(str(text))}</li>" for text in record.get("warnings") or ()]
    if warnings:
        parts.append(f"<ul>{''.join(warnings)}</ul>")
    if folder is None:
        return "".join(parts), 0
    figures = [folder / name for name in record.get("files", ()) if name.endswith(".png")]
    for path in figures[:left]:
        picture = base64.b64encode(path.read_bytes()).decode("ascii")
        caption = escape(path.stem.replace("_", " "))
        parts.append(
            f'<figure><img alt="{caption}" src="data:image/png;base64,{picture}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    if len(figures) > left:
        parts.append(f"<p>{len(figures) - left} more figures in {escape(folder.name)}</p>")
    options = (record.get("identity") or {}).get("options") or {}
    terms = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in options.items())
    parts.append(f"<details><summary>options and files</summary><dl>{terms}</dl>")
    parts.append(f"<p>{escape(folder.name)}: {escape(', '.join(record.get('files', ())))}</p></details>")
    return "".join(parts), min(len(figures), left)
