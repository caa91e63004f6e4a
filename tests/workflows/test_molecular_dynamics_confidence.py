"""Molecular dynamics stops where atoms stay outside the training data, and only there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from forcefield.confidence import Confidence
from forcefield.workflows.molecular_dynamics import molecular_dynamics


class Judging(EMT):
    """EMT that calls displacements beyond a limit outside the data."""

    def __init__(self, limit: float = 0.6, available: bool = True):
        super().__init__()
        self.limit, self.has_confidence, self.looks = limit, available, 0
        self.sites = None

    def get_confidence(self, atoms):
        self.looks += 1
        if self.sites is None:
            self.sites = atoms.get_positions()
        distance = np.linalg.norm(atoms.positions - self.sites, axis=1)
        size = np.full(len(atoms), 0.25)
        return Confidence(atoms.numbers, distance, 100 * size, size, self.limit, 0.8 * self.limit)


def run(calculator, temperature, **options):
    settings = {"ensemble": "nvt", "steps": 120, "timestep": 2.0, "log_interval": 4, "seed": 1, **options}
    return molecular_dynamics(bulk("Cu", cubic=True) * (2, 1, 1), calculator, temperature=temperature, **settings)


def test_hot_run_stops_with_a_report():
    result = run(Judging(), 4000.0, temperature_limit=50000.0)
    assert result.verdict == "outside the training data" and not result.ok
    assert result.steps < 120 and result.steps % 4 == 0
    for part in ("5 rows of the log", "Cu", "0.25 eV/Å", "outside_data='warn'"):
        assert part in result.reason


def test_quiet_run_goes_on_and_is_looked_at_with_every_row():
    calculator = Judging()
    result = run(calculator, 50.0)
    assert result.ok and calculator.looks == 30
    assert not any("training data" in text for text in result.warnings)


def test_warn_goes_on_and_reports_once():
    result = run(Judging(), 4000.0, temperature_limit=50000.0, outside_data="warn")
    assert result.steps == 120
    assert sum("outside the training data" in text for text in result.warnings) == 1


@pytest.mark.parametrize("calculator", [Judging(available=False), EMT()])
def test_calculators_without_it_run_on(calculator):
    result = run(calculator, 4000.0, temperature_limit=50000.0)
    assert result.steps == 120 and not any("training data" in text for text in result.warnings)


def test_ignored_is_not_computed():
    calculator = Judging()
    run(calculator, 4000.0, temperature_limit=50000.0, outside_data="ignore", steps=20)
    assert calculator.looks == 0


def test_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="outside_data is 'maybe'"):
        molecular_dynamics(bulk("Ar", a=5.3), LennardJones(), outside_data="maybe")


def test_short_visit_is_no_reason_to_stop():
    from forcefield.workflows.molecular_dynamics_options import MDOptions
    from forcefield.workflows.molecular_dynamics_watch import Watch

    atoms = bulk("Cu", cubic=True)
    far = iter([True] * 4 + [False] + [True] * 5)
    judgement = SimpleNamespace(is_far=True, message=lambda: "far")
    near = SimpleNamespace(is_far=False, message=lambda: "near")
    atoms.calc = SimpleNamespace(has_confidence=True, get_confidence=lambda _: judgement if next(far) else near)
    watch = Watch(atoms, MDOptions(), 300.0)
    objections = [watch.look_closely(atoms, 0.0, 0.01) for _ in range(10)]
    assert objections[:9] == [None] * 9 and objections[9].verdict == "outside the training data"
