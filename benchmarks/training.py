"""How fast training is: atoms a second and core by part of a step, processes, memory, start-up.

    python benchmarks/training.py                                  # the default model's network; made-up crystals,
                                                                   # 26 and 58 neighbours
    python benchmarks/training.py --network painn                  # another network at its defaults
    python benchmarks/training.py --compile                        # also with `compile: true`
    python benchmarks/training.py --processes 2                    # also through torchrun
    python benchmarks/training.py --train STORE --validation STORE # memory and start-up with a real data set

One thread a process. Speed is in atoms a second of processor time, which other work on the machine disturbs less than
the clock on the wall; both are given. Labels are random numbers: the time of a step does not depend on them. Prints
Markdown; ``--json FILE`` writes the figures too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ase.build import bulk

import forcefield.derivatives
from forcefield.data.frames import Frame
from forcefield.data.store import FrameStore, write_store
from forcefield.models import load_model
from forcefield.train import loop
from forcefield.train.config import TrainConfig
from forcefield.train.distributed import process_group
from forcefield.train.export import hardware
from forcefield.train.loop import Run

PARTS = ("load", "forward", "forces", "backward through both", "update")
CRYSTALS = {
    26: ("NaCl", {"crystalstructure": "rocksalt", "a": 5.64}),
    58: ("Fe", {"crystalstructure": "bcc", "a": 2.85}),
}
"""Neighbours within 5 Å -> crystal."""


def main() -> None:
    """Measure and print."""
    options = parse()
    with one_thread():
        if options.worker:
            result = work(options.worker[0], Path(options.worker[1]), options)
            if result:
                print(json.dumps(result))
            return
        found: dict[str, Any] = {"hardware": hardware("cpu"), "slots": options.slots, **architecture(options.network)}
        with tempfile.TemporaryDirectory() as folder:
            stores = {n: make_store(Path(folder) / str(n), n, options.slots) for n in CRYSTALS}
            ways = (False, True) if options.compile else (False,)
            found["steps"] = [step_times(store, options, compiled) for store in stores.values() for compiled in ways]
            if options.processes > 1:
                found["processes"] = [
                    run_processes(store, options, n) for store in stores.values() for n in (1, options.processes)
                ]
    if options.train:
        found["data"] = in_a_process(options, "data")
    print(text(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", help="a network at its defaults, instead of that of the default model")
    parser.add_argument("--slots", type=int, default=4500, help="batch size in padded edges")
    parser.add_argument("--steps", type=int, default=30, help="steps to measure, after five to warm up")
    parser.add_argument("--compile", action="store_true", help="measure the compiled network too")
    parser.add_argument("--processes", type=int, default=1, help="measure this many processes too")
    parser.add_argument("--train", type=Path, help="store to measure memory and start-up with")
    parser.add_argument("--validation", type=Path, help="validation store beside it")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread while the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_store(folder: Path, neighbours: int, slots: int) -> FrameStore:
    """Rattled crystals of eight to sixteen atoms with random labels, enough for twenty batches."""
    symbol, structure = CRYSTALS[neighbours]
    generator = np.random.default_rng(0)
    unit = bulk(symbol, **structure, cubic=True)
    cell = unit.repeat((8 // len(unit), 1, 1)) if len(unit) < 8 else unit

    def frames() -> Iterator[Frame]:
        for _ in range(20 * slots // (neighbours * len(cell))):
            positions = cell.positions + generator.normal(scale=0.05, size=(len(cell), 3))
            labels = {"energy": float(generator.normal()), "forces": generator.normal(size=(len(cell), 3))}
            labels |= {"stress": generator.normal(size=6) * 0.01, "atomic_energies": generator.normal(size=len(cell))}
            yield Frame(cell.numbers.astype(np.int64), positions, cell.cell.array, cell.pbc, **labels)

    return write_store(folder, frames(), 5.0)


def architecture(network: str | None) -> dict[str, Any]:
    """A network at its defaults, or that of the default model."""
    if network is not None:
        return {"network": network, "hyperparameters": {}}
    config = load_model("default").config
    return {"network": config["network"], "hyperparameters": config["hyperparameters"]}


def configuration(
    store: Path, output: Path, options: argparse.Namespace, validation: Path | None = None
) -> TrainConfig:
    """A run that never ends by itself."""
    return TrainConfig(
        **{"train": store, "validation": validation or store, "output": output, "slots": options.slots},
        **{"steps": 10**9, "checkpoint_minutes": 10**6, "log_every": 10**6},
        **architecture(options.network),
    )


def step_times(store: FrameStore, options: argparse.Namespace, compiled: bool) -> dict[str, Any]:
    """Processor time of each part of a step, and atoms a second; the compiled network's forward holds the forces."""
    with tempfile.TemporaryDirectory() as output:
        config = configuration(store.folder, Path(output), options)
        run = Run(config.model_copy(update={"compile": compiled}))
        batches = run.batches()
        for _ in range(5):
            run.update(next(batches))
        times = dict.fromkeys(PARTS, 0.0)
        atoms, cpu, wall = run.atoms_seen, time.process_time(), time.perf_counter()
        with timed_parts(times):
            for _ in range(options.steps):
                run.update(next(batches))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        times["forward"] -= times["forces"]
        times["update"] = cpu - sum(times[part] for part in PARTS[:-1])
        count = run.atoms_seen - atoms
    neighbours = float(np.mean(store.arrays["n_edges"] / store.arrays["n_atoms"]))
    return {
        **{
            "neighbours": neighbours,
            "compiled": compiled,
            "atoms_per_step": count / options.steps,
            "atoms_per_cpu_second": count / cpu,
        },
        **{"atoms_per_second": count / wall, "parts": {part: times[part] / cpu for part in PARTS}},
    }


@contextmanager
def timed_parts(times: dict[str, float]) -> Iterator[None]:
    """Add the processor time of the functions of a step to ``times``."""

    def timed(part: str, function: Any) -> Any:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                times[part] += time.process_time() - start

        return wrapper

    with (
        patch.object(loop, "load_batch", timed("load", loop.load_batch)),
        patch.object(loop, "evaluate", timed("forward", loop.evaluate)),
        patch.object(forcefield.derivatives, "edge_pull", timed("forces", forcefield.derivatives.edge_pull)),
        patch.object(torch.Tensor, "backward", timed("backward through both", torch.Tensor.backward)),
    ):
        yield


def run_processes(store: FrameStore, options: argparse.Namespace, processes: int) -> dict[str, Any]:
    """Speed of several processes that share each batch, through torchrun."""
    return {"processes": processes, **in_a_process(options, str(store.folder), processes)}


def in_a_process(options: argparse.Namespace, task: str, processes: int = 1) -> dict[str, Any]:
    """Run this file in new processes of one thread each; returns what process 0 prints."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, *(launcher if processes > 1 else []), __file__, "--worker", task, output]
        command += ["--slots", str(options.slots), "--steps", str(options.steps)]
        command += ["--network", options.network] if options.network else []
        if options.train:
            command += ["--train", str(options.train), "--validation", str(options.validation or options.train)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def work(task: str, output: Path, options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own: start-up, speed and memory of a run on the store of ``task``, or on that given."""
    store, validation = (options.train, options.validation) if task == "data" else (Path(task), None)
    begun = time.perf_counter()
    with process_group("cpu") as (group, _):
        run = Run(configuration(store, output, options, validation), group=group)
        batches = run.batches()
        run.update(next(batches))
        started = time.perf_counter() - begun
        for _ in range(4):
            run.update(next(batches))
        atoms, cpu, wall = run.atoms_seen, time.process_time(), time.perf_counter()
        for _ in range(options.steps):
            run.update(next(batches))
        cpus = group.gather(time.process_time() - cpu)
        wall, count = time.perf_counter() - wall, run.atoms_seen - atoms
        memory = group.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    if not group.is_root:
        return {}
    return {
        **{"frames": len(run.train), "start_up_seconds": started, "atoms_per_second": count / wall},
        **{"atoms_per_cpu_second": count / sum(cpus), "atoms_per_step": count / options.steps},
        "peak_memory_gib": max(memory) / 2**20,
    }


def text(found: dict[str, Any]) -> str:
    """Markdown."""
    sizes = ", ".join(f"{name} {value}" for name, value in found["hyperparameters"].items())
    lines = [
        f"Training the `{found['network']}` network ({sizes or 'at its defaults'}), {found['hardware']}, batches of "
        f"{found['slots']} padded edges.",
        "",
        "| neighbours | | atoms a step | atoms/s of CPU time | atoms/s of wall time | " + " | ".join(PARTS) + " |",
        "| --- " * (5 + len(PARTS)) + "|",
    ]
    for row in found["steps"]:
        shares = " | ".join(f"{100 * row['parts'][part]:.0f} %" for part in PARTS)
        way = "compiled" if row["compiled"] else ""
        lines.append(
            f"| {row['neighbours']:.0f} | {way} | {row['atoms_per_step']:.0f} | {row['atoms_per_cpu_second']:.0f} "
            f"| {row['atoms_per_second']:.0f} | {shares} |"
        )
    if "processes" in found:
        lines += [
            "",
            "| processes | atoms a step | atoms/s of wall time | atoms/s of all CPU time |",
            "| --- " * 4 + "|",
        ]
        lines += [
            f"| {row['processes']} | {row['atoms_per_step']:.0f} | {row['atoms_per_second']:.0f} "
            f"| {row['atoms_per_cpu_second']:.0f} |"
            for row in found["processes"]
        ]
    if "data" in found:
        row = found["data"]
        lines += [
            "",
            f"With {row['frames']:,} frames: {row['start_up_seconds']:.1f} s from configuration to the end of the "
            f"first step, peak memory {row['peak_memory_gib']:.2f} GiB, {row['atoms_per_cpu_second']:.0f} atoms/s of "
            "CPU time.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
