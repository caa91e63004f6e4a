"""LAMMPS input scripts with `pair_style forcefield`, as pieces that a stock LAMMPS understands.

    pair_style forcefield [MODEL]
    pair_coeff * * Na Cl

become the pair style `zero`, which lets LAMMPS copy ghost atoms as far as the model sees; the script is cut after
`pair_coeff`, where the force field is attached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STYLE = "forcefield"
EXAMPLE = "`pair_style forcefield` and `pair_coeff * * Na Cl` (elements of types 1, 2, ...)"
HARMLESS_FIXES = ("property/atom", "store/state", "cmap")
"""Fixes that do not act on forces and may therefore come before `pair_coeff`."""


@dataclass(frozen=True)
class Piece:
    """Part of a script.

    Attributes:
        lines: what LAMMPS executes.
        elements: elements to attach the force field with after it, None for the last piece.
    """

    lines: tuple[str, ...]
    elements: tuple[str, ...] | None = None


def split_script(text: str, *, elements: Sequence[str] | None = None, cutoff: float) -> list[Piece]:
    """Cut a script after each `pair_coeff` that belongs to `pair_style forcefield`.

    Args:
        text: contents of the input file.
        elements: elements that go before those of `pair_coeff`.
        cutoff: neighbour radius of the model (Å).

    Raises:
        ValueError: the script has no `pair_style forcefield`, its `pair_coeff` is missing or wrong, or a fix that may
            act on forces comes before it.
    """
    pieces: list[Piece] = []
    lines: list[str] = []
    waiting, early = False, ""
    for line, words in _commands(text):
        if words[:2] == ["pair_style", STYLE]:
            waiting = True
            lines.append(f"pair_style zero {cutoff} nocoeff")
        elif words[:1] == ["pair_coeff"] and waiting:
            if early:
                raise ValueError(f"`{early}` comes before `pair_coeff`, so it would not act on the forces; move it")
            lines.append("pair_coeff * *")
            pieces.append(Piece(tuple(lines), _elements(words, elements)))
            lines, waiting = [], False
        else:
            early = _early_fix(words, early)
            lines.append(line)
    if waiting:
        raise ValueError(
            "`pair_style forcefield` needs `pair_coeff * *` and the elements, such as `pair_coeff * * Na Cl`"
        )
    if not pieces:
        raise ValueError(f"the input has no force field; it needs the lines {EXAMPLE}, not within another file")
    return [*pieces, Piece(tuple(lines))]


def named_model(text: str) -> str | None:
    """The model that `pair_style forcefield MODEL` names, or None.

    Raises:
        ValueError: different models are named, or more than a model.
    """
    found = {_model(words) for _, words in _commands(text) if words[:2] == ["pair_style", STYLE]}
    if len(found) > 1:
        raise ValueError(f"the input names several models ({', '.join(sorted(map(str, found)))}); one is possible")
    return found.pop() if found else None


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command as it stands, continued lines together, and its words without the comment."""
    found: list[tuple[str, list[str]]] = []
    held: list[str] = []
    quoted = False
    for line in text.splitlines():
        held.append(line)
        quoted ^= line.count('"""') % 2 == 1
        if quoted or line.rstrip().endswith("&"):
            continue
        whole = " ".join(part.rstrip().removesuffix("&") for part in held)
        found.append(("\n".join(held), whole.split("#")[0].split()))
        held = []
    return [*found, ("\n".join(held), [])] if held else found


def _model(words: list[str]) -> str | None:
    if len(words) > 3:
        raise ValueError(
            f"`{' '.join(words)}` has too many words; at most a model's name follows `pair_style forcefield`"
        )
    return words[2] if len(words) == 3 else None


def _elements(words: list[str], given: Sequence[str] | None) -> tuple[str, ...]:
    if words[1:3] != ["*", "*"]:
        raise ValueError(f"`{' '.join(words)}` must be `pair_coeff * *` and the element of each type")
    named = tuple(words[3:])
    if any("$" in word for word in named):
        raise ValueError(f"`{' '.join(words)}` holds a variable; write the elements out, or give --elements")
    return tuple(given) if given else named


def _early_fix(words: list[str], early: str) -> str:
    """The first fix before the force field that may act on forces, as it stands in the script."""
    if words[:1] == ["clear"]:
        return ""
    if words[:1] == ["fix"] and len(words) > 3 and words[3] not in HARMLESS_FIXES:
        return early or " ".join(words)
    return early
