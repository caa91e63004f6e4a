"""The compiled potential against the ordinary one, and what happens where compilation fails."""

from __future__ import annotations

import shutil
import warnings

import ase
import pytest
import torch
from ase.build import bulk, molecule

from forcefield.compiled import CompiledPotential, CompileWarning
from forcefield.derivatives import evaluate
from forcefield.graph import Graph, collate, graph_from_atoms
from forcefield.networks import build_network
from forcefield.potential import Potential

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
ELEMENTS = (11, 17, 29)


def small_potential(name: str = "density") -> Potential:
    torch.manual_seed(0)
    sizes = {"density": {"channels": 8, "hidden": 8, "message_scalars": 4, "message_vectors": 4, "species_channels": 4}}
    network = build_network(name, ELEMENTS, **sizes.get(name, {}))
    references = {z: -1.0 for z in ELEMENTS}
    return Potential(network, isolated_energies=references, bound_energies=references).with_dtype(torch.float64)


def graphs() -> list[Graph]:
    """Batches of different sizes, coordination and number of structures."""
    rocksalt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    copper = bulk("Cu", a=3.6, cubic=True)
    rocksalt.rattle(0.1, seed=1)
    copper.rattle(0.1, seed=2)
    single = [graph_from_atoms(atoms, 5.0) for atoms in (rocksalt, copper, rocksalt * (2, 1, 1))]
    return [single[0], collate(single), single[1], single[2]]


@pytest.mark.parametrize("name", ["density", "nequip", "mace"])
def test_what_is_recorded_serves_batches_of_any_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded graph itself, run without the compiler: no size of the first batch may be left in it."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compare_training(small_potential(name))


def test_parameters_without_a_derivative_are_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler gives zeros for them, the ordinary evaluation nothing."""

    def zeros_for_all(function: object, **_: object) -> object:
        def other(parameters: dict[str, torch.Tensor], *inputs: object) -> tuple[torch.Tensor, ...]:
            energies, pull, descriptors = function(parameters, *inputs)  # type: ignore[operator]
            return energies + 0.0 * sum(p.sum() for p in parameters.values()), pull, descriptors

        return other

    monkeypatch.setattr(torch, "compile", zeros_for_all)
    potential = small_potential()
    compiled = CompiledPotential(potential, training=True)
    evaluate(potential, graphs()[0], training=True, compiled=compiled)
    assert compiled.failure is None


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_training_gives_the_same_loss_gradient() -> None:
    compare_training(small_potential("density"))


def compare_training(potential: Potential) -> None:
    """Compiled against ordinary results on several batches, and the gradients of a loss on them."""
    compiled = CompiledPotential(potential, training=True)
    for graph in graphs():
        expected = evaluate(potential, graph, training=True)
        found = evaluate(potential, graph, training=True, compiled=compiled)
        assert compiled.failure is None
        torch.testing.assert_close(found.forces, expected.forces, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.stress, expected.stress, rtol=1e-9, atol=1e-11)
        for one, other in zip(gradients(potential, found), gradients(potential, expected), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def gradients(potential: Potential, prediction: object) -> list[torch.Tensor]:
    potential.zero_grad()
    loss = prediction.forces.square().sum() + prediction.energy.square().sum()  # type: ignore[attr-defined]
    loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in potential.parameters()]


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_inference_is_the_ordinary_one() -> None:
    potential = small_potential()
    compiled = CompiledPotential(potential)
    for graph in graphs():
        expected, found = evaluate(potential, graph), evaluate(potential, graph, compiled=compiled)
        torch.testing.assert_close(found.energy, expected.energy, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found.forces, expected.forces, rtol=1e-9, atol=1e-12)
    assert compiled.failure is None


@pytest.mark.parametrize("atoms", [ase.Atoms("Na"), molecule("NaCl"), ase.Atoms("NaCl", [[0, 0, 0], [0, 0, 40.0]])])
def test_graphs_too_small_to_compile_take_the_ordinary_way(atoms: ase.Atoms) -> None:
    potential = small_potential()
    graph = graph_from_atoms(atoms, 5.0)
    found = evaluate(potential, graph, compiled=CompiledPotential(potential))
    torch.testing.assert_close(found.forces, evaluate(potential, graph).forces, rtol=0, atol=0)


def test_a_failing_compiler_warns_once_and_leaves_the_ordinary_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", refuse)
    potential = small_potential()
    compiled = CompiledPotential(potential)
    graph = graphs()[0]
    with pytest.warns(CompileWarning, match="no compiler here"):
        found = evaluate(potential, graph, compiled=compiled)
    torch.testing.assert_close(found.forces, evaluate(potential, graph).forces, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(potential, graph, compiled=compiled)


@pytest.mark.parametrize("training", [False, True])
def test_wrong_numbers_of_a_compiler_are_found(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    def wrong(function: object, **_: object) -> object:
        def other(*inputs: object) -> tuple[torch.Tensor, ...]:
            output, pull, descriptors = function(*inputs)  # type: ignore[operator]
            return output, 1.01 * pull, descriptors

        return other

    monkeypatch.setattr(torch, "compile", wrong)
    potential = small_potential()
    graph = graphs()[0]
    with pytest.warns(CompileWarning, match="gradients differ"):
        evaluate(potential, graph, training=training, compiled=CompiledPotential(potential, training=training))


def test_a_lost_derivative_of_the_parameters_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def detached(function: object, **_: object) -> object:
        def other(*inputs: object) -> tuple[torch.Tensor, ...]:
            output, pull, descriptors = function(*inputs)  # type: ignore[operator]
            return output, pull.detach(), descriptors

        return other

    monkeypatch.setattr(torch, "compile", detached)
    potential = small_potential()
    with pytest.warns(CompileWarning, match="with respect to the parameters"):
        evaluate(potential, graphs()[0], training=True, compiled=CompiledPotential(potential, training=True))
