"""Networks stay readable in one sitting: code lines from the graph to energy, forces and stress, everything touched.

Counted are the lines that hold code (no docstrings, comments or blank lines) of every file of the package of which a
function runs while the potential is made and evaluated: whole functions and methods that run, classes without methods,
and all lines outside of functions; what does not run is left out. ``python tests/networks/test_readable.py`` prints the
lines of each file.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.build import bulk

import forcefield
from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.networks import build_network
from forcefield.potential import Potential

PACKAGE = Path(forcefield.__file__).parent
LIMITS = {"painn": 500, "nequip": 800, "mace": 800}


def from_graph_to_stress(name: str) -> Callable[[], Any]:
    """Makes a potential with default sizes and evaluates it."""
    graph = graph_from_atoms(bulk("NaCl", "rocksalt", 5.6), 5.0)
    energies = {11: -1.0, 17: -1.0}

    def run() -> None:
        network = build_network(name, [11, 17])
        potential = Potential(network, isolated_energies=energies, bound_energies=energies)
        evaluate(potential.with_dtype(torch.float64), graph)

    return run


def functions_run(run: Callable[[], Any]) -> dict[str, set[int]]:
    """File -> first lines of the package's functions that a call runs."""
    found: dict[str, set[int]] = {}

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(PACKAGE)):
            found.setdefault(code.co_filename, set()).add(code.co_firstlineno)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found


def code_lines(file: Path, run: set[int]) -> int:
    """Lines with code of a file, without the functions that do not start at one of the lines ``run``."""
    text = file.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            span = set(range(first, (node.end_lineno or 0) + 1))
            functions = any(isinstance(inner, ast.FunctionDef) for inner in ast.walk(node))
            if functions and not span & run:
                left_out |= span
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for k, line in lines if line.strip() and not line.strip().startswith("#") and k not in left_out)


def counted(name: str) -> dict[str, int]:
    """File -> its lines that a network with potential and derivatives touches; the table of all networks aside."""
    with torch.random.fork_rng(devices=[]):
        found = functions_run(from_graph_to_stress(name))
    counts = {Path(file).relative_to(PACKAGE).as_posix(): code_lines(Path(file), run) for file, run in found.items()}
    return {file: count for file, count in sorted(counts.items()) if not file.endswith("__init__.py")}


@pytest.mark.parametrize("readable", sorted(LIMITS))
def test_a_network_is_read_in_one_sitting(readable: str) -> None:
    counts = counted(readable)
    assert {"graph.py", "derivatives.py", "potential.py", f"networks/{readable}.py"} <= set(counts)
    assert sum(counts.values()) <= LIMITS[readable], counts


if __name__ == "__main__":
    for name in LIMITS:
        print(name, sum(counted(name).values()), counted(name))
