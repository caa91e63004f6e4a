"""Shoot-out: which network learns most in equal time? Same data, loss, optimiser, core and minutes for each.

    python benchmarks/shootout.py --train STORE --validation STORE --free-atoms FILE.json --minutes 8

The stores are made once from the compact archives (``--make-stores TRAIN.npz VALIDATION.npz``). Minutes are processor
time of one thread, so that other work on the machine does not favour anyone. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from ase.build import bulk

from forcefield.data.frames import read_compact
from forcefield.data.store import write_store
from forcefield.derivatives import evaluate
from forcefield.graph import graph_from_atoms
from forcefield.train.config import TrainConfig
from forcefield.train.export import hardware
from forcefield.train.loop import Run, train

CONTESTANTS: dict[str, dict] = {"density": {}, "nequip": {}, "mace": {}}


def main() -> None:
    """Run all contestants, one after the other; a finished one is not run again."""
    options = parse()
    torch.set_num_threads(1)
    if options.make_stores:
        for archive, folder in zip(options.make_stores, (options.train, options.validation), strict=True):
            write_store(folder, read_compact(archive), 5.0)
    rows = []
    for name in options.networks:
        config = TrainConfig(
            network=name,
            hyperparameters=CONTESTANTS[name],
            train=options.train,
            validation=options.validation,
            isolated_energies=options.free_atoms,
            output=options.output / name,
            minutes=options.minutes,
            clock="cpu",
            optimizer="adam",
            learning_rate=options.learning_rate,
            gradient_clip=100,
            slots=options.slots,
            checkpoint_minutes=2,
        )
        result = config.output / "validation.json"
        run = Run(config) if result.is_file() else train(config)
        rows.append(row(name, run, json.loads(result.read_text())["all"]))
    print(table(rows, options))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="store to train on")
    parser.add_argument("--validation", type=Path, required=True, help="store to validate on")
    parser.add_argument("--make-stores", nargs=2, metavar=("TRAIN", "VALIDATION"), help="compact archives to read")
    parser.add_argument("--free-atoms", type=Path, required=True, help="JSON of free-atom energies")
    parser.add_argument("--output", type=Path, default=Path("runs/shootout"), help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=8.0, help="processor time for each network")
    parser.add_argument("--slots", type=int, default=4500, help="batch size in padded edges")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--networks", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    return parser.parse_args()


def row(name: str, run: Run, errors: dict[str, float]) -> dict[str, float | str]:
    """One contestant's line."""
    return {
        "network": name,
        "parameters": sum(p.numel() for p in run.potential.network.parameters()),
        "steps": run.step,
        "atoms": run.atoms_seen,
        "training": run.atoms_seen / run.seconds,
        "inference": inference_speed(run),
        **errors,
    }


def inference_speed(run: Run, repeats: int = 5) -> float:
    """Atoms per second of processor time, energy + forces + stress, on 216 rattled atoms of rock salt."""
    atoms = bulk("NaCl", "rocksalt", 5.64, cubic=True) * (3, 3, 3)
    atoms.rattle(0.1, seed=0)
    graph = graph_from_atoms(atoms, run.potential.cutoff)
    run.potential.requires_grad_(False)
    times = []
    for _ in range(repeats + 2):
        start = time.process_time()
        evaluate(run.potential, graph)
        times.append(time.process_time() - start)
    return len(atoms) / sorted(times[2:])[repeats // 2]


def table(rows: list[dict], options: argparse.Namespace) -> str:
    """Markdown."""
    lines = [
        f"{options.minutes:g} minutes of processor time each, {hardware('cpu')}, batches of {options.slots} padded "
        f"edges, peak learning rate {options.learning_rate:g}; errors on the whole validation split.",
        "",
        "| network | parameters | steps | atoms seen | training atoms/s | inference atoms/s | energy MAE / median "
        "(meV/atom) | forces MAE / median (meV/Å) | stress MAE (GPa) |",
        "| --- " * 9 + "|",
    ]
    for r in rows:
        lines.append(
            f"| {r['network']} | {r['parameters']:,} | {r['steps']:,} | {r['atoms']:,} | {r['training']:.0f} "
            f"| {r['inference']:.0f} | {1000 * r['energy_mae']:.0f} / {1000 * r['energy_median']:.0f} "
            f"| {1000 * r['forces_mae']:.0f} / {1000 * r['forces_median']:.0f} | {160.21766 * r['stress_mae']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
