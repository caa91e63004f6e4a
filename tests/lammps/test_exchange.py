"""The exchange of features between atoms and ghosts, in one process and between virtual ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk

from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.lammps.atoms import RankAtoms, RankGraphs
from forcefield.lammps.evaluation import RankResult, evaluate_rank
from forcefield.lammps.exchange import GhostExchange, OrderedExchange, position_of
from forcefield.networks import build_network
from forcefield.potential import Potential

SYSTEM = {  # ids of local atoms and of ghosts of each process; the last one has no atoms but sees some
    0: ([7, 3, 10**12], [5, 3, 5, 8]),
    1: ([5, 8, 2], [7, 7, 10**12]),
    2: ([], [2, 5]),
}
NETWORKS = {
    "density": {"channels": 6, "n_layers": 3, "message_scalars": 4, "message_vectors": 3, "hidden": 8},
    "nequip": {"channels": (6, 4, 3), "n_layers": 3, "n_radial": 5, "radial_hidden": (8,)},
    "mace": {"channels": 5, "n_radial": 5, "radial_hidden": (8,), "readout_hidden": 6},
    "painn": {"channels": 6, "n_radial": 4, "n_layers": 3},
}


class VirtualProcesses:
    """Communicators of threads that stand for processes, with the calls that the exchange makes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=20)
        self._mail: list[Any] = [None] * size

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        results: list[Any] = [None] * self.size
        errors: list[BaseException] = []

        def one(rank: int) -> None:
            try:
                results[rank] = work(VirtualProcess(self, rank))
            except BaseException as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return results

    def swap(self, rank: int, letter: Any) -> list[Any]:
        self._barrier.wait()
        self._mail[rank] = letter
        self._barrier.wait()
        return list(self._mail)


class VirtualProcess:
    def __init__(self, processes: VirtualProcesses, rank: int) -> None:
        self.processes, self.rank, self.size = processes, rank, processes.size

    def allreduce(self, value: int) -> int:
        return sum(self.processes.swap(self.rank, value))

    def Alltoall(self, given: np.ndarray, taken: np.ndarray) -> None:
        taken[:] = [counts[self.rank] for counts in self.processes.swap(self.rank, given.copy())]

    def Alltoallv(self, given: list[np.ndarray], taken: list[np.ndarray]) -> None:
        parts = []
        for rows, counts in self.processes.swap(self.rank, (given[0].ravel().copy(), given[1].copy())):
            ends = np.cumsum(counts)
            parts.append(rows[ends[self.rank] - counts[self.rank] : ends[self.rank]])
        flat = np.concatenate(parts)
        assert len(flat) == taken[0].size == taken[1].sum()
        taken[0].ravel()[:] = flat


def tags_of(rank: int) -> tuple[np.ndarray, int]:
    owned, ghosts = SYSTEM[rank]
    return np.array(owned + ghosts, dtype=np.int64), len(owned)


def feature(tags: np.ndarray) -> torch.Tensor:
    """Two numbers that tell whose they are."""
    return torch.from_numpy(np.stack([tags % 1000 + 0.5, tags % 7], axis=1).astype(float))


def test_ghosts_get_the_rows_of_their_atoms() -> None:
    def work(comm: VirtualProcess) -> None:
        tags, n_local = tags_of(comm.rank)
        exchange = GhostExchange(comm)
        exchange.update(tags, n_local)
        torch.testing.assert_close(exchange.forward(feature(tags)[:n_local]), feature(tags))

    VirtualProcesses(3).run(work)


def test_backward_is_the_transpose_of_forward() -> None:
    def work(comm: VirtualProcess) -> tuple[float, float]:
        tags, n_local = tags_of(comm.rank)
        exchange = GhostExchange(comm)
        exchange.update(tags, n_local)
        generator = torch.Generator().manual_seed(comm.rank)
        rows = torch.randn(n_local, 3, dtype=torch.float64, generator=generator)
        weights = torch.randn(len(tags), 3, dtype=torch.float64, generator=generator)
        forward, backward = exchange.forward(rows), exchange.backward(weights)
        return float((forward * weights).sum()), float((rows * backward).sum())

    sums = np.sum(VirtualProcesses(3).run(work), axis=0)
    assert sums[0] == pytest.approx(sums[1], abs=1e-12)


def test_all_processes_go_through_all_exchanges_backwards() -> None:
    """Also the one whose energies depend on nothing; with a call left out the barrier would break."""

    def work(comm: VirtualProcess) -> torch.Tensor:
        tags, n_local = tags_of(comm.rank)
        ghosts = GhostExchange(comm)
        ghosts.update(tags, n_local)
        exchange = OrderedExchange(ghosts, torch.device("cpu"))
        start = feature(tags)[:n_local].requires_grad_()
        first = exchange(start)
        second = exchange(first[:n_local] + 0.0) if comm.rank != 2 else exchange(torch.zeros(0, 2).double())
        energy = second.square().sum() if comm.rank == 0 else torch.zeros(1, dtype=torch.float64, requires_grad=True)
        with torch.autograd.set_multithreading_enabled(False):
            gradient, _ = torch.autograd.grad(
                [energy.sum(), exchange.token], [start, exchange.start], allow_unused=True
            )
        return gradient

    gradients = VirtualProcesses(3).run(work)
    times = [np.array([1, 2, 1]), np.array([2, 1, 0])]  # how often each atom of processes 0 and 1 stands in process 0
    for rank, number in enumerate(times):
        tags, n_local = tags_of(rank)
        torch.testing.assert_close(gradients[rank], 2 * feature(tags)[:n_local] * torch.from_numpy(number)[:, None])


def test_a_plan_is_kept_until_an_atom_changes_anywhere() -> None:
    def work(comm: VirtualProcess) -> list[int]:
        tags, n_local = tags_of(comm.rank)
        exchange, plans = GhostExchange(comm), []
        for changed in (False, False, True):
            if changed and comm.rank == 0:
                tags = tags[:-1]
            exchange.update(tags, n_local)
            plans.append(exchange.n_plans)
        return plans

    assert VirtualProcesses(3).run(work) == [[1, 1, 2]] * 3


@pytest.mark.parametrize(
    ("tags", "n_local", "message"),
    [
        ([1, 2, 2], 3, "positive and unique"),
        ([0, 1], 2, "positive and unique"),
        ([1, 2, 9], 2, "ghost atom 9 stands for an atom that no process has"),
    ],
)
def test_ids_that_do_not_tell_atoms_apart_are_refused(tags: list[int], n_local: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VirtualProcesses(1).run(lambda comm: GhostExchange(comm).update(np.array(tags), n_local))


def test_positions_of_values() -> None:
    np.testing.assert_array_equal(position_of(np.array([4, 1, 9]), np.array([9, 4, 4])), [1, -1, 0])
    np.testing.assert_array_equal(position_of(np.array([4]), np.array([], dtype=np.int64)), [-1])


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_processes_that_share_a_crystal_give_what_one_gives(name: str) -> None:
    """Three unequal parts and a process without atoms; images within the cutoff are ghosts, as LAMMPS makes them."""
    torch.manual_seed(0)
    potential = _potential(name)
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    crystal.rattle(0.2, seed=1)
    crystal.set_cell(crystal.cell.array + [[0, 0, 0], [0.8, 0, 0], [0.2, -0.5, 0]], scale_atoms=True)
    parts = np.array([0, 0, 0, 1, 1, 1, 1, 2])

    def work(comm: VirtualProcess) -> RankResult:
        atoms = _part(crystal, parts == comm.rank)
        ghosts = GhostExchange(comm)
        ghosts.update(atoms.tags, atoms.n_local)
        graph = RankGraphs(potential.cutoff, 0.3, np.array([0, 11, 17])).graph(atoms)
        return evaluate_rank(potential, graph, ghosts)

    results = VirtualProcesses(4).run(work)
    whole = evaluate(potential, graph_from_atoms(crystal, potential.cutoff))
    order = np.argsort(parts, kind="stable")
    energies, forces = (np.concatenate([getattr(one, key) for one in results]) for key in ("energies", "forces"))
    np.testing.assert_allclose(energies, whole.energies.numpy()[order], rtol=0, atol=1e-11)
    np.testing.assert_allclose(forces, whole.forces.numpy()[order], rtol=0, atol=1e-11)
    virial = sum(one.virials.sum(axis=0) for one in results)
    stress = whole.stress[0].numpy()[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(-virial / crystal.get_volume(), stress, rtol=0, atol=1e-12)


def _potential(name: str) -> Potential:
    network = build_network(name, [11, 17], cutoff=4.0, **NETWORKS[name])
    energies = {11: -1.0, 17: -2.0}
    potential = Potential(network, isolated_energies=energies, bound_energies=energies).with_dtype(torch.float64)
    return potential.requires_grad_(False)


def _part(crystal: ase.Atoms, mine: np.ndarray) -> RankAtoms:
    """Some atoms of a crystal as local ones, all others and all images around as ghosts."""
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
    tags = np.arange(1, len(crystal) + 1)
    own = np.flatnonzero(mine)
    ghost_of, shifts = [], []
    for image in images:
        members = np.flatnonzero(~mine) if not image.any() else np.arange(len(crystal))
        ghost_of.append(members)
        shifts.append(np.tile(image, (len(members), 1)))
    members = np.concatenate([own, *ghost_of])
    shift = np.concatenate([np.zeros((len(own), 3)), *shifts])
    positions = crystal.positions[members] + shift @ crystal.cell.array
    return RankAtoms(positions, np.where(crystal.numbers == 11, 1, 2)[members], tags[members], len(own))
