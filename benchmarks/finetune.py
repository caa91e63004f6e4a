"""Fine-tune a model on real DFT data and measure it on frames that it never saw.

    python benchmarks/finetune.py DATA.extxyz --elements Si Li --output runs/finetune --json docs/finetune.json

DATA is the mlearn set (Zuo et al., J. Phys. Chem. A 124, 731 (2020), https://doi.org/10.1021/acs.jpca.9b08723; VASP,
PBE) as extended XYZ with ``element``, ``split`` (train or test), ``group`` and ``description`` of each frame. For each
element the model is fine-tuned on the train frames, of which the last ones of each kind are set aside to decide when to
stop; the test frames are looked at once, before and after. In most frames of the extended XYZ at hand the stress
components yz and xz have changed places (`forcefield evaluate` says so); they are put right first (`prepared`).
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread, write

from forcefield import GNNCalculator
from forcefield.cli.train import ProgressBar
from forcefield.models import load_model
from forcefield.train.breakdown import errors
from forcefield.train.comparison import compare
from forcefield.train.config import Phase
from forcefield.train.evaluate import predict_data
from forcefield.train.finetune import FinetuneResult, finetune
from forcefield.train.finetune_options import FinetuneOptions
from forcefield.train.finetune_prepare import BEST, START, WORSE
from forcefield.workflows.elastic import elastic_constants

MELTING_POINT = {"Li": 454, "Si": 1687, "Ni": 1728, "Cu": 1358, "Ge": 1211, "Mo": 2896}
"""K."""
LABELS = "VASP with PBE, 520 eV; mlearn data set (Zuo et al., https://doi.org/10.1021/acs.jpca.9b08723)"


def main() -> None:
    """Fine-tune for each element and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--elements", nargs="+", default=["Si", "Li"])
    parser.add_argument("--model", default="default")
    parser.add_argument("--output", type=Path, required=True, help="folder for the runs; made anew")
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time of the training for each element")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--replay-share", type=float, default=0.3)
    parser.add_argument("--no-replay", action="store_true")
    parser.add_argument("--slots", type=int, default=4000)
    parser.add_argument("--shared-rate", type=float, default=1.0, help="for what all elements share")
    parser.add_argument("--freeze", nargs="*", default=[], metavar="PATTERN", help="parameters that stay as they are")
    parser.add_argument("--energy-weight", type=float, default=10.0, help="of the loss; forces have 10")
    parser.add_argument("--compile", action="store_true", help="let PyTorch compile the network")
    parser.add_argument("--base-validation", type=Path)
    parser.add_argument("--elastic", type=Path, metavar="TENSORS", help="extended XYZ with elastic_tensor (GPa)")
    parser.add_argument("--json", type=Path, help="write the results here too")
    choices = parser.parse_args()
    options = FinetuneOptions(
        **{"minutes": choices.minutes, "learning_rate": choices.learning_rate, "slots": choices.slots},
        **{"replay_share": choices.replay_share, "no_replay": choices.no_replay, "device": "cpu", "clock": "cpu"},
        **{"base_validation": choices.base_validation, "labels": LABELS, "compile": choices.compile},
        **{
            "shared_rate": choices.shared_rate,
            "freeze": tuple(choices.freeze),
            "weights": Phase(energy=choices.energy_weight),
        },
    )
    results = {}
    for element in choices.elements:
        results[element] = one_element(choices, element, options)
        print(markdown(element, results[element]), flush=True)
    if choices.json is not None:
        choices.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def one_element(choices: argparse.Namespace, element: str, options: FinetuneOptions) -> dict[str, Any]:
    """Fine-tune on one element's train frames; errors on its test frames before and after."""
    folder = choices.output / element
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split in ("train", "test"):
        frames = [prepared(atoms) for atoms in iread(choices.data, ":") if is_wanted(atoms, element, split)]
        if not frames:
            raise SystemExit(f"{choices.data} has no {split} frame of {element}")
        files[split] = folder / f"{split}.extxyz"
        write(files[split], frames)
    with ProgressBar() as bar:
        result = finetune(choices.model, [files["train"]], output=folder, options=options, watcher=bar, restart=True)
    states = models(choices.model, folder)
    return {
        "test": {name: test_errors(model, files["test"]) for name, model in states.items()},
        "elastic": None if choices.elastic is None else elasticity(choices.elastic, element, states),
        "frames": json.loads((folder / "prepared.json").read_text(encoding="utf-8"))["training"]["frames"],
        "test_frames": sum(1 for _ in iread(files["test"], ":")),
        **summary(result),
    }


def is_wanted(atoms: Atoms, element: str, split: str) -> bool:
    """Whether a frame belongs to an element and a split."""
    return atoms.info.get("element") == element and atoms.info.get("split") == split


def prepared(atoms: Atoms) -> Atoms:
    """A frame with its kind, for the division into series and the errors of each, and its stress in ASE's order."""
    element, group = atoms.info["element"], str(atoms.info["group"])
    atoms.info["kind"] = kind_of(element, group, str(atoms.info["description"]))
    if not (element == "Li" or (group == "Elastic" and element in {"Si", "Ge"})):
        results = atoms.calc.results
        results["stress"] = results["stress"][[0, 1, 2, 4, 3, 5]]
    return atoms


def kind_of(element: str, group: str, description: str) -> str:
    """Group and, where it is dynamics of the perfect crystal, temperature in units of the melting point."""
    found = re.search(r"at (\d+) K", description)
    if group != "AIMD-NVT" or found is None:
        return group
    return f"{group} {int(found[1]) / MELTING_POINT[element]:.1f} T_m"


def models(base: str, folder: Path) -> dict[str, str]:
    """The states of the model that are compared."""
    end = folder / (BEST if (folder / BEST).is_dir() else WORSE)
    return {"base model": base, "element energies refitted": str(folder / START), "fine-tuned": str(end)}


def test_errors(model: str, path: Path) -> dict[str, Any]:
    """Errors of a model on a file: energies per atom (eV), forces (eV/Å), stress (GPa); forces by kind, too."""
    found = errors(compare(predict_data(load_model(model).potential, path)))
    by_kind = {kind: {"frames": entry["frames"], **entry["forces"]} for kind, entry in found["by_kind"].items()}
    return {**{name: value for name, value in found["all"].items() if isinstance(value, dict)}, "by_kind": by_kind}


def elasticity(path: Path, element: str, states: dict[str, str]) -> dict[str, list[float]] | None:
    """C11, C12 and C44 (GPa) of an element's cubic crystal by DFT and by each model; None where there is none."""
    for atoms in iread(path, ":"):
        tensor = np.asarray(atoms.info["elastic_tensor"])
        if set(atoms.get_chemical_symbols()) == {element} and np.ptp(np.diag(tensor)[:3]) < 0.1:
            break
    else:
        return None
    crystal = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    tensors = {"DFT (Materials Project)": tensor}
    for name, model in states.items():
        tensors[name] = elastic_constants(crystal, GNNCalculator(model, dtype="float64")).tensor
    return {name: [float(c[0, 0]), float(c[0, 1]), float(c[3, 3])] for name, c in tensors.items()}


def summary(result: FinetuneResult) -> dict[str, Any]:
    """What a run says of itself."""
    base = [None if stage.base is None else stage.base["all"] for stage in result.stages[1:]]
    return {
        **{"better": result.better, "reason": result.reason, "forgetting_percent": result.forgetting},
        **{"steps": result.steps, "minutes": result.seconds / 60, "shift": result.shift, "base_validation": base},
    }


def force_table(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Lines of the table of force errors by kind of frame, and of crystals and melts together."""
    lines = [
        "",
        "| forces by kind of frame, MAE (meV/Å) | frames | base model | fine-tuned | factor |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    groups = {kind: [kind] for kind in before}
    groups["crystals below T_m and strained"] = [kind for kind in before if kind == "Elastic" or temperature(kind) < 1]
    groups["dynamics above T_m"] = [kind for kind in before if 1 <= temperature(kind) < np.inf]
    for name, kinds in groups.items():
        weights = [before[kind]["count"] for kind in kinds]
        one, other = (1000 * np.average([e[kind]["mae"] for kind in kinds], weights=weights) for e in (before, after))
        frames = sum(before[kind]["frames"] for kind in kinds)
        shown = name if len(kinds) == 1 else f"**{name}**"
        errors = f"{one:.3g} | {other:.3g} | {one / other:.1f}" if one > 0.01 else "0 | 0 | -"  # zero by symmetry
        lines.append(f"| {shown} | {frames} | {errors} |")
    return lines


def temperature(kind: str) -> float:
    """In units of the melting point; infinite where a kind has none."""
    found = re.search(r"([\d.]+) T_m", kind)
    return float(found[1]) if found else np.inf


def markdown(element: str, result: dict[str, Any]) -> str:
    """The tables of one element."""
    lines = [
        f"### {element}: {result['frames']} frames, {result['steps']} steps in {result['minutes']:.1f} minutes",
        "",
        f"| {result['test_frames']} test frames, MAE / RMSE | energy (meV/atom) | forces (meV/Å) | stress (GPa) |",
        "| --- | --- | --- | --- |",
    ]
    factors = {"energy": 1000, "forces": 1000, "stress": 1}
    for name, found in result["test"].items():
        cells = [f"{found[p]['mae'] * f:.3g} / {found[p]['rmse'] * f:.3g}" for p, f in factors.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    before, after = result["test"]["element energies refitted"], result["test"]["fine-tuned"]
    cells = [f"{before[p]['mae'] / after[p]['mae']:.1f} / {before[p]['rmse'] / after[p]['rmse']:.1f}" for p in factors]
    lines.append(f"| smaller by a factor of | {' | '.join(cells)} |")
    lines += force_table(before["by_kind"], after["by_kind"])
    if result["forgetting_percent"] is not None:
        lines += [
            "",
            "| base validation, MAE | energy (meV/atom) | forces (meV/Å) | stress (GPa) |",
            "| --- | --- | --- | --- |",
        ]
        units = {"energy": 1000, "forces": 1000, "stress": 160.21766}
        for name, found in zip(("before", "after"), result["base_validation"], strict=True):
            cells = [f"{found[p + '_mae'] * f:.4g}" for p, f in units.items()]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        changes = [f"{result['forgetting_percent'][p]:+.1f} %" for p in units]
        lines.append(f"| forgetting | {' | '.join(changes)} |")
    if result["elastic"] is not None:
        lines += ["", "| elastic constants (GPa) | C11 | C12 | C44 |", "| --- | --- | --- | --- |"]
        lines += [f"| {name} | {' | '.join(f'{c:.0f}' for c in cells)} |" for name, cells in result["elastic"].items()]
    verdict = "better" if result["better"] else f"not better: {result['reason']}"
    return "\n".join([*lines, "", f"Verdict on the validation part: {verdict}.", ""])


if __name__ == "__main__":
    main()
