"""Every example runs and draws its picture: with small settings here, as written where `slow` tests run."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
NEEDS = {"04_phonons": ("phonopy", "seekpath"), "07_surfaces": ("pymatgen",), "10_hull": ("pymatgen",)}
SECONDS = 120.0  # of processor time, on one core

image = pytest.importorskip("matplotlib.image")


def run_example(script: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run a script as from the command line, from a folder that it must not write into."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "argv", [str(script), "--output", str(folder / "pictures"), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    assert not list(elsewhere.iterdir())


def check_picture(path: Path) -> None:
    """A PNG of a sensible size that shows something in more than one colour."""
    assert path.stat().st_size > 4_000
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 200
    assert len(np.unique(np.round(pixels[::4, ::4, :3].reshape(-1, 3), 1), axis=0)) > 3


def test_there_are_ten_examples_in_order() -> None:
    assert [int(script.name[:2]) for script in SCRIPTS] == list(range(1, 11))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that the workflows rest on
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_runs_with_small_settings(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in NEEDS.get(script.stem, ()):
        pytest.importorskip(package)
    run_example(script, tmp_path, monkeypatch, "--quick")
    printed = capsys.readouterr().out
    assert f"picture: {tmp_path / 'pictures' / script.stem}.png" in printed
    assert len(re.findall(r"-?\d+\.\d+", printed)) >= 2 and "nan" not in printed
    check_picture(tmp_path / "pictures" / f"{script.stem}.png")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_takes_less_than_two_minutes(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(script.stem, ()):
        pytest.importorskip(package)
    begin = time.process_time()  # other work on the machine does not count
    run_example(script, tmp_path, monkeypatch)
    assert time.process_time() - begin < SECONDS
    check_picture(tmp_path / "pictures" / f"{script.stem}.png")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example_is_in_the_documentation_with_its_picture_and_command(script: Path) -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    picture = f"images/examples/{script.stem}.png"
    assert f"({picture})" in page and f"python examples/{script.name}" in page
    check_picture(ROOT / "docs" / picture)
    assert (ROOT / "docs" / picture).stat().st_size < 80_000  # bytes; examples/make_pictures.py keeps them small
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    assert text is not None and f"python examples/{script.name} --output examples/output" in text
