"""Short training runs that differ in a few settings, one after the other, as a table.

    python benchmarks/variants.py config.yaml --steps 900 \\
        --variant "Bessel only: hyperparameters.n_radial=8 hyperparameters.n_warped=0" \\
        --variant "half of them warped: hyperparameters.n_radial=5 hyperparameters.n_warped=5" \\
        --variant "Muon: optimizer=muon"

Every run sees the same batches; its learning rate falls to zero at its end. Errors are those of the averaged weights on
the whole validation data. One run each: small differences mean nothing. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from forcefield.train.config_file import read_config
from forcefield.train.loop import Run, train
from forcefield.units import GPA

HEAD = (
    "| variant | parameters | steps | CPU minutes | energy MAE (meV/atom) | forces MAE (meV/Å) | stress MAE (GPa) |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="configuration of `forcefield train`")
    parser.add_argument("--variant", action="append", required=True, metavar="'NAME: KEY=VALUE ...'")
    parser.add_argument("--steps", type=int, default=900)
    options = parser.parse_args()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        print(HEAD, flush=True)
        for variant in options.variant:
            name, _, settings = variant.partition(":")
            print(row(name.strip(), run(options.config, settings.split(), options.steps)), flush=True)
    finally:
        torch.set_num_threads(before)


def run(config: Path, settings: list[str], steps: int) -> Run:
    """One variant, in a temporary folder."""
    with tempfile.TemporaryDirectory() as output:
        fixed = [f"steps={steps}", "minutes=null", f"output={output}", "clock=cpu", "checkpoint_minutes=1e6"]
        return train(read_config(config, [*settings, *fixed]))


def row(name: str, run: Run) -> str:
    """Line of the table."""
    assert run.result is not None
    errors = run.result["all"]
    parameters = sum(p.numel() for p in run.potential.parameters())
    means = (1e3 * errors["energy_mae"], 1e3 * errors["forces_mae"])
    figures = " | ".join([*(f"{mean:.0f}" for mean in means), f"{errors['stress_mae'] / GPA:.2f}"])
    return f"| {name} | {parameters:,} | {run.step:,} | {run.seconds / 60:.1f} | {figures} |"


if __name__ == "__main__":
    main()
