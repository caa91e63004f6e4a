"""The ladder of potentials: what each architecture learns in equal time, and from equally many frames.

    python benchmarks/ladder.py --quick
    python benchmarks/ladder.py --train STORE --validation STORE --isolated-energies FREE.json --minutes 3 --epochs 0.05

Same data, loss, optimiser, schedule, batches and kind of core for each network at its default size; one run each.
Without stores it takes the frames that the shipped model carries. Minutes are processor time of one thread, so that
other work on the machine favours no one. What is finished is not run again, and a run that was stopped goes on.
`--quick` is done in ten minutes on two cores. Markdown, JSON and a picture go to the folder named by `--report`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ladder_report import write_report
from scipy.spatial.transform import Rotation

from forcefield.data.batches import load_batch, plan_batches
from forcefield.data.frames import atoms_from_frame, read_compact
from forcefield.data.store import FrameStore, write_store
from forcefield.derivatives import evaluate
from forcefield.graph import collate, graph_from_atoms
from forcefield.networks import NETWORKS
from forcefield.potential import Potential
from forcefield.train.config import TrainConfig
from forcefield.train.export import hardware
from forcefield.train.loop import Run, train
from forcefield.train.replay import REPLAY, VALIDATION_SAMPLE

CUTOFF = 5.0  # Å
SHIPPED = Path(__file__).resolve().parents[1] / "models" / "mp-0"
QUICK: dict[str, Any] = {"minutes": 0.4, "epochs": 0.04, "validation_frames": 150}
TURNED = 20
"""Structures of the validation data that are turned to measure equivariance."""


def main() -> None:
    """Run all networks, `--processes` at a time, and report."""
    options = parse()
    train_store, validation_store = stores(options)
    jobs = [(name, comparison) for name in options.networks for comparison in ("time", "epochs")]
    configs = [configuration(options, train_store, validation_store, *job) for job in jobs]
    start = time.perf_counter()
    with ProcessPoolExecutor(
        options.processes, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        futures = {pool.submit(climb, config): job for config, job in zip(configs, jobs, strict=True)}
        for future in as_completed(futures):
            row = future.result()
            print(
                f"{row['network']:12s} {futures[future][1]:7s} energy {1e3 * row['energy_mae']:6.0f} meV/atom, forces "
                f"{1e3 * row['forces_mae']:5.0f} meV/Å, {row['steps']:5d} steps in {row['seconds']:4.0f} s",
                flush=True,
            )
    rows: dict[str, list[dict[str, Any]]] = {"time": [], "epochs": []}
    for config, (_, comparison) in zip(configs, jobs, strict=True):
        rows[comparison].append(climb(config))  # reads what it wrote
    about = describe(options, train_store, validation_store, (time.perf_counter() - start) / 60)
    print(write_report(options.report, rows, about))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="store to train on; the shipped model's sample if not given")
    parser.add_argument("--validation", type=Path, help="store to validate on")
    parser.add_argument("--isolated-energies", type=Path, help="JSON of free-atom energies (eV)")
    parser.add_argument("--output", type=Path, default=Path("runs/ladder"), help="folder of the runs")
    parser.add_argument("--report", type=Path, default=Path("runs/ladder"), help="folder for ladder.md, .json and .png")
    parser.add_argument("--quick", action="store_true", help=f"short runs: {QUICK}")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor time of each run at equal time")
    parser.add_argument("--epochs", type=float, default=0.02, help="passes through the data at equal epochs")
    parser.add_argument("--validation-frames", type=int, default=1000, help="so many, chosen at random once")
    parser.add_argument("--slots", type=int, default=3000, help="batch size in padded edges")
    parser.add_argument("--optimizer", default="muon", choices=["adam", "muon"])
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument(
        "--rates", nargs="+", type=rate_of, default=[], metavar="NETWORK=RATE", help="peak rates of some networks"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, a core each")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args(arguments)
    if (options.train is None) != (options.validation is None):
        parser.error("give --train and --validation, or neither of them")
    if options.quick:
        vars(options).update(QUICK)
    return options


def rate_of(text: str) -> tuple[str, float]:
    """A network and its peak rate, from ``NETWORK=RATE``."""
    name, _, rate = text.partition("=")
    if name not in NETWORKS:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no network {name!r}; there are {', '.join(NETWORKS)}")
    return name, float(rate)


def stores(options: argparse.Namespace) -> tuple[Path, Path]:
    """Stores to train and validate on: those given, the second one thinned, or made of the shipped samples."""
    folder = options.output / "stores"
    train_store = options.train or folder / "train"
    if not train_store.exists():
        write_store(train_store, read_compact(SHIPPED / REPLAY), CUTOFF)
    whole = options.validation or folder / "validation"
    if not whole.exists():
        write_store(whole, read_compact(SHIPPED / VALIDATION_SAMPLE), CUTOFF)
    source = FrameStore(whole)
    if options.validation_frames >= len(source):
        return train_store, whole
    thinned = folder / f"validation_{options.validation_frames}"
    if not thinned.exists():
        chosen = np.random.default_rng(0).choice(len(source), options.validation_frames, replace=False)
        write_store(thinned, (source.frame(int(k)) for k in np.sort(chosen)), source.cutoff)
    return train_store, thinned


def configuration(
    options: argparse.Namespace, train_store: Path, validation_store: Path, name: str, comparison: str
) -> TrainConfig:
    """One run."""
    store = FrameStore(train_store)
    steps = math.ceil(options.epochs * len(plan_batches(store, options.slots, seed=options.seed)))
    length: dict[str, Any] = {"minutes": options.minutes} if comparison == "time" else {"steps": steps}
    return TrainConfig(
        network=name,
        hyperparameters={"cutoff": min(CUTOFF, store.cutoff)},
        train=train_store,
        validation=validation_store,
        isolated_energies=options.isolated_energies,
        output=options.output / comparison / name,
        clock="cpu",
        optimizer=options.optimizer,
        learning_rate=dict(options.rates).get(name, options.learning_rate),
        warmup_steps=min(50, max(steps // 4, 1)),
        ema_decay=0.99,
        slots=options.slots,
        seed=options.seed,
        checkpoint_minutes=2,
        validation_batches=4,
        plots=False,
        **length,
    )


def climb(config: TrainConfig) -> dict[str, Any]:
    """Train and measure one network, unless that is done; the result is ``rung.json`` in the run's folder."""
    torch.set_num_threads(1)
    result = config.output / "rung.json"
    if result.is_file():
        return json.loads(result.read_text(encoding="utf-8"))
    run = train(config)
    assert run.result is not None
    with run.ema.average_parameters():
        row = {
            "network": config.network,
            "learning_rate": config.learning_rate,
            "parameters": sum(p.numel() for p in run.potential.network.parameters()),
            "steps": run.step,
            "atoms_seen": run.atoms_seen,
            "seconds": run.seconds,
            "training_speed": run.atoms_seen / run.seconds,
            "inference_speed": inference_speed(run),
            "equivariance": equivariance_error(run.potential, some_structures(run.validation)),
            **run.result["all"],
        }
    result.write_text(json.dumps(row, indent=1), encoding="utf-8")
    return row


def some_structures(store: FrameStore) -> list[Atoms]:
    """The first few structures of a store with more than one atom."""
    many = np.flatnonzero(np.asarray(store.arrays["n_atoms"]) > 1)[:TURNED]
    return [atoms_from_frame(store.frame(int(k))) for k in many]


def inference_speed(run: Run, repeats: int = 4) -> float:
    """Atoms per second of processor time, energy, forces and stress, on batches of the validation data."""
    batches = plan_batches(run.validation, run.config.slots, seed=0)[:repeats]
    graphs = [load_batch(run.validation, frames)[0].within(run.potential.cutoff) for frames in batches]
    run.potential.requires_grad_(False)
    evaluate(run.potential, graphs[0])
    start = time.process_time()
    for graph in graphs:
        evaluate(run.potential, graph)
    return sum(graph.n_atoms for graph in graphs) / (time.process_time() - start)


def equivariance_error(potential: Potential, structures: Sequence[Atoms]) -> float:
    """Largest ``|F(R x) - R F(x)|`` over the root mean square of F, for random turns with inversion, as trained."""
    turns = Rotation.random(len(structures), rng=np.random.default_rng(0)).as_matrix()
    turned = []
    for atoms, turn in zip(structures, turns, strict=True):
        copy = atoms.copy()
        copy.set_cell(-atoms.cell.array @ turn.T)
        copy.positions = -atoms.positions @ turn.T
        turned.append(copy)
    before, after = (
        evaluate(potential, collate([graph_from_atoms(atoms, potential.cutoff) for atoms in some])).forces.numpy()
        for some in (structures, turned)
    )
    of_atom = np.repeat(turns, [len(atoms) for atoms in structures], axis=0)
    expected = -np.einsum("nij,nj->ni", of_atom, before)
    return float(np.abs(after - expected).max() / np.sqrt(np.square(before).mean()))


def describe(options: argparse.Namespace, train_store: Path, validation_store: Path, minutes: float) -> dict[str, Any]:
    """What the report says about the runs."""
    frames, validation = FrameStore(train_store), FrameStore(validation_store)
    return {
        "minutes": options.minutes,
        "epochs": options.epochs,
        "slots": options.slots,
        "optimizer": options.optimizer,
        "learning_rate": options.learning_rate,
        "hardware": hardware("cpu"),
        "training_frames": len(frames),
        "training_atoms": int(frames.first_atom[-1]),
        "validation_frames": len(validation),
        "shipped_sample": options.train is None,
        "wall_minutes_of_this_call": round(minutes, 1),
    }


if __name__ == "__main__":
    main()
