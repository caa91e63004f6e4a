"""Finished relaxations in a text file, one JSON line each, so that a run killed at any time goes on where it was.

The first line says what the file belongs to: options, model, format. Lines are appended whole and flushed; a line cut
short is dropped when the file is opened again. Structures are found by their content, not by their place in the input.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode

from forcefield.workflows.batched.outcome import BatchOutcome
from forcefield.workflows.relax_result import RelaxResult
from forcefield.workflows.symmetry import SpaceGroup

FORMAT = 1
ARRAYS = ("energy", "forces", "stress")


class RelaxStore:
    """Finished relaxations of one model and one set of options.

    Args:
        path: the file; made if needed.
        identity: what a result depends on beside the structure, as JSON knows it.

    Raises:
        ValueError: if the file belongs to other options or another model, or is no such file.
        OSError: if it cannot be read or written.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._known: dict[str, dict[str, Any]] = {}
        header = {"relax_many": FORMAT, **json.loads(json.dumps(identity))}
        lines = self._whole_lines()
        if lines:
            self._check_header(lines[0], header)
            self._known = {record["structure"]: record for record in map(json.loads, lines[1:])}
        else:
            self._append(header)

    def __len__(self) -> int:
        """Count the structures that are done."""
        return len(self._known)

    def _whole_lines(self) -> list[str]:
        """Lines that were written to their end; what a kill left of the last one is cut off."""
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(len(whole))
        return whole.decode("utf-8").splitlines()

    def _check_header(self, line: str, expected: Mapping[str, Any]) -> None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, dict) or "relax_many" not in found:
            raise ValueError(f"{self.path} holds no relaxations of `relax_many`; name another file.")
        different = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        if different:
            changes = ", ".join(f"{name} {found.get(name)} (now {expected.get(name)})" for name in different)
            raise ValueError(f"{self.path} holds relaxations with other settings: {changes}. Name another file.")

    def _append(self, record: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")

    def add(self, key: str, outcome: BatchOutcome) -> None:
        """Write a finished relaxation down.

        Raises:
            OSError: if that fails, for example because the disk is full.
        """
        record: dict[str, Any] = {"structure": key, "route": outcome.route, "error": outcome.error}
        if outcome.result is not None:
            record |= outcome.result.to_dict() | _arrays(outcome.result.atoms)
        self._known[key] = record
        self._append(record)

    def get(self, key: str, index: int, start: Atoms) -> BatchOutcome | None:
        """Give the relaxation of a structure, or None where it is not done.

        Args:
            key: of the structure.
            index: its number among the structures given.
            start: the structure, for its constraints and whatever else it carries.
        """
        record = self._known.get(key)
        if record is None:
            return None
        if record["error"] is not None:
            return BatchOutcome(index, None, record["error"], "stored")
        return BatchOutcome(index, _result(record, start), None, "stored")


def _arrays(atoms: Atoms) -> dict[str, Any]:
    computed = {name: np.asarray(atoms.calc.results[name]).tolist() for name in ARRAYS if name in atoms.calc.results}
    return {"positions": atoms.positions.tolist(), "cell": atoms.cell.array.tolist(), "computed": computed}


def _result(record: Mapping[str, Any], start: Atoms) -> RelaxResult:
    atoms = start.copy()
    atoms.cell = np.array(record["cell"])
    atoms.positions = np.array(record["positions"])
    computed = {name: np.array(value) if name != "energy" else value for name, value in record["computed"].items()}
    atoms.calc = SinglePointCalculator(atoms, **computed)
    own = {name: record[name] for name in RelaxResult.__dataclass_fields__ if name in record}
    for name in ("spacegroup_before", "spacegroup_after"):
        own[name] = None if own[name] is None else SpaceGroup(**own[name])
    for name in ("energy", "energy_per_atom", "max_force"):
        own[name] = float("nan") if own[name] is None else own[name]
    own["stress"] = None if own["stress"] is None else tuple(own["stress"])
    return RelaxResult(atoms=atoms, **own)


def structure_key(atoms: Atoms, calculator: str = "") -> str:
    """Hash of all that a relaxation depends on: cell, periodicity, arrays (positions, numbers, ...) and constraints.

    Args:
        atoms: the structure.
        calculator: names its own calculator, where it does not use that of the run.
    """
    digest = hashlib.sha256(calculator.encode())
    parts = {"cell": atoms.cell.array, "pbc": np.asarray(atoms.pbc), **atoms.arrays}
    for name, array in sorted(parts.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    digest.update(encode([constraint.todict() for constraint in atoms.constraints]).encode())
    return digest.hexdigest()[:24]
