"""One folder a structure: what it belongs to, what is done, what an interrupted run left in it.

`OUTPUT/NAME/result.json` is written last, so its presence means that the structure is done. `--resume` then takes it
from there if structure, options and calculator are the same, and hands the workflow what an interrupted run left in the
folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forcefield.workflows.force_store import ForceStore

RESULT = "result.json"
STATE = "state.json"  # what an unfinished folder belongs to
FORCES = "forces.jsonl"  # forces and structures computed so far


@dataclass(frozen=True)
class StructureFolder:
    """The folder of one structure.

    Attributes:
        path: the folder.
        identity: command, options, calculator and a hash of the structure; two runs of the same identity give the same.
        resumed: whether files of an interrupted run of the same identity may be used.
    """

    path: Path
    identity: Mapping[str, Any]
    resumed: bool

    def finished_record(self) -> dict[str, Any] | None:
        """Give the record of an earlier run of the same identity, or None."""
        record = read_json(self.path / RESULT)
        return record if self.resumed and record is not None and record.get("identity") == self.identity else None


def open_folder(path: Path, identity: Mapping[str, Any], *, resume: bool) -> StructureFolder:
    """Make or enter the folder of a structure.

    Raises:
        ValueError: if it cannot be written to, or holds results of another command.
    """
    from forcefield.cli.io import prepare_folder
    from forcefield.workflows.outcome import write_result

    prepare_folder(path)
    earlier = read_json(path / RESULT) or {}
    before = earlier.get("identity") or read_json(path / STATE) or {}
    if before.get("command") not in (None, identity["command"]):
        raise ValueError(
            f"{path} holds results of `forcefield {before['command']}`; choose another --output-dir or remove them."
        )
    same = before == identity
    if not (resume and same):
        for name in (RESULT, *earlier.get("files", ())):
            (path / Path(name).name).unlink(missing_ok=True)
        write_result(path / STATE, identity)
    return StructureFolder(path, identity, resume and same)


def reopen_shorter_runs(
    root: Path, command: str, options: Mapping[str, Any], goes_on: Callable[[Mapping[str, Any]], bool]
) -> None:
    """Let runs of fewer steps, finished or interrupted, count as unfinished ones, so that `--resume` makes them longer.

    Args:
        root: output folder of the command.
        command: its name.
        options: of the new run; a run that differs in more than "steps" stays as it is.
        goes_on: tells from the record of a finished run whether more steps make sense.
    """
    from forcefield.workflows.outcome import write_result

    for path in (*root.glob(f"*/{RESULT}"), *root.glob(f"*/{STATE}")):
        record = read_json(path) or {}
        finished = path.name == RESULT
        identity = (record.get("identity") or {}) if finished else record
        before = identity.get("options") or {}
        if identity.get("command") != command or {**before, "steps": options["steps"]} != options:
            continue
        if before["steps"] < options["steps"] and (not finished or goes_on(record)):
            write_result(path.with_name(STATE), {**identity, "options": dict(options)})
            if finished:
                path.unlink()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is none or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def open_store(folder: StructureFolder) -> ForceStore:
    """Open the file in which a workflow keeps its forces, emptied unless the run is resumed."""
    from forcefield.workflows.force_store import ForceStore

    return ForceStore(folder.path / FORCES, resume=folder.resumed)


def structure_hash(atoms: Any) -> str:
    """Hash numbers, positions, cell, periodicity, masses and constraints of a structure."""
    import numpy as np

    digest = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses()):
        digest.update(np.ascontiguousarray(part).tobytes())
    if atoms.constraints:
        digest.update(repr([constraint.todict() for constraint in atoms.constraints]).encode())
    return digest.hexdigest()[:16]


def finish_folder(folder: StructureFolder, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the record of a computed structure, which marks it as done, and remove what only an unfinished one needs.

    Returns:
        The record with the folder's identity and the names of the other files.
    """
    from forcefield.workflows.outcome import plain, write_result

    own = (RESULT, STATE, FORCES)
    files = sorted(path.name for path in folder.path.iterdir() if path.is_file() and path.name not in own)
    whole = {**plain(record), "identity": dict(folder.identity), "files": files}
    write_result(folder.path / RESULT, whole)
    for name in (STATE, FORCES):
        (folder.path / name).unlink(missing_ok=True)
    return whole
