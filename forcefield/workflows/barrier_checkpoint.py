"""A search for a barrier kept on disk step by step, so that it goes on after a kill as if there had been none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import FIRE

from forcefield.workflows.outcome import write_whole

CONTINUED = ("steps",)  # options that a resumed search may change


class SearchCheckpoint:
    """Where a search for a barrier is, in a JSON file that is replaced as a whole at every step.

    Args:
        path: the file.
        resume: go on from the file, if there is one; else it is removed.
        about: what else two searches must have in common for the one to go on from the other, such as the calculator.
    """

    def __init__(self, path: str | Path, *, resume: bool = True, about: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.about = dict(about or {})
        self._state: dict[str, Any] = {}
        if not resume:
            self.path.unlink(missing_ok=True)

    def take_up(self, structures: Mapping[str, Atoms], options: Mapping[str, Any]) -> None:
        """Read what an earlier search of the same kind left.

        Args:
            structures: what the search starts from, each with its name.
            options: of the search; the number of steps may differ.

        Raises:
            ValueError: if the file is damaged, or belongs to other structures, options or another calculator.
        """
        settings = {name: value for name, value in options.items() if name not in CONTINUED}
        hashes = {name: _hash(atoms) for name, atoms in structures.items()}
        identity = {**self.about, **hashes, **settings}
        if not self.path.exists():
            self._state = {"identity": identity}
            return
        try:
            self._state = json.loads(self.path.read_text(encoding="utf-8"))
            before = self._state["identity"]
        except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}); remove it to begin anew.") from error
        if before != identity:
            names = sorted(set(before) | set(identity))
            changed = [name for name in names if before.get(name) != identity.get(name)]
            raise ValueError(
                f"{self.path} belongs to another search: {', '.join(changed)} differ. Give the structures and options "
                "of that one, or begin anew without resuming."
            )

    def __getitem__(self, part: str) -> Any:
        """Give a part kept earlier ("ends" and "band", or "dimer"), or None."""
        return self._state.get(part)

    def keep(self, part: str, content: Mapping[str, Any]) -> None:
        """Keep a part.

        Raises:
            OSError: if it cannot be written.
        """
        self._state[part] = dict(content)
        write_whole(self.path, json.dumps(self._state))


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """Give what FIRE remembers of the steps so far; of another optimizer, nothing."""
    if not isinstance(optimizer, FIRE):
        return {}
    velocity = getattr(optimizer, _velocity(optimizer))
    kept = {"dt": float(optimizer.dt), "a": float(optimizer.a), "Nsteps": int(optimizer.Nsteps)}
    return {**kept, "velocity": None if velocity is None else np.asarray(velocity).tolist()}


def restore_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Set what `optimizer_state` gave."""
    for name in ("dt", "a", "Nsteps"):
        if name in state:
            setattr(optimizer, name, state[name])
    if state.get("velocity") is not None:
        setattr(optimizer, _velocity(optimizer), np.array(state["velocity"]))


def _velocity(optimizer: FIRE) -> str:
    """Name the attribute, which was `v` up to ASE 3.28."""
    return "vel" if hasattr(optimizer, "vel") else "v"


def _hash(atoms: Atoms) -> str:
    digest = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(repr([constraint.todict() for constraint in atoms.constraints]).encode())
    return digest.hexdigest()[:24]
