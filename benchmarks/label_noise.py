"""How noisy force labels are, from two potentials that have nothing to do with each other.

    python benchmarks/label_noise.py TEST.extxyz --predictions runs/scratch/model module:Class

Label y, prediction a and prediction b each miss the truth by an error of its own. If the three are independent, the
mean product (y - a) (y - b) is the variance of the label's error alone, whatever a and b are worth (triple collocation:
Stoffelen, J. Geophys. Res. 103, 7755 (1998), https://doi.org/10.1029/97JC03180). What both predictions lack in common,
a dependence on atoms far away for example, counts as noise here: the figure is what no potential of their kind can
learn. A prediction is multiplied by the factor that fits it to the labels best, so that one that is too soft does not
make the labels look noisy. Give a model trained on frames of the same set from random weights, and one from elsewhere.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefield.models import load_model
from forcefield.train.comparison import Comparison, compare
from forcefield.train.evaluate import predict_data

GAUSSIAN = np.sqrt(2 / np.pi)
"""Mean absolute value of a normal distribution over its root mean square."""


def main() -> None:
    """Compare and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="labelled frames that neither potential was trained on")
    parser.add_argument("--predictions", nargs=2, required=True, metavar="MODEL|MODULE:CLASS")
    choices = parser.parse_args()
    both = [in_order(compare(predict_data(engine(name), choices.data))) for name in choices.predictions]
    labels = both[0][0]
    predictions = [{kind: scaled(forces, labels[kind]) for kind, forces in found.items()} for _, found in both]
    names = " | ".join(f"error of {name}" for name in choices.predictions)
    print(f"| forces, root mean square (meV/Å) | atoms | {names} | of the labels | as mean absolute error |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    total, floors = 0, 0.0
    for kind, known in labels.items():
        first, second = (known - found[kind] for found in predictions)
        noise = float((first * second).mean())
        rms = np.sign(noise) * np.sqrt(abs(noise))
        cells = [np.sqrt((first**2).mean()), np.sqrt((second**2).mean()), rms, GAUSSIAN * max(rms, 0.0)]
        print(f"| {kind} | {len(known)} | {' | '.join(f'{1000 * cell:.0f}' for cell in cells)} |")
        total, floors = total + len(known), floors + len(known) * cells[-1]
    mean = 1000 * floors / total
    print(f"\nA potential without any error of its own would be {mean:.0f} meV/Å from these labels (MAE).")


def engine(name: str) -> Any:
    """A model of this package, or an ASE calculator by module and class."""
    if ":" not in name:
        return load_model(name).potential
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)()


Forces = dict[str, NDArray[np.float64]]


def in_order(comparison: Comparison) -> tuple[Forces, Forces]:
    """Labelled and predicted forces (atoms, 3) by kind, frames in the order of the file."""
    numbers = [int(place.rsplit("#", 1)[1]) for place in comparison.places]
    first = np.concatenate([[0], np.cumsum(comparison.n_atoms)])
    sides: tuple[Forces, Forces] = {}, {}
    for kind in sorted(set(comparison.kinds)):
        frames = sorted((k for k, one in enumerate(comparison.kinds) if one == kind), key=lambda k: numbers[k])
        atoms = np.concatenate([np.arange(first[k], first[k + 1]) for k in frames])
        for side, values in zip(sides, comparison.forces, strict=True):
            side[kind] = values[atoms]
    return sides


def scaled(prediction: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """A prediction times the factor that brings it nearest to the labels."""
    return prediction * (prediction * known).sum() / (prediction**2).sum()


if __name__ == "__main__":
    main()
