"""Forces kept on disk as they are computed, so that an interrupted workflow does not compute them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms


class ForceStore:
    """Energies and forces of structures in a text file, one JSON line each; a line cut short by a kill is dropped.

    Args:
        path: the file; None keeps everything in memory. It belongs to one calculator and one set of options.
        resume: use what the file holds; else it is emptied.
    """

    def __init__(self, path: str | Path | None = None, *, resume: bool = True) -> None:
        self.path = None if path is None else Path(path)
        self.computed = 0  # calculations made by this object, not read from the file
        self._known: dict[str, dict[str, Any]] = {}
        if self.path is not None and self.path.exists():
            self._read(self.path) if resume else self.path.unlink()

    def _read(self, path: Path) -> None:
        whole = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if line.endswith("\n"):
                whole.append(line)
                self._known[record["structure"]] = record
        path.write_text("".join(whole), encoding="utf-8")

    def __len__(self) -> int:
        """Count the structures known."""
        return len(self._known)

    def forces(self, atoms: Atoms, calculator: Any) -> np.ndarray:
        """Give the forces (atoms, 3) in eV/Å of a structure, computed if need be.

        Raises:
            ValueError: if a force is not finite.
            OSError: if they cannot be written to the file.
        """
        key = _key(atoms)
        if key not in self._known:
            work = atoms.copy()
            work.calc = calculator
            forces = np.asarray(work.get_forces(), dtype=float)
            if not np.isfinite(forces).all():
                raise ValueError(f"{type(calculator).__name__} gave forces that are not finite for {atoms.symbols}.")
            self.computed += 1
            self._keep(key, {"forces": forces.tolist()})
        return np.asarray(self._known[key]["forces"])

    def structure(self, name: str, origin: Atoms, make: Callable[[], Atoms]) -> Atoms:
        """Give a structure made from another, such as the relaxed one, to the last digit; made if need be.

        Args:
            name: what was made.
            origin: what it was made from.
            make: makes it.

        Raises:
            OSError: if it cannot be written to the file.
        """
        key = f"{name} of {_key(origin)}"
        if key in self._known:
            kept = self._known[key]
            return Atoms(
                numbers=kept["numbers"],
                positions=kept["positions"],
                cell=kept["cell"],
                pbc=kept["pbc"],
                masses=kept["masses"],
            )
        atoms = make()
        arrays = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
        arrays["masses"] = atoms.get_masses()
        self._keep(key, {part: array.tolist() for part, array in arrays.items()})
        return atoms

    def _keep(self, key: str, record: dict[str, Any]) -> None:
        self._known[key] = {"structure": key, **record}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(self._known[key]) + "\n")


def _key(atoms: Atoms) -> str:
    """Hash a structure; positions and cell count to 1e-9 Å."""
    digest = hashlib.sha256()
    for part in (atoms.numbers, np.round(atoms.positions, 9) + 0.0, np.round(atoms.cell.array, 9) + 0.0, atoms.pbc):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:24]
