"""Speed and memory of the calculator: energy, forces and stress through ASE, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/calculator.py --output speed.md --json speed.json
    python benchmarks/calculator.py --quick --profile
    python benchmarks/calculator.py --peers chgnet,sevennet --environments /path/to/folder
    python benchmarks/calculator.py --calculator package.module:Calculator

Crystals are rattled anew for every call, so that each call also builds a neighbour list; only the run of molecular
dynamics shows what the Verlet skin saves. Peers are installed by `benchmarks/peer_environment.py`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ase
import torch
from measurements import (
    PARTS,
    CallRow,
    DynamicsRow,
    call,
    dense_metals,
    in_fresh_process,
    measure_calls,
    measure_dynamics,
    measure_first_call,
    memory_per_atom,
    profile,
    rattled,
    rock_salt,
    structure,
)
from peer_environment import PEERS, environments_folder
from peers import COMPILED, OURS, PeerRow, compare, start_workers

SCRIPT = Path(__file__).resolve()
VERSIONS = ("torch", "numpy", "ase", "matscipy", "e3nn")
SMALLEST_FOR_MEMORY = 200  # atoms; below, the measurement is the noise of the memory allocator


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="name or folder of a model")
    parser.add_argument("--calculator", metavar="MODULE:CLASS", help="time this ASE calculator instead")
    parser.add_argument("--sizes", type=_integers, default=[8, 64, 216, 512, 4096], help="atoms of the NaCl crystals")
    parser.add_argument("--repeats", type=int, default=7, help="calls per structure")
    parser.add_argument("--steps", type=int, default=200, help="steps of molecular dynamics")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--quick", action="store_true", help="up to 512 atoms, few repeats, 30 steps, no metals")
    parser.add_argument("--compile", action="store_true", help="also GNNCalculator(compile=True)")
    parser.add_argument("--profile", action="store_true", help="operators of PyTorch on 512 atoms")
    parser.add_argument("--peers", type=_names, default=[], metavar="NAME,...", help=", ".join(PEERS))
    parser.add_argument("--environments", type=Path, default=environments_folder(), help="where peers are installed")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--output", type=Path, help="write the report there")
    parser.add_argument("--memory-of", metavar="STRUCTURE", help=argparse.SUPPRESS)  # how the script calls itself
    options = parser.parse_args()
    unknown = sorted(set(options.peers) - set(PEERS))
    if unknown:
        parser.error(f"unknown peers {unknown}; choose from {', '.join(PEERS)}")
    if options.quick:
        options.sizes = [size for size in options.sizes if size <= 512]
        options.repeats, options.steps = min(options.repeats, 3), min(options.steps, 30)
    return options


def _integers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def make_calculator(options: argparse.Namespace, *, device: str = "cpu", compiled: bool = False) -> Any:
    """Our calculator, or the one asked for."""
    if options.calculator:
        module, _, name = options.calculator.partition(":")
        return getattr(importlib.import_module(module), name)()
    from forcefield import GNNCalculator

    return GNNCalculator(options.model, device=device, compile=compiled)


def statements(options: argparse.Namespace, *, compiled: bool = False) -> str:
    """Python that makes our calculator in another process."""
    if options.calculator:
        module, _, name = options.calculator.partition(":")
        return f"from {module} import {name}; calculator = {name}()"
    made = f"GNNCalculator({options.model!r}, device='cpu', compile={compiled})"
    return f"from forcefield import GNNCalculator; calculator = {made}"


def describe_machine(options: argparse.Namespace) -> dict[str, str]:
    """What the figures depend on."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load average before": load,
        "threads of PyTorch": str(torch.get_num_threads()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONS},
        "GPU": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "calculator": options.calculator or f"GNNCalculator({options.model!r})",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure_all_calls(options: argparse.Namespace) -> list[CallRow]:
    """One row for each structure and device."""
    names = [f"NaCl {size}" for size in options.sizes] + ([] if options.quick else list(dense_metals()))
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() and not options.calculator else [])
    ways = [(device, compiled) for compiled in ((False, True) if options.compile else (False,)) for device in devices]
    rows = []
    for device, compiled in ways:
        calculator = make_calculator(options, device=device, compiled=compiled)
        if compiled:
            call(_attached(structure("NaCl 64"), calculator))  # compiles
        for name in names:
            atoms = structure(name)
            repeats = options.repeats if len(atoms) > 100 else 5 * options.repeats
            row = measure_calls(name, atoms, calculator, repeats=repeats)
            if compiled:
                row = replace(row, device=f"{row.device}, compiled")
            elif device == "cpu" and len(atoms) >= SMALLEST_FOR_MEMORY:
                row = replace(row, memory=_memory(name, options))
            rows.append(row)
            print(_call_line(row), flush=True)
    return rows


def _attached(atoms: ase.Atoms, calculator: Any) -> ase.Atoms:
    atoms.calc = calculator
    return atoms


def _memory(name: str, options: argparse.Namespace) -> float:
    chosen = ["--calculator", options.calculator] if options.calculator else ["--model", options.model]
    same = [str(SCRIPT), *chosen, "--threads", str(options.threads)]
    return in_fresh_process([*same, "--memory-of", name])["memory"]


CALL_HEAD = (
    "| structure | device | atoms | neighbours | ms/call | ms/call (CPU time) | atoms/s | atoms/s (CPU time) | "
    + " | ".join(PARTS)
    + " | memory (kB/atom) |\n|---|---|"
    + "---:|" * (7 + len(PARTS))
)


def _call_line(row: CallRow) -> str:
    parts = [f"{row.parts[part]:.1%}" if row.parts else "-" for part in PARTS]
    times = [f"{1000 * row.wall:.1f}", f"{1000 * row.cpu:.1f}", f"{row.atoms / row.wall:,.0f}"]
    times.append(f"{row.atoms / row.cpu:,.0f}")
    memory = "-" if row.memory is None else f"{row.memory:.0f}"
    cells = [row.structure, row.device, str(row.atoms), f"{row.neighbours:.0f}", *times, *parts, memory]
    return "| " + " | ".join(cells) + " |"


def measure_peers(options: argparse.Namespace) -> tuple[list[PeerRow], dict[str, str]]:
    """Our calculator and the peers on 64, 216 and 512 atoms; and which peers are missing, and why."""
    sizes = [64, 216] if options.quick else [64, 216, 512]
    frames = {f"NaCl {size}": rattled(rock_salt(size), options.repeats + 1) for size in sizes}
    ours = {OURS: statements(options)}
    if options.compile:
        ours[COMPILED] = statements(options, compiled=True)
    workers, left_out = start_workers(options.peers, options.environments, ours)
    try:
        return compare(workers, frames, left_out), left_out
    finally:
        for worker in workers.values():
            worker.close()


def peer_report(rows: list[PeerRow], left_out: dict[str, str]) -> list[str]:
    """The table of peers and what is missing in it."""
    lines = ["| calculator | structure | ms/call | atoms/s | atoms/s (CPU time) | ours is faster by |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    for row in rows:
        ours = "-" if row.name in (OURS, COMPILED) else f"{row.ratio:.1f} times"
        if row.name not in (OURS, COMPILED) and row.compiled_ratio is not None:
            ours += f", compiled {row.compiled_ratio:.1f}"
        speeds = f"{row.atoms / row.wall:,.0f} | {row.atoms / row.cpu:,.0f}"
        lines.append(f"| {row.name} | {row.structure} | {1000 * row.wall:.0f} | {speeds} | {ours} |")
    return lines + [""] * bool(left_out) + [f"Left out: {name}: {reason}" for name, reason in left_out.items()]


def dynamics_report(row: DynamicsRow) -> str:
    """The run of molecular dynamics in one sentence."""
    return (
        f"{row.steps} NVE steps of 2 fs, {row.atoms} atoms, 300 K: {1000 * row.wall:.1f} ms a step "
        f"({1000 * row.cpu:.1f} ms CPU time); the neighbour list, built {row.builds} times, took {row.list_share:.1%}; "
        f"total energy drifted by {1000 * row.drift:.3f} meV/atom."
    )


def run(options: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """All measurements: the report's lines, and the figures."""
    machine = describe_machine(options)
    lines = [f"{name}: {value}  " for name, value in machine.items()] + ["", CALL_HEAD]
    print("\n".join(lines), flush=True)
    calls = measure_all_calls(options)
    lines += [_call_line(row) for row in calls]
    figures: dict[str, Any] = {"machine": machine, "calls": [asdict(row) for row in calls]}

    figures["fresh process"] = measure_first_call(statements(options), threads=options.threads)
    text = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in figures["fresh process"].items())
    later = [f"A fresh process (8 atoms): {text}."]
    print("", later[-1], sep="\n", flush=True)

    dynamics = measure_dynamics(rock_salt(512), make_calculator(options), steps=options.steps)
    figures["dynamics"] = asdict(dynamics)
    later += ["", dynamics_report(dynamics)]
    print("", later[-1], sep="\n", flush=True)

    if options.peers:
        rows, left_out = measure_peers(options)
        figures |= {"peers": [asdict(row) for row in rows], "peers left out": left_out}
        table = peer_report(rows, left_out)
        later += ["", *table]
        print("", *table, sep="\n", flush=True)
    if options.profile:
        table, share = profile(rock_salt(512), make_calculator(options))
        figures["matrix products"] = share
        later += ["", f"Operators, 512 atoms; matrix products take {share:.1%} of their time.", "", table]
        print("", *later[-3:], sep="\n", flush=True)
    return [*lines, "", *later], figures


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps({"memory": memory_per_atom(structure(options.memory_of), make_calculator(options))}))
        return
    report, figures = run(options)
    if options.output:
        options.output.write_text("\n".join(report) + "\n", encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
