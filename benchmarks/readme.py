"""Fill the marked places of README.md with what the example prints and what the benchmarks have measured.

python benchmarks/lattice_parameters.py --output docs/lattice_parameters.md docs/lattice_parameters.json
python benchmarks/lattice_plot.py docs/lattice_parameters.json docs/images/lattice_parameters.png
python benchmarks/calculator.py --profile --peers chgnet,sevennet --output docs/speed.md --json docs/speed.json
python benchmarks/readme.py
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

from forcefield.models import list_models

ROOT = Path(__file__).resolve().parents[1]
GPA = 160.21766


def main() -> None:
    """Rewrite README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert example is not None
    parts = {
        "output": f"prints\n\n```text\n{output_of(example.group(1))}```",
        "picture": "![Relaxed lattice parameters against experiment](docs/images/lattice_parameters.png)",
        "accuracy": accuracy(),
        "speed": speed(),
    }
    for name, content in parts.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda found, new=content: f"{found[1]}{new}\n{found[2]}", text, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


def output_of(code: str) -> str:
    """What a piece of code prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    return printed.getvalue()


def accuracy() -> str:
    """Errors of the default model, and the shares of lattice parameters that come out right."""
    model = list_models()[0]
    errors = model["validation"]["errors"]["all"]
    summary = json.loads((ROOT / "docs" / "lattice_parameters.json").read_text(encoding="utf-8"))["summary"]
    training = model["training"]
    minutes = training["minutes"] + training.get("minutes_before", 0)
    where = f", the last {training['minutes']:.0f} on {training['hardware']}"
    return "\n".join(
        [
            f"`{model['name']}`: {model['parameters']:,} parameters, {minutes:.0f} minutes of training{where}. "
            f"Errors against its labels on {errors['frames']:.0f} frames of materials it has "
            "not seen (the card has them by kind of frame):",
            "",
            "| | mean absolute | root mean square | median |",
            "| --- | --- | --- | --- |",
            error_row("energy (meV/atom)", errors, "energy", 1000, 0),
            error_row("forces (meV/Å, component)", errors, "forces", 1000, 0),
            error_row("stress (GPa, component)", errors, "stress", GPA, 2),
            "",
            *lattice(summary),
        ]
    )


def error_row(label: str, errors: dict[str, float], name: str, factor: float, digits: int) -> str:
    """One line of the table of errors."""
    values = [f"{errors[f'{name}_{kind}'] * factor:.{digits}f}" for kind in ("mae", "rmse", "median")]
    return f"| {label} | {' | '.join(values)} |"


def lattice(summary: dict[str, Any]) -> list[str]:
    """Sentences on the lattice parameters."""
    number = summary["crystals"]
    share = {limit: f"{summary[f'within_{limit}_percent']} of {number}" for limit in (5, 2)}
    return [
        f"{number} crystals relaxed from their measured structure ([table](docs/lattice_parameters.md), "
        f"`benchmarks/lattice_parameters.py`): a, b and c all within 5 % of experiment for {share[5]}, within 2 % for "
        f"{share[2]}; mean absolute error {summary['mean_absolute_error_percent']:.1f} %.",
    ]


def speed() -> str:
    """Atoms per second of the calculator, and ratios to peers of the same run."""
    figures = json.loads((ROOT / "docs" / "speed.json").read_text(encoding="utf-8"))
    machine = figures["machine"]
    lines = [
        f"Energy, forces and stress through ASE, one thread of {machine['processor']}, float32, processor time "
        "([all figures](docs/speed.md), `benchmarks/calculator.py`):",
        "",
        "| structure | ms per call | atoms/s | memory (kB/atom) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for call in figures["calls"]:
        memory = "-" if call["memory"] is None else f"{call['memory']:.0f}"
        rate = call["atoms"] / call["cpu"]
        name = call["structure"] + (", compiled" if "compiled" in call["device"] else "")
        lines.append(f"| {name} | {1000 * call['cpu']:.1f} | {rate:,.0f} | {memory} |")
    peers = [peer for peer in figures["peers"] if not peer["name"].startswith("forcefield")]
    lines += ["", *map(_ratio_line, peers)]
    fresh, dynamics = figures["fresh process"], figures["dynamics"]
    lines += [
        f"- a fresh process: {fresh['whole process']:.1f} s from start to the first result",
        f"- molecular dynamics, {dynamics['atoms']} atoms: {1000 * dynamics['cpu']:.0f} ms a step, of which the "
        f"neighbour list {100 * dynamics['list_share']:.1f} %",
    ]
    return "\n".join(lines)


def _ratio_line(peer: dict[str, Any]) -> str:
    compiled = peer.get("compiled_ratio")
    more = "" if compiled is None else f"; compiled {compiled:.1f} times"
    return f"- {peer['ratio']:.1f} times as fast as {peer['name']} ({peer['structure']}{more})"


if __name__ == "__main__":
    main()
