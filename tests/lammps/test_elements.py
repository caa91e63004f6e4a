"""Atom types and their elements."""

from __future__ import annotations

import numpy as np
import pytest

from forcefield.lammps.elements import check_masses, element_numbers, elements_of_masses

KNOWN = (1, 11, 17)


def test_types_count_from_one() -> None:
    np.testing.assert_array_equal(element_numbers(["Cl", "Na", "Na"], 3, KNOWN), [0, 17, 11, 11])


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["Na"], "2 atom types, but 1 elements came"),
        (["Na", "Q"], "'Q' is no element"),
        (["Na", "X"], "'X' is no element"),
        (["Na", "Xe"], "does not know Xe; it knows H Na Cl"),
    ],
)
def test_elements_that_do_not_fit_are_refused(symbols: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        element_numbers(symbols, 2, KNOWN)


def test_swapped_masses_are_refused_and_isotopes_noted() -> None:
    assert check_masses(["Na", "Cl"], np.array([22.99, 35.45])) == []
    with pytest.raises(ValueError, match="type 1 is given as Na .* of Cl"):
        check_masses(["Na", "Cl"], np.array([35.45, 22.99]))
    (note,) = check_masses(["H", "Cl"], np.array([2.014, 35.45]))
    assert "type 1 (H)" in note and "2.014" in note


def test_close_masses_are_no_reason_to_refuse() -> None:
    assert check_masses(["Co", "Ni"], np.array([58.69, 58.93])) == []


def test_masses_suggest_elements() -> None:
    assert elements_of_masses(np.array([22.99, 35.45, 1.0])) == ["Na", "Cl", "H"]
