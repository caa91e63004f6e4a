"""Batched relaxation against `relax`, one structure at a time, on a small random network in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength, FixedPlane, Hookean
from ase.io.jsonio import encode

from forcefield import evaluation
from forcefield.calculator import GNNCalculator
from forcefield.derivatives import evaluate
from forcefield.workflows import relax
from forcefield.workflows.batched import BatchProgress, relax_each, relax_many

LOOSE = {"fmax": 0.05, "smax": 1.0, "steps": 25}


@pytest.fixture(scope="module")
def calculator(tiny_model):
    return GNNCalculator(tiny_model, dtype="float64", device="cpu")


def rattled(atoms, seed, amplitude=0.08):
    atoms.rattle(amplitude, seed=seed)
    return atoms


def structures():
    """Crystals of several sizes, a slab, molecules, an atom; some with fixed atoms."""
    slab = rattled(fcc111("Cu", (1, 2, 3), vacuum=6), 1)
    slab.pbc = (True, True, False)
    slab.set_constraint(FixAtoms([0, 1]))
    held = rattled(bulk("NaCl", "rocksalt", a=5.5, cubic=True), 2)
    held.set_constraint(FixAtoms([0]))
    return [
        rattled(bulk("Cu", a=3.7, cubic=True), 3),
        slab,
        rattled(molecule("H2O"), 4),
        held,
        Atoms("Na"),
        rattled(bulk("Si", a=5.3), 5),
        rattled(molecule("CH3CH2OH"), 6),
        rattled(bulk("MgO", "rocksalt", a=4.3), 7),
    ]


def assert_same(found, expected):
    assert (found.reason, found.steps) == (expected.reason, expected.steps)
    assert found.energy == pytest.approx(expected.energy, abs=1e-8)
    assert found.max_force == pytest.approx(expected.max_force, abs=1e-7)
    np.testing.assert_allclose(found.atoms.positions, expected.atoms.positions, atol=1e-8)
    np.testing.assert_allclose(found.atoms.cell.array, expected.atoms.cell.array, atol=1e-8)
    assert found.atoms.pbc.tolist() == expected.atoms.pbc.tolist()
    assert encode([c.todict() for c in found.atoms.constraints]) == encode(
        [c.todict() for c in expected.atoms.constraints]
    )
    np.testing.assert_allclose(found.atoms.get_forces(), expected.atoms.get_forces(), atol=1e-7)
    for name in ("stress", "pressure", "volume_change"):
        mine, other = getattr(found, name), getattr(expected, name)
        assert (mine is None) == (other is None), name
        if mine is not None:
            np.testing.assert_allclose(mine, other, atol=1e-6)
    assert (found.spacegroup_before, found.spacegroup_after, found.target_pressure) == (
        expected.spacegroup_before,
        expected.spacegroup_after,
        expected.target_pressure,
    )


@pytest.mark.parametrize(("optimizer", "max_edges"), [("FIRE", 180), ("LBFGS", None)])
def test_equals_one_by_one(calculator, optimizer, max_edges):
    given = structures()
    before = [atoms.copy() for atoms in given]
    outcomes = relax_many(given, calculator, cell=None, optimizer=optimizer, max_edges=max_edges, **LOOSE)
    assert [outcome.index for outcome in outcomes] == list(range(len(given)))
    assert {outcome.route for outcome in outcomes} == {"batch"}
    assert given == before
    for atoms, outcome in zip(given, outcomes, strict=True):
        assert outcome.error is None
        alone = relax(atoms, calculator, cell=bool(atoms.pbc.all()), optimizer=optimizer, **LOOSE)
        assert_same(outcome.result, alone)


def test_structures_join_as_others_leave(calculator):
    seen: list[BatchProgress] = []
    given = structures()
    outcomes = list(relax_each(iter(given), calculator, cell=None, max_edges=180, callback=seen.append, **LOOSE))
    sizes = [calculator.graph(atoms).n_edges for atoms in given]
    assert sum(sizes) > 2 * 180
    assert max(progress.edges for progress in seen) <= max(180, max(sizes))
    assert max(progress.running for progress in seen) > 1
    assert [progress.finished for progress in seen] == sorted(progress.finished for progress in seen)
    assert (seen[-1].finished, seen[-1].running, seen[-1].total) == (len(given), 0, None)
    together, alone = seen[-1].evaluations, sum(outcome.result.steps + 1 for outcome in outcomes)
    assert together < alone
    assert [outcome.index for outcome in outcomes] != list(range(len(given)))  # given as soon as they are done


@pytest.mark.parametrize("pressure", [0.0, 20.0])
def test_pressure_and_symmetry(calculator, pressure):
    given = [rattled(bulk("Cu", a=3.5, cubic=True), 1, 1e-3), rattled(bulk("MgO", "rocksalt", a=4.0), 2, 1e-3)]
    strained = given[0].copy()
    strained.set_cell(strained.cell.array @ np.diag([1.0, 1.0, 1.05]), scale_atoms=True)
    strained.set_constraint(FixAtoms([0]))
    given.append(strained)
    options = {"cell": True, "pressure": pressure, "symmetry": True, **LOOSE}
    for atoms, outcome in zip(given, relax_many(given, calculator, **options), strict=True):
        expected = relax(atoms, calculator, **options)
        assert_same(outcome.result, expected)
        assert outcome.result.spacegroup_before.number in (139, 225)
        assert outcome.result.spacegroup_after.number >= outcome.result.spacegroup_before.number


def test_every_constraint_holds(calculator):
    water = rattled(molecule("H2O"), 1)
    water.set_constraint(FixBondLength(0, 1))
    plane = rattled(bulk("Cu", a=3.7, cubic=True), 2)
    plane.set_constraint([FixedPlane(1, (0, 0, 1)), FixAtoms([0])])
    given = [water, plane, rattled(molecule("H2O"), 4)]
    for cell in (False, None):
        outcomes = relax_many(given, calculator, cell=cell, **LOOSE)
        for atoms, outcome in zip(given, outcomes, strict=True):
            own = bool(cell is None and atoms.pbc.all())
            assert outcome.route == "batch"
            assert_same(outcome.result, relax(atoms, calculator, cell=own, **LOOSE))
        if cell is False:
            assert outcomes[1].result.atoms.positions[1, 2] == pytest.approx(plane.positions[1, 2], abs=1e-12)
    assert outcomes[0].result.atoms.get_distance(0, 1) == pytest.approx(water.get_distance(0, 1), abs=1e-9)


def test_energy_of_a_spring_is_counted_once(calculator):
    spring = rattled(molecule("CH3CH2OH"), 3)
    spring.set_constraint(Hookean(0, 1, k=5.0, rt=1.2))
    (outcome,) = relax_many([spring], calculator, **LOOSE)
    again, free = outcome.result.atoms.copy(), outcome.result.atoms.copy()
    free.set_constraint()
    again.calc = free.calc = calculator
    assert outcome.result.energy == pytest.approx(again.get_potential_energy(), abs=1e-9)
    assert outcome.result.energy == pytest.approx(outcome.result.atoms.get_potential_energy(), abs=1e-12)
    assert outcome.result.energy > free.get_potential_energy() + 0.01
    expected = relax(spring, calculator, **LOOSE)
    assert (outcome.reason, outcome.result.steps) == (expected.reason, expected.steps)
    np.testing.assert_allclose(outcome.result.atoms.positions, expected.atoms.positions, atol=1e-8)


def test_neighbours_stay_complete_in_a_large_deformation(calculator):
    """A crystal far from its minimum: the list is renewed when needed, and the last energy is that of a new list."""
    given = [bulk("Cu", a=4.6, cubic=True), bulk("NaCl", "rocksalt", a=4.2, cubic=True)]
    outcomes = relax_many(given, calculator, cell=True, fmax=1e-3, smax=0.05, steps=60)
    for outcome in outcomes:
        assert abs(outcome.result.volume_change) > 0.1
        again = outcome.result.atoms.copy()
        again.calc = calculator
        assert outcome.result.energy == pytest.approx(again.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(outcome.result.atoms.get_forces(), again.get_forces(), atol=1e-9)


def test_bad_structures_stop_no_other(calculator):
    on_top = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 0]])
    given = [
        "not a structure",
        Atoms(),
        bulk("Au"),
        Atoms("Cu", cell=[3, 3, 0], pbc=True),
        Atoms("Cu", positions=[[np.nan, 0, 0]]),
        on_top,
        rattled(molecule("H2O"), 1),
    ]
    outcomes = relax_many(given, calculator, cell=None, **LOOSE)
    assert [outcome.reason for outcome in outcomes[:5]] == ["failed"] * 5
    messages = ["type builtins.str", "no atoms", "Unknown to the model: Au", "cell vector has a length of 0", "NaN"]
    for outcome, message in zip(outcomes, messages, strict=False):
        assert message in outcome.error and outcome.result is None and not outcome.converged
        assert outcome.to_dict()["reason"] == "failed"
    assert outcomes[5].reason in ("failed", "non-finite forces", "step limit", "converged")
    assert_same(outcomes[6].result, relax(given[6], calculator, **LOOSE))


@pytest.mark.parametrize(
    ("atoms", "options", "message"),
    [
        (fcc111("Cu", (1, 1, 2), vacuum=5), {"cell": True}, "gives none for a structure periodic along a, b"),
        (molecule("H2O"), {"cell": True}, "without periodic axes"),
        (molecule("H2O"), {"cell": None, "pressure": 1.0}, "pressure has no meaning"),
        (molecule("H2O"), {"symmetry": True}, "symmetry=True came for a structure periodic along no axis"),
    ],
)
def test_refusals_belong_to_the_structure(calculator, atoms, options, message):
    bad, good = relax_many([atoms, bulk("Cu")], calculator, **options, fmax=10.0, smax=100.0)
    assert message in bad.error and isinstance(bad.exception, ValueError)
    if "pressure" not in options:
        assert good.converged


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fmax": 0.0}, "fmax is 0.0"), ({"max_edges": 0}, "max_edges is 0"), ({"skin": -1.0}, "skin is -1.0")],
)
def test_impossible_options_are_refused_at_once(calculator, options, message):
    with pytest.raises(ValueError, match=message):
        relax_each([], calculator, **options)


def test_nothing_to_do(calculator):
    assert relax_many([], calculator) == []


def test_a_single_structure_is_refused(calculator):
    with pytest.raises(TypeError, match=r"A single ase.Atoms came"):
        relax_many(bulk("Cu"), calculator)


def test_no_step_at_all(calculator):
    (outcome,) = relax_many([rattled(bulk("Cu", cubic=True), 1)], calculator, cell=True, steps=0)
    assert (outcome.reason, outcome.result.steps) == ("step limit", 0)


def test_exploding_cell_and_broken_forces_leave_alone(calculator, monkeypatch):
    """One structure is under a huge tension, another gets NaN at its fourth step; the third does not notice."""
    calls = []

    def spoiled(potential, graph, **options):
        prediction = evaluate(potential, graph, **options)
        calls.append(graph.n_structures)
        for k, numbers in enumerate(graph.numbers[graph.batch == k] for k in range(graph.n_structures)):
            if numbers[0] == 29:
                prediction.stress[k] = -2.0 * torch.eye(3, dtype=torch.float64)
            if numbers[0] == 12 and len(calls) > 3:
                prediction.forces[graph.batch == k] = torch.nan
        return prediction

    monkeypatch.setattr(evaluation, "evaluate", spoiled)
    given = [bulk("Cu"), rattled(bulk("MgO", "rocksalt", a=4.3), 1), rattled(molecule("H2O"), 2)]
    copper, oxide, water = relax_many(given, calculator, cell=None, **LOOSE)
    assert (copper.reason, copper.converged) == ("cell exploding", False)
    assert 5.0 < copper.result.volume_change + 1.0 < 20.0
    assert (oxide.reason, oxide.result.steps) == ("non-finite forces", 2)
    assert np.isfinite(oxide.result.energy) and np.isfinite(oxide.result.atoms.get_forces()).all()
    monkeypatch.undo()
    assert_same(water.result, relax(given[2], calculator, **LOOSE))


def test_structure_without_progress_is_stuck_as_by_itself(calculator, monkeypatch):
    monkeypatch.setattr("forcefield.workflows.relax_progress.PATIENCE", 4)
    monkeypatch.setattr("forcefield.workflows.relax_progress.SMALLEST_FALL", np.inf)
    monkeypatch.setattr("forcefield.workflows.relax_progress.SMALLEST_APPROACH", 1.0)
    atoms = bulk("Cu", a=3.8, cubic=True)
    atoms.rattle(0.1, seed=1)
    options = {"cell": True, "fmax": 1e-6, "steps": 20}
    (outcome,) = relax_many([atoms], calculator, **options)
    alone = relax(atoms, calculator, **options)
    assert (outcome.result.reason, outcome.result.steps) == (alone.reason, alone.steps) == ("optimizer stuck", 4)


def test_memory_that_does_not_suffice_halves_the_batch(calculator, monkeypatch):
    given = structures()
    sizes = [calculator.graph(atoms).n_edges for atoms in given]
    largest = max(range(len(given)), key=sizes.__getitem__)
    expected = relax_many(given, calculator, cell=None, **LOOSE)
    tried = []

    def small_memory(potential, graph, **options):
        tried.append(graph.n_edges)
        if graph.n_edges > 0.8 * sizes[largest]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return evaluate(potential, graph, **options)

    monkeypatch.setattr(evaluation, "evaluate", small_memory)
    outcomes = relax_many(given, calculator, cell=None, **LOOSE)
    assert tried[0] > 2 * sizes[largest]
    assert outcomes[largest].result is None and "out of memory for this structure alone" in outcomes[largest].error
    for k, (outcome, other) in enumerate(zip(outcomes, expected, strict=True)):
        if sizes[k] < 0.7 * sizes[largest]:
            assert_same(outcome.result, other.result)


def test_other_errors_of_the_machine_are_not_hidden(calculator, monkeypatch):
    def broken(potential, graph, **options):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(evaluation, "evaluate", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        relax_many([bulk("Cu")], calculator)


def test_any_calculator_and_optimizer_on_the_same_interface(calculator):
    given = [rattled(bulk("Cu", cubic=True), 1), bulk("NaCl", "rocksalt", a=5.6), rattled(bulk("Al", cubic=True), 2)]
    copper, salt, aluminium = relax_many(given, EMT(), cell=None, **LOOSE)
    assert {copper.route, aluminium.route} == {"alone"}
    assert_same(copper.result, relax(given[0], EMT(), cell=True, **LOOSE))
    assert salt.error.startswith("NotImplementedError: No EMT-potential for Na")
    (outcome,) = relax_many([given[0]], calculator, optimizer="BFGS", **LOOSE)
    assert outcome.route == "alone"
    assert_same(outcome.result, relax(given[0], calculator, optimizer="BFGS", **LOOSE))


def test_calculator_attached_to_a_structure(calculator):
    atoms = rattled(bulk("Cu", cubic=True), 1)
    atoms.calc = EMT()
    (outcome,) = relax_many([atoms], None, **LOOSE)
    assert outcome.route == "alone"
    assert_same(outcome.result, relax(atoms, None, **LOOSE))
    (outcome,) = relax_many([atoms], calculator, **LOOSE)
    assert outcome.route == "batch"


def test_ctrl_c_gives_what_was_reached(calculator):
    def stop(progress):
        if progress.evaluations == 4:
            raise KeyboardInterrupt

    given = [*structures()[:4], Atoms("Na"), bulk("Cu")]
    outcomes = relax_many(given, calculator, max_edges=180, callback=stop, fmax=1e-6)
    interrupted = [outcome for outcome in outcomes if outcome.reason == "interrupted"]
    assert interrupted and len({outcome.index for outcome in outcomes}) == len(outcomes) < len(given) + 1
    for outcome in interrupted:
        reference = relax(given[outcome.index], calculator, fmax=1e-6, steps=outcome.result.steps)
        np.testing.assert_allclose(outcome.result.atoms.positions, reference.atoms.positions, atol=1e-9)


def test_global_gradient_switch_does_not_matter(calculator):
    with torch.no_grad():
        (outcome,) = relax_many([rattled(molecule("H2O"), 1)], calculator, **LOOSE)
    assert outcome.result.steps > 0
