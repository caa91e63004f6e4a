"""Where published weights are found, and small checkpoints of SevenNet with an independent evaluation through e3nn.

The weights themselves are not in the repository. A test that needs a file takes it from the installed package, or from
the place that an environment variable names, and is skipped where neither is there:

- ``FORCEFIELD_NEQUIX``: Nequix-OAM-1-PFT, ``.nqx`` or ``.npz``
- ``FORCEFIELD_SEVENNET``: the folder ``sevenn/pretrained_potentials`` of the package ``sevenn``
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

DATA = Path(__file__).with_name("data")
IN_PACKAGE = {
    "sevennet-0": "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "SevenNet_l3i5/checkpoint_l3i5.pth",
    "sevennet-0 of May": "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
    "sevennet-mf-0": "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
}


def published(name: str) -> Path:
    """The weight file of a model; skips the test where it is not there."""
    if name == "nequix":
        file = Path(os.environ.get("FORCEFIELD_NEQUIX", "not set"))
    else:
        package = find_spec("sevenn")
        installed = Path(package.origin).parent / "pretrained_potentials" if package and package.origin else "not set"
        file = Path(os.environ.get("FORCEFIELD_SEVENNET", installed)) / IN_PACKAGE[name]
    if not file.is_file():
        pytest.skip(f"weights of {name} are not here; see docs/importing.md")
    return file


@pytest.fixture(scope="session")
def published_file() -> Any:
    """`published`."""
    return published


@pytest.fixture(scope="session")
def structures() -> dict[str, Atoms]:
    """The 50 structures by name."""
    content = json.loads((DATA / "structures.json").read_text(encoding="utf-8"))
    return {name: Atoms(**values) for name, values in content.items()}


@pytest.fixture(scope="session")
def reference() -> Any:
    """Function: name of a model -> what the original gives for each structure."""
    return lambda name: json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))["results"]
