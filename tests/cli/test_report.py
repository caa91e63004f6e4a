"""How results are written on the terminal."""

from __future__ import annotations

import pytest

from forcefield.cli.report import format_number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (-0.00004, "0.0000"), (0.00006, "0.0001"), (-0.00006, "-0.0001"), (2.0, "2.0000")],
)
def test_numbers_have_fixed_decimals_and_no_negative_zero(value: float | None, shown: str) -> None:
    assert format_number(value, 4) == shown


def test_a_sign_is_shown_where_wanted() -> None:
    assert format_number(-0.001, 2, sign=True) == "+0.00"
    assert format_number(1.5, 1, sign=True) == "+1.5"
