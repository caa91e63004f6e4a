"""What a run cost: time by parts, memory and rebuilds, over all processes."""

from __future__ import annotations

import sys
from typing import Any

from forcefield.lammps.attachment import Attachment

PARTS = ("network", "exchange", "neighbours", "transfer")


def gather_report(attachment: Attachment) -> dict[str, Any]:
    """Costs of a run, the same on every process; collective.

    Returns:
        processes, atoms, calls; seconds_per_step (None for a single call); seconds of each part in a step (mean over
        the processes) with "rest" for LAMMPS itself; memory_MiB of each process at its highest;
        neighbour_list_builds and exchange_plans.
    """
    comm, calls = attachment.comm, attachment.n_calls
    repeated = calls > 1
    counted = attachment.stopwatch.seconds if repeated else attachment.setup_seconds
    number = max(calls - 1, 1)
    own = {part: counted.get(part, 0.0) / number for part in PARTS}
    every = comm.allgather(own)
    seconds = {part: sum(one[part] for one in every) / comm.size for part in PARTS}
    step = attachment.seconds_per_step
    if step is not None:
        seconds["rest"] = max(step - sum(seconds.values()), 0.0)
    return {
        "model": attachment.model.name,
        "processes": comm.size,
        "atoms": int(attachment.lmp.get_natoms()),
        "calls": calls,
        "seconds_per_step": step,
        "seconds": seconds,
        "memory_MiB": comm.allgather(_memory()),
        "neighbour_list_builds": max(comm.allgather(attachment.graphs.neighbours.builds)),
        "exchange_plans": attachment.ghosts.n_plans,
    }


def describe(report: dict[str, Any]) -> list[str]:
    """The report in two lines for people."""
    total = sum(report["seconds"].values())
    parts = ", ".join(f"{part} {100 * seconds / total:.1f} %" for part, seconds in report["seconds"].items() if total)
    step = report["seconds_per_step"]
    speed = f", {step:.4g} s a step ({report['atoms'] / step:,.0f} atoms/s)" if step else ""
    return [
        f"{report['calls']} evaluations of {report['atoms']} atoms, processes: {report['processes']}{speed}",
        f"{parts or 'no run'}; memory up to {max(report['memory_MiB']):.0f} MiB a process; neighbour list built "
        f"{report['neighbour_list_builds']} times",
    ]


def _memory() -> float:
    """Highest resident memory of this process (MiB), 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
