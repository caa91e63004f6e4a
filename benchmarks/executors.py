"""What an executor costs a screening: time to the first result, and time for each structure from then on.

    OMP_NUM_THREADS=1 python benchmarks/executors.py --structures 500

The task only writes the structure as lists, one worker does it, and so what is left is the executor's own. Executors
that are not installed are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

from ase import Atoms
from ase.build import bulk

from forcefield import screen
from forcefield.screening.worker import describe_atoms


def tell_time(times: list[float]) -> Callable[[Any], None]:
    """Give a callback that notes when it was called."""
    return lambda state: times.append(time.perf_counter())


def make(name: str, stack: ExitStack) -> Any:
    """An executor with one worker, as `screen` takes it."""
    if name == "this process":
        return None
    if name == "own process":
        return 1
    if name == "dask":
        from distributed import Client, LocalCluster

        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
        client = stack.enter_context(Client(stack.enter_context(LocalCluster(**options))))
        return stack.enter_context(client.get_executor(pure=False))
    from parsl import Config, HighThroughputExecutor
    from parsl.concurrent import ParslPoolExecutor
    from parsl.providers import LocalProvider

    provider = LocalProvider(init_blocks=1, max_blocks=1)
    workers = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=1, provider=provider)
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(ParslPoolExecutor(Config(executors=[workers], run_dir=folder, usage_tracking=0)))


def structures(number: int) -> Iterator[Atoms]:
    """So many different crystals."""
    return (bulk("Cu", a=3.5 + 0.2 * k / number) for k in range(number))


def main() -> None:
    """Print one line for each executor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structures", type=int, default=500)
    number = parser.parse_args().structures
    os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    needs = {"this process": "ase", "own process": "ase", "dask": "distributed", "parsl": "parsl"}
    print("| executor | first result, s | each further, ms |\n|---|---:|---:|")
    for name in [name for name, package in needs.items() if find_spec(package)]:
        times: list[float] = []
        with ExitStack() as stack:
            output = stack.enter_context(tempfile.TemporaryDirectory())
            start = time.perf_counter()
            executor = make(name, stack)
            screen(structures(number), describe_atoms, executor, output=output, callback=tell_time(times))
        each = (times[-1] - times[0]) / (len(times) - 1)
        print(f"| {name} | {times[0] - start:.1f} | {1000 * each:.1f} |", flush=True)


if __name__ == "__main__":
    main()
