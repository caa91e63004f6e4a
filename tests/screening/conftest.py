"""Structures, and a module of tasks that worker processes find too."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest
from ase.build import bulk

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def tasks():
    """The module `screening_tasks`, importable in worker processes as well."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = HERE if before is None else f"{HERE}{os.pathsep}{before}"
    sys.path.insert(0, HERE)
    yield importlib.import_module("screening_tasks")
    sys.path.remove(HERE)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture
def crystals():
    """Named crystals that EMT knows, strained and with an atom moved."""
    made = []
    for number, symbol in enumerate(["Cu", "Ag", "Au", "Ni", "Pd", "Pt"]):
        atoms = bulk(symbol, cubic=True)
        atoms.set_cell(atoms.cell * (1 + 0.01 * number), scale_atoms=True)
        atoms.positions[0] += [0.1, 0.05, 0.0]
        made.append((symbol, atoms))
    return made
