"""Input scripts cut where the force field is attached."""

from __future__ import annotations

import re

import pytest

from forcefield.lammps.script import named_model, split_script

SCRIPT = """units metal
read_data "a b.data"   # pair_style forcefield is not here
pair_style   forcefield
mass 1 22.99
pair_coeff * * Na &
    Cl
fix 1 all nve
run 10
"""


def test_a_script_becomes_stock_commands_and_is_cut_after_pair_coeff() -> None:
    first, last = split_script(SCRIPT, cutoff=5.0)
    assert first.elements == ("Na", "Cl") and last.elements is None
    assert first.lines[:2] == ("units metal", 'read_data "a b.data"   # pair_style forcefield is not here')
    assert first.lines[2:] == ("pair_style zero 5.0 nocoeff", "mass 1 22.99", "pair_coeff * *")
    assert last.lines == ("fix 1 all nve", "run 10")


def test_several_systems_in_one_script_are_attached_one_by_one() -> None:
    pieces = split_script(SCRIPT + "clear\n" + SCRIPT.replace("Na", "K"), cutoff=4.0)
    assert [piece.elements for piece in pieces] == [("Na", "Cl"), ("K", "Cl"), None]
    assert pieces[1].lines[:3] == ("fix 1 all nve", "run 10", "clear")


def test_elements_that_are_given_go_before_those_of_the_script() -> None:
    bare = SCRIPT.replace("Na &\n    Cl", "")
    assert split_script(bare, cutoff=5.0)[0].elements == ()
    assert split_script(bare, elements=["K", "Br"], cutoff=5.0)[0].elements == ("K", "Br")


def test_text_in_triple_quotes_and_continued_commands_stay_whole() -> None:
    script = SCRIPT + 'print """\npair_style forcefield\n"""\nif "1 > 0" then &\n  "run 1"'
    assert split_script(script, cutoff=5.0)[-1].lines[2:] == (
        'print """\npair_style forcefield\n"""',
        'if "1 > 0" then &\n  "run 1"',
    )


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("units metal\nrun 0\n", "the input has no force field"),
        ("pair_style forcefield\nrun 0\n", "`pair_style forcefield` needs `pair_coeff"),
        ("pair_style forcefield\npair_coeff 1 2 Na Cl\n", "must be `pair_coeff * *`"),
        ("pair_style forcefield\npair_coeff * * ${names}\n", "holds a variable"),
        ("fix 1 all setforce 0 0 0\npair_style forcefield\npair_coeff * * Na\n", "comes before `pair_coeff`"),
    ],
)
def test_scripts_that_cannot_be_meant_are_refused(script: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        split_script(script, cutoff=5.0)


def test_a_fix_that_only_stores_may_come_first() -> None:
    assert split_script("fix a all property/atom i_mark\npair_style forcefield\npair_coeff * * Na\n", cutoff=5.0)


def test_the_model_may_be_named_in_the_script() -> None:
    assert named_model(SCRIPT) is None
    assert named_model("pair_style forcefield folder/model # mine") == "folder/model"
    with pytest.raises(ValueError, match="several models"):
        named_model("pair_style forcefield a\nclear\npair_style forcefield b")
    with pytest.raises(ValueError, match="too many words"):
        named_model("pair_style forcefield a b")
