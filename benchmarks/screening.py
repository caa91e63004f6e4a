"""Bookkeeping of a screening: very many relaxations with a cheap potential, their time and the peak of the memory.

    python benchmarks/screening.py                                        # 10,000 relaxations in this process
    python benchmarks/screening.py --structures 10000 --workers 2

Argon dimers relax in a Lennard-Jones potential, a few steps each, so that what is seen is `forcefield.screen`: reading,
sending, records on disk, tables. The memory is that of this process (peak of the resident memory, Linux), after the
first tenth and at the end; were structures or results kept, it would grow with their number.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.lj import LennardJones

from forcefield import screen
from forcefield.screening import ScreeningProgress


def argon() -> LennardJones:
    """A potential for argon (eV, Å)."""
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=8.5, smooth=True)


def structures(number: int) -> Iterator[Atoms]:
    """So many different dimers."""
    for k in range(number):
        yield Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, 3.6 + 0.4 * k / number]])


def peak() -> float:
    """Peak of the resident memory of this process so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Screen, screen again, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=10_000)
    parser.add_argument("--workers", type=int, help="processes; this one only if not given")
    options = parser.parse_args()
    number, memory = options.structures, {}

    def watch(state: ScreeningProgress) -> None:
        if state.done in (number // 10, number):
            memory[state.done] = peak()

    with tempfile.TemporaryDirectory() as folder:
        task: dict[str, Any] = {"options": {"fmax": 0.005}, "calculator": argon, "output": folder}
        for name in ("first run", "again, all known"):
            start, cpu = time.perf_counter(), time.process_time()
            result = screen(structures(number), "relax", options.workers, callback=watch, **task)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            computing = sum(record["seconds"] for record in result.records())
            early, late = memory.values()
            print(
                f"{name}: {result.n_ok} of {number} ok, {result.n_known} known, {seconds:.1f} s, {cpu:.1f} s CPU here"
            )
            print(f"  in relaxations {computing:.1f} s; peak {early:.0f} MB after a tenth, {late:.0f} MB at the end")
        print(f"  {peak():.0f} MB with the tables")
        sizes = {path.name: path.stat().st_size / 1e6 for path in Path(folder).iterdir()}
        print("  " + ", ".join(f"{name} {size:.1f} MB" for name, size in sorted(sizes.items())))


if __name__ == "__main__":
    main()
