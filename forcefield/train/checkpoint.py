"""Checkpoints that survive a kill at any moment: written beside, then moved; the one before is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CHECKPOINT, PREVIOUS = "checkpoint.pt", "previous.pt"


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write atomically: the old file stays whole until the new one is complete on disk, and is then kept beside it.

    Raises:
        ValueError: it cannot be written (a full disk); what was there before is as it was.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        partial.unlink(missing_ok=True)
        kept = f"{path} of before is unharmed" if path.is_file() else "there is none from before"
        raise ValueError(
            f"the checkpoint {path} cannot be written ({error}); {kept}. Make room on the disk and resume the run"
        ) from error
    if path.is_file():
        os.replace(path, path.with_name(PREVIOUS))
    os.replace(partial, path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain containers are accepted (``weights_only``).

    Raises:
        ValueError: the file is damaged or not a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a checkpoint ({error}); start again or give another one") from error


def latest_checkpoint(folder: str | Path, tell: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run, None where there is no checkpoint at all.

    Args:
        folder: output folder of the run.
        tell: told where the newest one is damaged and the one before is taken.

    Raises:
        ValueError: no checkpoint of the folder is whole.
    """
    files = [path for path in (Path(folder, CHECKPOINT), Path(folder, PREVIOUS)) if path.is_file()]
    for number, path in enumerate(files):
        try:
            return load_checkpoint(path)
        except ValueError as error:
            if number + 1 == len(files):
                raise
            tell(f"{error}. The run goes on from {files[number + 1]}")
    return None
