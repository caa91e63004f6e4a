"""`ForceFieldModel` by torch-sim's own tests, against the ASE calculator, and in torch-sim's runners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.md.verlet import VelocityVerlet

from forcefield import GNNCalculator
from forcefield.torchsim import ForceFieldModel
from forcefield.torchsim.neighbours import BatchNeighbours
from forcefield.units import FS

ts = pytest.importorskip("torch_sim")  # after our import of it, which keeps its deprecation warnings away
interface = pytest.importorskip("torch_sim.models.interface")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch-sim 0.3 uses of PyTorch


@pytest.fixture(scope="module")
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, dtype="float64", device="cpu", check_overlaps=False)


@pytest.fixture
def model(calculator: GNNCalculator) -> ForceFieldModel:
    return ForceFieldModel(calculator)


def rattled(atoms: Atoms, seed: int = 1) -> Atoms:
    atoms.rattle(0.08, seed=seed)
    return atoms


def crystals() -> list[Atoms]:
    """Of several sizes, one with atoms far outside its cell, one left-handed, one of a single atom."""
    outside = rattled(bulk("Cu", cubic=True), 2)
    outside.positions += 7.3 * outside.cell.array[0] - 4 * outside.cell.array[2]
    left_handed = rattled(bulk("NaCl", "rocksalt", a=5.5), 3)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    return [rattled(bulk("Si")), outside, bulk("Al"), left_handed]


def molecules() -> list[Atoms]:
    return [rattled(molecule("H2O")), Atoms("Na"), rattled(molecule("CH3CH2OH"), 2)]


def state_of(structures: list[Atoms], model: ForceFieldModel) -> Any:
    return ts.initialize_state(structures, model.device, model.dtype)


def assert_equal(model: ForceFieldModel, structures: list[Atoms], calculator: GNNCalculator) -> None:
    found = model(state_of(structures, model))
    first = 0
    for k, atoms in enumerate(structures):
        last = first + len(atoms)
        assert float(found["energy"][k]) == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-10)
        np.testing.assert_allclose(found["forces"][first:last], calculator.get_forces(atoms), rtol=0, atol=1e-10)
        if atoms.pbc.all():
            stress = calculator.get_stress(atoms)[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
            np.testing.assert_allclose(found["stress"][k], stress, rtol=0, atol=1e-11)
        else:
            assert not found["stress"][k].any()
        first = last


def test_torch_sims_own_validation_passes() -> None:
    model = ForceFieldModel(device="cpu")
    interface.validate_model_outputs(model, model.device, model.dtype)


def test_torch_sims_own_consistency_with_ase_passes() -> None:
    testing = pytest.importorskip("torch_sim.testing", reason="torch-sim before 0.6 has no torch_sim.testing")
    model, calculator = ForceFieldModel(device="cpu", dtype="float64"), GNNCalculator(device="cpu", dtype="float64")
    for make in testing.SIMSTATE_BULK_GENERATORS.values():
        state = make(model.device, model.dtype)
        if set(state.atomic_numbers.tolist()) <= set(model.potential.elements):
            testing.assert_model_calculator_consistency(model, calculator, state)


@pytest.mark.parametrize("make", [crystals, molecules])
def test_batches_give_what_the_calculator_gives(model: ForceFieldModel, calculator: GNNCalculator, make: Any) -> None:
    assert_equal(model, make(), calculator)
    assert_equal(model, make()[::-1], calculator)
    assert_equal(model, make()[1:], calculator)


def test_one_precision_for_states_and_another_for_the_network(tiny_model: Path) -> None:
    model = ForceFieldModel(tiny_model, device="cpu", dtype="float32", state_dtype=torch.float32)
    found = model(state_of(crystals(), model))
    assert {value.dtype for value in found.values()} == {torch.float32}
    double = ForceFieldModel(tiny_model, device="cpu", dtype="float32")
    assert model.dtype == torch.float32 and double.dtype == torch.float64
    torch.testing.assert_close(
        found["forces"].double(), double(state_of(crystals(), double))["forces"], atol=1e-4, rtol=0
    )


def test_a_mapping_is_as_good_as_a_state(model: ForceFieldModel) -> None:
    state = state_of(crystals()[:1], model)
    names = ("positions", "cell", "pbc", "atomic_numbers", "system_idx")
    found = model({name: getattr(state, name) for name in names})
    torch.testing.assert_close(found["energy"], model(state)["energy"])


def test_neighbour_lists_are_kept_and_never_wrong(model: ForceFieldModel, calculator: GNNCalculator) -> None:
    """Structures move, are wrapped, strained, leave and join."""
    random = np.random.default_rng(0)
    moving = crystals()
    for step in range(12):
        for atoms in moving:
            atoms.positions += random.normal(0, 0.02, atoms.positions.shape)
        if step % 3 == 1:
            moving[0].set_cell(moving[0].cell.array * 1.004, scale_atoms=True)
            moving[1].wrap()
        if step == 5:
            moving = [moving[0], moving[2], rattled(bulk("Cu", cubic=True), 9)]
        assert_equal(model, moving, calculator)
    assert 0 < model.neighbour_list_builds < 30  # of 42


def test_a_list_is_built_anew_when_the_periodicity_changes() -> None:
    lists, cell = BatchNeighbours(3.0, 0.5), 2.0 * torch.eye(3, dtype=torch.float64)[None]
    place = torch.zeros(1, 3, dtype=torch.float64)
    assert lists.edges(place, cell, np.ones(3, dtype=bool), [1])[0].shape[1] > 0
    assert lists.edges(place, cell, np.zeros(3, dtype=bool), [1])[0].shape[1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.atomic_numbers.fill_(79), r"atomic numbers \[79\] are unknown to the model"),
        (lambda state: state.positions.fill_(torch.nan), "not finite"),
        (lambda state: state.cell.zero_(), "has no volume"),
    ],
)
def test_impossible_states_are_refused(model: ForceFieldModel, change: Any, message: str) -> None:
    state = state_of([bulk("Cu")], model)
    change(state)
    with pytest.raises(ValueError, match=message):
        model(state)


def test_molecular_dynamics_follows_the_same_trajectory_as_ase(
    model: ForceFieldModel, calculator: GNNCalculator
) -> None:
    """Constant energy, by torch-sim's integrator, of two crystals at once."""
    random = np.random.default_rng(1)
    structures = [bulk("Cu", cubic=True), bulk("Si", cubic=True)]
    for atoms in structures:
        atoms.set_momenta(random.normal(0, 0.6, (len(atoms), 3)))
    state = state_of(structures, model)
    momenta = torch.from_numpy(np.concatenate([atoms.get_momenta() for atoms in structures]))
    state = _nve(state, model, momenta, n_steps=15)
    expected = []
    for atoms in structures:
        atoms.calc = calculator
        VelocityVerlet(atoms, timestep=1.0 * FS).run(15)
        expected.append(atoms.get_scaled_positions())
    found = np.concatenate([atoms.get_scaled_positions() for atoms in state.to_atoms()])
    difference = found - np.concatenate(expected)
    np.testing.assert_allclose(difference - np.rint(difference), 0, atol=1e-7)


def _nve(state: Any, model: ForceFieldModel, momenta: torch.Tensor, *, n_steps: int) -> Any:
    """Steps of 1 fs with torch-sim's own functions, of before and after version 0.4."""
    step, hot = torch.tensor(FS, dtype=model.dtype), torch.tensor(1e-3, dtype=model.dtype)
    if hasattr(ts, "nve_init"):
        state = ts.nve_init(state, model, kT=hot)
        state.momenta = momenta
        for _ in range(n_steps):
            state = ts.nve_step(state, model, dt=step)
        return state
    from torch_sim.integrators import nve

    initialise, advance = nve(model=model, dt=step, kT=hot)
    state = initialise(state)
    state.momenta = momenta
    for _ in range(n_steps):
        state = advance(state, dt=step)
    return state


def test_torch_sims_batched_relaxation_lowers_the_forces(model: ForceFieldModel) -> None:
    optimizer = ts.Optimizer.fire if hasattr(ts, "Optimizer") else ts.optimizers.fire
    structures = [rattled(bulk("Cu", cubic=True)), rattled(bulk("Si"))]
    convergence = ts.generate_force_convergence_fn(force_tol=0.05, include_cell_forces=False)
    final = ts.optimize(system=structures, model=model, optimizer=optimizer, convergence_fn=convergence, max_steps=100)
    assert float(torch.linalg.vector_norm(final.forces, dim=1).max()) < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dtype": "float16"}, "dtype is 'float16'"), ({"skin": -1.0}, "skin is -1.0"), ({"device": "cuda:99"}, "GPUs")],
)
def test_impossible_options_are_refused(tiny_model: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForceFieldModel(tiny_model, **options)
