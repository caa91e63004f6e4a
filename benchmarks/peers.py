"""Other force fields on the same structures in the same run, each a process of its own with one thread, interleaved."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
from peer_environment import PEERS, interpreter

OURS, COMPILED = "forcefield", "forcefield, compiled"
WORKER = Path(__file__).with_name("peer_worker.py")
START_LIMIT = 300.0  # s until a calculator must be ready; a download that hangs ends here
CALL_LIMIT = 600.0  # s for one structure


class PeerError(RuntimeError):
    """A peer did not start, or stopped answering."""


@dataclass(frozen=True)
class PeerRow:
    """One calculator on one structure: medians over the repeats.

    Attributes:
        name: of the calculator.
        structure: of the structure.
        atoms: number of atoms.
        wall: time of a call (s).
        cpu: CPU time of a call (s).
        ratio: how many times faster ours is, by CPU time.
        compiled_ratio: the same for ours compiled, where that was timed.
    """

    name: str
    structure: str
    atoms: int
    wall: float
    cpu: float
    ratio: float
    compiled_ratio: float | None = None


class Worker:
    """A calculator in a process of its own.

    Args:
        name: shown in messages.
        python: interpreter of its environment.
        statements: Python that ends in ``calculator = ...``.
        path: import path handed on to the process, if any.

    Raises:
        PeerError: the calculator cannot be made; the message says why.
    """

    def __init__(self, name: str, python: Path, statements: str, *, path: str | None = None) -> None:
        self.name = name
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | ({"PYTHONPATH": path} if path else {})
        self._process = subprocess.Popen(
            [str(python), str(WORKER), statements],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._receive(START_LIMIT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _receive(self, limit: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.close()
            raise PeerError(f"{self.name} gave no answer within {limit:.0f} s") from None
        reply = json.loads(line) if line else {"error": f"the process ended with status {self._process.wait()}"}
        if "error" in reply:
            self.close()
            raise PeerError(f"{self.name}: {reply['error']}")
        return reply

    def time(self, atoms: ase.Atoms) -> tuple[float, float]:
        """Wall and CPU time (s) of energy, forces and stress.

        Raises:
            PeerError: it stopped, or what it computed is not finite.
        """
        request = {"numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist()}
        request["cell"] = atoms.cell.array.tolist()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has stopped, and the missing reply will say so
            print(json.dumps(request), file=self._process.stdin, flush=True)
        reply = self._receive(CALL_LIMIT)
        if not reply["finite"]:
            raise PeerError(f"{self.name} computed something that is not finite")
        return reply["wall"], reply["cpu"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def start_workers(
    names: list[str], environments: Path, statements: dict[str, str]
) -> tuple[dict[str, Worker], dict[str, str]]:
    """Start our calculator and the peers.

    Args:
        names: peers wanted.
        environments: folder of their environments.
        statements: Python that makes our calculator, by `OURS` and, if wanted, `COMPILED`.

    Returns:
        workers by name, ours first; and why each of the others was left out.
    """
    own_path = os.pathsep.join(path for path in sys.path[1:] if path)
    workers = {name: Worker(name, Path(sys.executable), code, path=own_path) for name, code in statements.items()}
    left_out = {}
    for name in names:
        python = interpreter(name, environments)
        if not python.exists():
            left_out[name] = f"not installed; run: python benchmarks/peer_environment.py {name}"
            continue
        try:
            workers[name] = Worker(name, python, PEERS[name].statements)
        except PeerError as error:
            left_out[name] = str(error)
    return workers, left_out


def compare(workers: dict[str, Worker], frames: dict[str, list[ase.Atoms]], left_out: dict[str, str]) -> list[PeerRow]:
    """Time every calculator on every frame, one after the other within each frame.

    Args:
        workers: what `start_workers` gave; one that fails is closed and taken out.
        frames: structures with new positions for each repeat, by name; the first repeat only warms up.
        left_out: gets the reason why a worker failed.

    Raises:
        PeerError: our own calculator failed.
    """
    rows = []
    for structure, repeats in frames.items():
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
        for atoms in repeats:
            for name in list(workers):
                try:
                    times[name].append(workers[name].time(atoms))
                except PeerError as error:
                    if name == OURS:
                        raise
                    left_out[name] = f"{structure}: {error}"
                    workers.pop(name).close()
        medians = {
            name: [statistics.median(column) for column in zip(*measured[1:], strict=True)]
            for name, measured in times.items()
            if name in workers
        }
        for name, (wall, cpu) in medians.items():
            ours, compiled = (medians[kind][1] if kind in medians else None for kind in (OURS, COMPILED))
            ratios = (cpu / ours, None if compiled is None else cpu / compiled)
            rows.append(PeerRow(name, structure, len(repeats[0]), wall, cpu, *ratios))
    return rows
