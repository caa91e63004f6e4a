"""The notebooks of the lecture run from top to bottom and draw their pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupytext")
pytest.importorskip("nbconvert")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

LECTURE = Path(__file__).parents[1] / "examples" / "lecture"
NOTEBOOKS = sorted(LECTURE.glob("*.py"))


def test_there_are_notebooks():
    stems = ["01_graphs", "02_message_passing", "03_equivariance", "04_from_cgcnn_to_force_field"]
    assert [path.stem for path in NOTEBOOKS] == stems


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(source, tmp_path):
    copy = tmp_path / source.name
    copy.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    shutil.copytree(LECTURE / "data", tmp_path / "data")
    command = [sys.executable, "-m", "jupytext", "--to", "ipynb", "--set-kernel", "python3", "--execute", copy.name]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # several stall where other tests run beside
    done = subprocess.run(
        command, cwd=tmp_path, env=one_thread, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(copy.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    pictures = list((tmp_path / "pictures").glob("*.png"))
    assert pictures and all(path.stat().st_size > 2000 for path in pictures)
