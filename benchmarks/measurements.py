"""What `benchmarks/calculator.py` measures: calls, molecular dynamics, memory, the first call, operators."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ase
import numpy as np
import torch
from ase import units
from ase.build import bulk
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

import forcefield.derivatives
from forcefield import GNNCalculator

PARTS = ("neighbour list", "forward", "backward", "rest")
MATRIX_PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::addmv", "aten::mv", "aten::dot")
AMPLITUDE = 0.1  # Å, standard deviation of the displacements: large enough that each call needs a new neighbour list
FIRST_CALL = """
import json, time
start = time.perf_counter()
import torch
from ase.build import bulk
torch.set_num_threads({threads})
{statements}
loaded = time.perf_counter()
atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
atoms.calc = calculator
atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
times = {{"import and load": loaded - start, "first call": time.perf_counter() - loaded}}
print(json.dumps({{**times, "CPU time": time.process_time()}}))
"""


@dataclass(frozen=True)
class CallRow:
    """Energy, forces and stress of one structure; times are medians over the repeats.

    Attributes:
        structure: name.
        device: where the network ran.
        atoms: number of atoms.
        neighbours: mean number within the cutoff, NaN for a calculator that does not say.
        wall: time of a call (s).
        cpu: CPU time of a call (s), which other programs on the machine disturb less.
        parts: share of the wall time by part.
        memory: additional memory at the peak (kB/atom), None where not measured.
    """

    structure: str
    device: str
    atoms: int
    neighbours: float
    wall: float
    cpu: float
    parts: dict[str, float]
    memory: float | None = None


@dataclass(frozen=True)
class DynamicsRow:
    """Molecular dynamics at constant energy: medians over the steps, and what the neighbour list took of all.

    Attributes:
        steps: number of steps.
        atoms: number of atoms.
        wall: time of a step (s).
        cpu: CPU time of a step (s).
        list_share: share of the neighbour list, builds included.
        builds: how often it was built.
        drift: change of the total energy over the run (eV/atom).
    """

    steps: int
    atoms: int
    wall: float
    cpu: float
    list_share: float
    builds: int
    drift: float


@dataclass
class Stopwatch:
    """Wall and CPU time of named parts, summed until `reset`."""

    device: torch.device
    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def now(self) -> tuple[float, float]:
        """Wall and CPU clock, after the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        wall, cpu = self.now()
        yield
        wall_end, cpu_end = self.now()
        self.wall[name] += wall_end - wall
        self.cpu[name] += cpu_end - cpu

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return function(*arguments, **options)

        return timed

    def reset(self) -> None:
        """Forget everything."""
        self.wall.clear()
        self.cpu.clear()


@contextmanager
def watched(calculator: Any) -> Iterator[Stopwatch]:
    """Time the parts of a calculator from outside, through the functions that they are; others as a whole only."""
    if not isinstance(calculator, GNNCalculator):
        yield Stopwatch(torch.device("cpu"))
        return
    potential = calculator.model.potential
    watch = Stopwatch(potential.device)
    pull = forcefield.derivatives.edge_pull
    with (
        patch.object(calculator, "graph", watch.around("neighbour list", calculator.graph)),
        patch.object(potential, "forward", watch.around("forward", potential.forward)),
        patch.object(potential, "describe", watch.around("forward", potential.describe)),
        patch.object(forcefield.derivatives, "edge_pull", watch.around("backward", pull)),
    ):
        yield watch


def rock_salt(n_atoms: int) -> ase.Atoms:
    """NaCl of 8 k^3 atoms, undisturbed.

    Raises:
        ValueError: there is no such cube.
    """
    repeat = round((n_atoms / 8) ** (1 / 3))
    if 8 * repeat**3 != n_atoms:
        raise ValueError(f"a cube of rock salt has 8, 64, 216, 512, 1000, ... atoms, not {n_atoms}")
    return bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (repeat, repeat, repeat)


def dense_metals() -> dict[str, ase.Atoms]:
    """Copper (500 atoms, fcc) and tungsten (432 atoms, bcc), undisturbed."""
    copper = bulk("Cu", "fcc", a=3.615, cubic=True) * (5, 5, 5)
    tungsten = bulk("W", "bcc", a=3.165, cubic=True) * (6, 6, 6)
    return {"fcc Cu": copper, "bcc W": tungsten}


def structure(name: str) -> ase.Atoms:
    """The crystal of that name: "NaCl 512", "fcc Cu" ..."""
    return rock_salt(int(name.split()[1])) if name.startswith("NaCl ") else dense_metals()[name]


def rattled(atoms: ase.Atoms, repeats: int, *, seed: int = 0) -> list[ase.Atoms]:
    """Copies with normally distributed displacements, different ones in each."""
    random = np.random.default_rng(seed)
    frames = [atoms.copy() for _ in range(repeats)]
    for frame in frames:
        frame.positions += random.normal(scale=AMPLITUDE, size=frame.positions.shape)
    return frames


def call(atoms: ase.Atoms) -> float:
    """Ask for energy, forces and stress; returns the energy (eV)."""
    energy = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    return energy


def measure_calls(name: str, atoms: ase.Atoms, calculator: Any, *, repeats: int) -> CallRow:
    """Time ``repeats`` calls, each with new positions, after one that warms up."""
    walls, cpus, shares = [], [], []
    with watched(calculator) as watch:
        for frame in rattled(atoms, repeats + 1):
            frame.calc = calculator
            watch.reset()
            with watch.part("all"):
                call(frame)
            walls.append(watch.wall["all"])
            cpus.append(watch.cpu["all"])
            shares.append({part: watch.wall[part] / walls[-1] for part in PARTS[:-1]})
    parts = {part: statistics.median(share[part] for share in shares[1:]) for part in PARTS[:-1]}
    parts["rest"] = 1 - sum(parts.values())
    ours = isinstance(calculator, GNNCalculator)
    neighbours = calculator.graph(frame).n_edges / len(frame) if ours else float("nan")
    return CallRow(
        structure=name,
        device=str(watch.device),
        atoms=len(atoms),
        neighbours=neighbours,
        wall=statistics.median(walls[1:]),
        cpu=statistics.median(cpus[1:]),
        parts=parts if ours else {},
    )


def measure_dynamics(atoms: ase.Atoms, calculator: Any, *, steps: int, temperature: float = 300.0) -> DynamicsRow:
    """Run NVE dynamics with 2 fs a step from thermal velocities (K), and time each step."""
    atoms = atoms.copy()
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=np.random.default_rng(0))
    Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=2 * units.fs)
    walls, cpus = [], []
    with watched(calculator) as watch:
        before = atoms.get_total_energy()
        builds = calculator.neighbour_list_builds[0] if isinstance(calculator, GNNCalculator) else 0
        watch.reset()
        for _ in range(steps):
            start = watch.now()
            dynamics.run(1)
            walls.append(watch.now()[0] - start[0])
            cpus.append(watch.now()[1] - start[1])
        share = watch.cpu["neighbour list"] / sum(cpus)
    builds = calculator.neighbour_list_builds[0] - builds if isinstance(calculator, GNNCalculator) else 0
    return DynamicsRow(
        steps=steps,
        atoms=len(atoms),
        wall=statistics.median(walls),
        cpu=statistics.median(cpus),
        list_share=share,
        builds=builds,
        drift=float((atoms.get_total_energy() - before) / len(atoms)),
    )


def peak_memory() -> float:
    """Largest memory this process has had (kB); of this program alone, not of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0])
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1024 if sys.platform == "darwin" else float(largest)


def memory_per_atom(atoms: ase.Atoms, calculator: Any) -> float:
    """Peak memory (kB/atom) of one call beyond that of a call for 8 atoms; needs a fresh process."""
    for frame in rattled(rock_salt(8), 2):
        frame.calc = calculator
        call(frame)
    baseline = peak_memory()
    (frame,) = rattled(atoms, 1)
    frame.calc = calculator
    call(frame)
    return (peak_memory() - baseline) / len(atoms)


def in_fresh_process(arguments: Sequence[str]) -> dict[str, float]:
    """Run Python with arguments that make it print one line of JSON; its "whole process" (s of wall time) is added."""
    start = time.perf_counter()
    finished = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return {**json.loads(finished.stdout), "whole process": time.perf_counter() - start}


def measure_first_call(statements: str, *, threads: int) -> dict[str, float]:
    """Times (s) of a fresh process that imports, loads and evaluates 8 atoms, as a user's first script does.

    Args:
        statements: Python that ends in ``calculator = ...``.
        threads: of PyTorch.
    """
    return in_fresh_process(["-c", FIRST_CALL.format(statements=statements, threads=threads)])


def profile(atoms: ase.Atoms, calculator: Any, *, calls: int = 3, rows: int = 15) -> tuple[str, float]:
    """Operators by their own CPU time, as a table, and the share of matrix products."""
    frames = rattled(atoms, calls + 1)
    for frame in frames:
        frame.calc = calculator
    call(frames[0])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        for frame in frames[1:]:
            call(frame)
    events = sorted(recorded.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = ["| operator | calls | own time (ms) | share |", "|---|---:|---:|---:|"]
    for event in events[:rows]:
        own = event.self_cpu_time_total
        lines.append(f"| `{event.key}` | {event.count / calls:.0f} | {own / calls / 1000:.2f} | {own / total:.1%} |")
    products = sum(event.self_cpu_time_total for event in events if event.key in MATRIX_PRODUCTS)
    return "\n".join(lines), products / total
