"""Tables of `engines.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
HEAD = (
    "| engine | atoms | {} | atoms/s | MiB a process | network | exchange | lists | transfer | LAMMPS | driver/network "
)
HEAD += "| lists built |"
RULE = "|---" + "|---:" * 11 + "|"
PARTS = ("network", "exchange", "neighbours", "transfer", "rest")


def page(rows: Sequence[Row], machine: dict[str, Any], ceiling: dict[str, Any] | None, command: str) -> str:
    """The whole page in Markdown."""
    lines = ["# Engines: time and memory", "", "Made by", "", "```bash", command, "```", "", *described(machine), ""]
    steps = [row for row in rows if row["steps"]]
    points = [row for row in rows if not row["steps"]]
    if steps:
        lines += ["Molecular dynamics at constant energy, 600 K, steps of 2 fs:", "", *table(steps), ""]
    if points:
        lines += ["A single evaluation, neighbour search and first use of memory included:", "", *table(points), ""]
    lines += ratios(rows, ceiling)
    return "\n".join([*lines, "", *NOTES]) + "\n"


NOTES = [
    "Shares are means over the processes. *network* is energies, forces and virial; *exchange* is features,",
    "gradients and sums between processes, waiting for the slower one included; *lists* is neighbour list and graph;",
    "*transfer* is arrays from and to LAMMPS; *LAMMPS* is its own work (integration, reneighbouring).",
    "*driver/network* is all that is not network, by the network's time. *lists built* is after the first, which a",
    "single evaluation contains: a few steps may need none, long runs one in some ten steps. Memory is the highest",
    "resident one, of which Python, PyTorch and LAMMPS take some 300 MiB.",
]


def described(machine: dict[str, Any]) -> list[str]:
    """What it ran on."""
    return [
        f"on {machine['processor']}, {machine['cores']} cores, load {machine['load_before']:.1f} before and "
        f"{machine['load_after']:.1f} after (the benchmark itself is up to {machine['busy']}), one PyTorch thread a "
        f"process; torch {machine['torch']}, ASE {machine['ase']}, LAMMPS {machine['lammps']}, torch-sim "
        f"{machine['torch_sim']}; model {machine['model']}, {machine['dtype']}; {machine['minutes']:.1f} minutes."
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """One line for each engine and size."""
    lines = [HEAD.format("s a step" if rows[0]["steps"] else "s"), RULE]
    for row in rows:
        seconds, memory = row["seconds"], " + ".join(f"{one:,.0f}" for one in row["memory_MiB"])
        cells = [row["engine"], f"{row['atoms']:,}", f"{seconds:.3g}", f"{row['atoms'] / seconds:,.0f}", memory]
        lines.append("| " + " | ".join([*cells, *_shares(row)]) + " |")
    return lines


def _shares(row: Row) -> list[str]:
    if "parts" not in row:
        return ["-"] * 7
    parts = {part: row["parts"].get(part, 0.0) for part in PARTS}
    total = sum(parts.values())
    return [
        *(f"{100 * parts[part] / total:.1f} %" for part in PARTS),
        f"{100 * overhead(row):.1f} %",
        str(row["builds"]),
    ]


def overhead(row: Row) -> float:
    """All that is not network, relative to the network's time."""
    return (sum(row["parts"].values()) - row["parts"]["network"]) / row["parts"]["network"]


def costs(rows: Sequence[Row], ceiling: dict[str, Any] | None) -> str:
    """A short table for the page on routes: seconds of each engine and size, and the ratios."""
    cases = sorted({(row["atoms"], row["steps"]) for row in rows}, key=lambda case: (case[1] == 0, case[0]))
    found = {(row["engine"], row["atoms"], row["steps"]): row for row in rows}
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    heads = [f"{size:,} atoms, {'s a step' if steps else 's once'}" for size, steps in cases]
    lines = ["| engine | " + " | ".join(heads) + " | MiB a process |", "|---" + "|---:" * (len(cases) + 1) + "|"]
    for engine in engines:
        mine = [found.get((engine, *case)) for case in cases]
        cells = ["-" if row is None else f"{row['seconds']:.3g}" for row in mine]
        most = max(max(row["memory_MiB"]) for row in mine if row is not None)
        lines.append("| " + " | ".join([engine, *cells, f"{most:,.0f}"]) + " |")
    return "\n".join(
        [*lines, "", *ratios(rows, ceiling), "", "All of it: [engines: time and memory](engines_speed.md)."]
    )


def ratios(rows: Sequence[Row], ceiling: dict[str, Any] | None) -> list[str]:
    """What more processes and other engines bring, one line for each size."""
    lines = []
    for size, steps in sorted({(row["atoms"], row["steps"]) for row in rows}):
        speeds = {row["engine"]: 1 / row["seconds"] for row in rows if (row["atoms"], row["steps"]) == (size, steps)}
        one = speeds.get("LAMMPS, np 1")
        if one is None:
            continue
        parts = [f"{name} {speed / one:.2f}" for name, speed in speeds.items() if name != "LAMMPS, np 1"]
        what = "a step" if steps else "an evaluation"
        lines.append(f"- Speed of {what} of {size:,} atoms, relative to LAMMPS with one process: {', '.join(parts)}.")
    if ceiling is not None:
        lines.append(
            f"- What the machine allows: two independent runs of ASE with {ceiling['atoms']:,} atoms at the same time "
            f"do {ceiling['ratio']:.2f} times the work of one alone."
        )
    return lines
