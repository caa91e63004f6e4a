"""What commands over structures share: several processes, the report, groups of options; with ASE's EMT."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Annotated

import pytest
import typer
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from forcefield.cli import app
from forcefield.cli.groups import expand_groups

pytest.importorskip("matplotlib")

QUICK = ("--relaxation", "none", "--n-volumes", "5")
EMT = "ase.calculators.emt:EMT"
DIES = """
import os
from ase.calculators.emt import EMT

class Dies(EMT):
    def calculate(self, *args, **kwargs):
        if "Al" in str(args[0].symbols):
            os._exit(9)
        super().calculate(*args, **kwargs)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder, made the current one, with structures in it, one of which EMT does not know."""
    for symbol in ("Cu", "Al", "Ag"):
        write(tmp_path / f"{symbol}.extxyz", bulk(symbol))
    write(tmp_path / "two.extxyz", [bulk("Au"), bulk("W")])
    (tmp_path / "own_calculators.py").write_text(DIES)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("own_calculators", None)


def run(*arguments, calculator=EMT):
    return CliRunner().invoke(app, [*map(str, arguments), "--calculator", calculator])


def records(path):
    return {file.parent.name: json.loads(file.read_text()) for file in path.glob("*/result.json")}


def test_processes_give_what_one_process_gives(folder):
    files = ("Cu.extxyz", "Al.extxyz", "missing.cif", "Ag.extxyz", "two.extxyz")
    one = run("eos", *files, *QUICK, "--no-plots", "--output-dir", "one")
    many = run("eos", *files, *QUICK, "--no-plots", "--output-dir", "many", "--workers", 2)
    assert one.exit_code == many.exit_code == 1  # tungsten and the missing file
    assert records(folder / "one") == records(folder / "many")
    assert set(records(folder / "many")) == {"Cu", "Al", "Ag", "two_0000"}
    assert one.stdout.replace("one", "many") == many.stdout  # rows in the order of the files
    assert "missing.cif: no such file." in many.stdout and "W" in many.stdout
    again = run("eos", *files, *QUICK, "--no-plots", "--output-dir", "many", "--workers", 2, "--resume")
    assert again.stderr.count("done before") == 4


def test_process_that_dies_is_a_failure_of_its_structures_only(folder):
    files = ("Cu.extxyz", "Al.extxyz")
    result = run("eos", *files, *QUICK, "--no-plots", "--workers", 2, calculator="own_calculators:Dies")
    assert result.exit_code == 1 and "a process died" in result.stdout
    resumed = run("eos", "Cu.extxyz", *QUICK, "--no-plots", "--resume", calculator="own_calculators:Dies")
    assert resumed.exit_code == 0, resumed.output


class Page(HTMLParser):
    """Pictures, cells and references to other files of a page."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.cells, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_report_is_one_page_with_table_and_figures(folder):
    result = run("eos", "Cu.extxyz", "two.extxyz", *QUICK)
    assert result.exit_code == 1
    text = (folder / "eos" / "report.html").read_text()
    page = Page(text)
    assert page.open == []  # every tag is closed
    assert len(page.pictures) == 2 and all(source.startswith("data:image/png;base64,") for source in page.pictures)
    record = records(folder / "eos")["Cu"]
    assert f"{record['bulk_modulus']:.1f}" in page.cells and "failed" in page.cells
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing outside the file


def test_report_escapes_what_it_shows(folder):
    (folder / "a<b>.cif").write_text("nothing")
    assert run("eos", "a<b>.cif", "--no-plots").exit_code == 1
    assert "a&lt;b&gt;.cif" in (folder / "eos" / "report.html").read_text()


@dataclass(frozen=True)
class Pair:
    """Two options."""

    first: Annotated[int, typer.Option(help="First.")] = 1
    second: Annotated[str, typer.Option("--other", help="Second.")] = "two"


def test_group_becomes_options():
    seen = []

    def command(name: Annotated[str, typer.Argument()], *, pair: Pair, third: float = 3.0) -> None:
        seen.append((name, pair, third))

    one = typer.Typer()
    one.command()(expand_groups(command))
    assert CliRunner().invoke(one, ["x", "--other", "b", "--third", "4"]).exit_code == 0
    assert seen == [("x", Pair(1, "b"), 4.0)]
    assert "--first" in CliRunner().invoke(one, ["--help"]).output


def test_option_in_two_groups_is_an_error():
    def command(*, pair: Pair, first: int = 2) -> None:
        """Has `first` twice."""

    with pytest.raises(TypeError, match="twice"):
        expand_groups(command)
