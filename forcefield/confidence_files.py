"""A model's confidence data on disk, beside its weights: arrays in safetensors, facts in JSON with both checksums."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from forcefield.confidence import TrainingDomain
from forcefield.models import CONFIG, ModelError

FORMAT = 1
ARRAYS_FILE, FACTS_FILE = "confidence.safetensors", "confidence.json"
STORED_TYPES = {
    "elements": np.int64,
    "centre": np.float64,
    "transform": np.float64,
    "landmarks": np.float32,
    "percentages": np.float64,
    "quantiles": np.float64,
    "coefficients": np.float64,
    "offsets": np.float64,
    "scores": np.float64,
    "errors": np.float64,
}
NUMBERS = ("floor", "cutoff")


def save_domain(folder: str | os.PathLike[str], domain: TrainingDomain, *, weights: str) -> list[Path]:
    """Write a model's confidence data into its folder; the facts come last, each file atomically.

    Args:
        folder: of the model.
        domain: what `forcefield.train.confidence.fit_domain` made.
        weights: SHA-256 of the weights it was made with.

    Returns:
        The files.

    Raises:
        OSError: a file cannot be written.
    """
    folder = Path(folder)
    arrays = {name: np.ascontiguousarray(getattr(domain, name), dtype=dtype) for name, dtype in STORED_TYPES.items()}
    content = save_arrays(arrays)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "weights_sha256": weights,
        **{name: getattr(domain, name) for name in NUMBERS},
        **domain.facts,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = [(folder / ARRAYS_FILE, content), (folder / FACTS_FILE, text.encode())]
    for path, data in files:
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        os.replace(partial, path)
    return [path for path, _ in files]


def why_no_domain(folder: str | os.PathLike[str], *, weights: str) -> str | None:
    """Say why a model has no confidence data that can be used, or None if it has.

    Args:
        folder: of the model.
        weights: SHA-256 of its weights.

    Raises:
        ModelError: the facts are damaged.
    """
    path = Path(folder, FACTS_FILE)
    if not path.is_file():
        return f"the model {Path(folder).name} comes without confidence data; make them with `forcefield confidence`"
    if _read_facts(path)["weights_sha256"] != weights:
        return f"{path} was made for other weights than those beside it; make it anew with `forcefield confidence`"
    return None


def load_domain(folder: str | os.PathLike[str]) -> TrainingDomain:
    """Read a model's confidence data.

    Raises:
        ModelError: a file is missing, damaged (the checksum does not fit), or of a newer format.
    """
    path = Path(folder, ARRAYS_FILE)
    facts = _read_facts(Path(folder, FACTS_FILE))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise ModelError(f"{path} is damaged: its SHA-256 is not the one in {FACTS_FILE}; install the model again")
    try:
        arrays = load_arrays(content)
        values: dict[str, Any] = {
            name: arrays[name].astype(np.int64 if name == "elements" else np.float64) for name in STORED_TYPES
        }
        values |= {name: float(facts[name]) for name in NUMBERS}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is not a complete file of confidence data: {error}") from error
    return TrainingDomain(**values, facts={name: value for name, value in facts.items() if name not in NUMBERS})


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, _, _ = int(facts["format"]), facts["sha256"], facts["weights_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read as facts of confidence data: {error}") from error
    if version > FORMAT:
        raise ModelError(
            f"{path} has format {version}, this version of the package reads up to {FORMAT}; upgrade the package, "
            f"or make it anew with `forcefield confidence` (the model is in {path.with_name(CONFIG)})"
        )
    return facts
