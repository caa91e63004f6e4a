"""Every network of the package fulfils the physics contract in float64, its other forms the quick part of it."""

from __future__ import annotations

import pytest

from forcefield.networks import NETWORKS


def test_contract(name, small):
    failures = small(name).failures()
    assert not failures, "\n".join(failures)


@pytest.mark.slow
def test_other_forms_fulfil_the_quick_part(form, small, quick):
    if form in NETWORKS:
        pytest.skip("goes through the whole contract")
    failures = small(form).failures(quick)
    assert not failures, "\n".join(failures)
