"""Formation energies of Materials Project crystals by CGCNN and MEGNet, beside what the papers report.

Give an extended XYZ file of structures with ``formation_energy_per_atom`` (eV/atom) in their comment lines. The split
has the size of CGCNN's: 28,046 structures to train on, the rest halved into validation and test. A run that was stopped
goes on when the same command is given again; the table says how far it was, with the learning curve.

    python benchmarks/property_tables.py mp_structures.extxyz --minutes 35 --output runs/formation_energy
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_POINTS = 20
"""Of a learning curve in the table."""
N_TRAIN = 28046
KEY = "formation_energy_per_atom"
PAPERS = {
    "crystal_cgcnn": ("CGCNN", 0.039, "28,046", "doi:10.1103/PhysRevLett.120.145301, table I"),
    "crystal_megnet": ("MEGNet", 0.028, "60,000", "doi:10.1021/acs.chemmater.9b01294, table 3"),
}
"""Body -> name, test MAE (eV/atom), training structures and source of the paper."""
ABOUT = """# Formation energies by CGCNN and MEGNet

Written by `benchmarks/property_tables.py`: formation energies of Materials Project crystals (PBE and PBE+U), divided at
random into as many training structures as the paper of CGCNN had and two equal parts for validation and test, on one
thread of a CPU. The papers trained to convergence on graphics processors; these runs were stopped by the clock, and the
learning curves show where. MEGNet's figure is of more than twice as many structures, and of an older database.
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "crystal_cgcnn": {
        "hyperparameters": {"cutoff": 6.0, "channels": 64, "n_layers": 3, "n_radial": 41},
        "max_neighbours": 12,
        "task": {"key": KEY, "pooling": "mean", "unit": "eV/atom", "hidden": 128},
    },
    "crystal_megnet": {
        "hyperparameters": {"cutoff": 4.0, "channels": 32, "state_channels": 32, "n_layers": 3, "n_radial": 40},
        "task": {"key": KEY, "pooling": "set2set", "unit": "eV/atom", "hidden": 32},
    },
}


def count_structures(path: Path) -> int:
    """Structures of an extended XYZ file, counted by their comment lines."""
    with path.open(encoding="utf-8") as file:
        return sum("Lattice=" in line for line in file)


def configuration(options: argparse.Namespace, network: str) -> Any:
    """The run of one network."""
    from forcefield.tasks.config import PropertyConfig

    n_structures = count_structures(options.structures)
    if n_structures <= N_TRAIN + 1:
        raise SystemExit(f"{options.structures} has {n_structures} structures, but more than {N_TRAIN} are needed")
    held = n_structures - N_TRAIN
    return PropertyConfig(
        train=options.structures,
        validation=held // 2,
        test=held - held // 2,
        output=options.output / network,
        network=network,
        reference="elements",
        minutes=options.minutes,
        batch_atoms=1000,
        learning_rate=3e-3,
        loss="mae",
        warmup_steps=50,
        ema_decay=0.995,
        log_every=50,
        validation_steps=options.validation_steps,
        checkpoint_minutes=2.0,
        device=options.device,
        card={"name": f"{PAPERS[network][0]} on {KEY}", "data": "Materials Project structures", "labels": "PBE(+U)."},
        **SETTINGS[network],
    )


class Printer:
    """Prints notes and validations."""

    def note(self, text: str) -> None:
        """A line."""
        print(text, flush=True)

    def event(self, entry: Any) -> None:
        """A validation's line."""
        if entry["event"] != "train":
            print(f"{entry['step']:>7} steps {entry['minutes']:8.1f} min  MAE {entry['mae']:.4f} eV/atom", flush=True)

    def progress(self, share: float, seconds: float, step: int) -> None:
        """Nothing."""


def table(output: Path, networks: Sequence[str]) -> str:
    """Markdown table of what there is, and the learning curve of each network."""
    head = "| network | MAE here (eV/atom) | of | structures | epochs | minutes | MAE in the paper | its structures |"
    lines, curves = [head, "| --- " * 8 + "|"], []
    for network in networks:
        name, paper, n_paper, _ = PAPERS[network]
        curve = learning_curve(output / network / "validation.csv")
        model = output / network / "model" / "config.json"
        if model.is_file():
            config = json.loads(model.read_text(encoding="utf-8"))
            training = config["training"]
            mae, part, epochs, minutes = (
                config["errors"]["test"]["mae"],
                "test",
                training["epochs"],
                training["minutes"],
            )
        elif curve:
            mae, part, epochs, minutes = curve[-1]["mae"], "validation, unfinished", "-", curve[-1]["minutes"]
        else:
            continue
        numbers = f"{mae:.3f} | {part} | {N_TRAIN:,} | {epochs} | {minutes}"
        lines.append(f"| {name} | {numbers} | {paper} | {n_paper} |")
        step = -(-len(curve) // MOST_POINTS)
        points = "; ".join(f"{one['minutes']:.0f} min {one['mae']:.3f}" for one in curve[::-1][::step][::-1])
        curves.append(f"{name}, validation MAE (eV/atom) after minutes of training: {points}.")
    return "\n".join([*lines, "", *curves])


def learning_curve(path: Path) -> list[dict[str, float]]:
    """Rows of a validation table, numbers only."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="extended XYZ file")
    parser.add_argument("--output", type=Path, default=Path("runs/formation_energy"), help="folder of the runs")
    parser.add_argument("--networks", nargs="+", choices=list(PAPERS), default=["crystal_cgcnn"])
    parser.add_argument("--minutes", type=float, default=35.0, help="training time of each, minutes of wall clock")
    parser.add_argument("--validation-steps", type=int, default=150, help="steps between validations")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", type=Path, help="Markdown file; table.md in the output folder if not given")
    parser.add_argument("--table-only", action="store_true", help="train nothing, print what there is")
    options = parser.parse_args(arguments)
    if not options.table_only:
        from forcefield.tasks.finish import train_property

        for network in options.networks:
            train_property(configuration(options, network), watcher=Printer())
    text = table(options.output, options.networks)
    print(text)
    report = options.report or options.output / "table.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(f"{ABOUT}\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
