"""Generated parts of the documentation, between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``."""

from __future__ import annotations

import re
from pathlib import Path


def fill(path: Path, name: str, content: str) -> None:
    """Replace what stands in a file between the marks of a name.

    Args:
        path: Markdown file.
        name: as in the marks.
        content: what to put there.

    Raises:
        ValueError: the marks are missing.
    """
    text = path.read_text(encoding="utf-8")
    pattern = rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)"
    filled, number = re.subn(pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL)
    if number != 1:
        raise ValueError(f"{path} must have the line `<!-- begin {name} -->`, and `<!-- end {name} -->` below it, once")
    path.write_text(filled, encoding="utf-8")
