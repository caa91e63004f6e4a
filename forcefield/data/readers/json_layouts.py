"""JSON of the Materials Project world, streamed: the MPtrj layout and lists of ComputedStructureEntry.

MPtrj: https://doi.org/10.6084/m9.figshare.23713842, described in https://doi.org/10.1038/s42256-023-00716-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from forcefield.data.frames import Frame
from forcefield.data.labels import ReadOptions, to_voigt, unit_factor
from forcefield.data.readers.entry import Entry
from forcefield.data.readers.opening import open_binary

ENERGIES = ("uncorrected_total_energy", "corrected_total_energy", "energy")
VASP_STRESS = "-kbar"
ASE_ROW_KEYS = ("calculator", "calculator_parameters", "cell", "constraints", "ctime", "numbers", "unique_id", "user")
"""Keys of which one comes first in a row of an ASE database; the rows have numbers for names."""


def streaming_json() -> Any:
    """The module ijson.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import ijson
    except ImportError as error:
        raise ImportError('Reading JSON as a stream needs ijson: pip install "gnn-forcefield[data]"') from error
    return ijson


def layout_of_json(path: Path) -> str:
    """Tell ``mptrj``, ``entries`` and ``ase-db`` apart by the first keys.

    Raises:
        ValueError: it is none of them, or no JSON.
    """
    ijson = streaming_json()
    try:
        with open_binary(path) as file:
            events = list(islice(ijson.basic_parse(file, use_float=True), 8))
    except ijson.JSONError as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    keys = [value for kind, value in events if kind == "map_key"]
    kinds = [kind for kind, _ in events]
    if kinds[:1] == ["start_array"] or "entries" in keys[:1] or {"@module", "energy", "structure"} & set(keys[:1]):
        return "entries"
    if kinds[:3] == ["start_map", "map_key", "start_map"] and len(keys) > 1:
        if str(keys[0]).isdigit() and keys[1] in ASE_ROW_KEYS:
            return "ase-db"
        if kinds[3:5] == ["map_key", "start_map"]:
            return "mptrj"
    raise ValueError(
        f"{path} is JSON in no known layout (it starts with the keys {keys[:3]}); known are MPtrj's "
        "{material: {frame: {structure, energy, ...}}}, a list of ComputedStructureEntry, and ASE databases"
    )


def read_mptrj(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Frames of the MPtrj layout, material by material; stress comes in kbar with VASP's sign.

    Args:
        path: the JSON file, compressed or not.
        options: `ReadOptions.energy` is one of `ENERGIES`; ``keys`` and ``units`` go before.

    Raises:
        ValueError: there is no such energy.
    """
    if options.energy not in ENERGIES:
        raise ValueError(f"energy is {options.energy!r}, but must be one of {', '.join(ENERGIES)}")
    ijson = streaming_json()
    with open_binary(path, options.count_bytes) as file:
        place = "its start"
        try:
            for material, frames in ijson.kvitems(file, "", use_float=True):
                for name, content in frames.items():
                    place = f"{material}/{name}"
                    yield _guarded(place, content, lambda c, m=material: _mptrj_frame(c, m, options))
        except ijson.JSONError as error:
            yield Entry(f"behind {place}", None, f"the JSON is broken or ends too early ({error})")


def _mptrj_frame(content: dict[str, Any], material: str, options: ReadOptions) -> Frame:
    keys = {"energy": options.energy, "forces": "force", "stress": "stress", "magmoms": "magmom", **options.keys}
    units = {"stress": VASP_STRESS, **options.units}
    return _frame_with_labels(content, content, keys, units, material, options)


def read_entries(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Structures and uncorrected energies of pymatgen's ComputedStructureEntry.

    Args:
        path: JSON, compressed or not: a list, ``{"entries": [...]}``, or a single entry.
        options: ``keys`` may name forces and stress among an entry's data (then eV/Å, and kbar with VASP's sign).
    """
    ijson = streaming_json()
    index = 0
    with open_binary(path, options.count_bytes) as file:
        try:
            for content in ijson.items(file, _prefix(ijson, path), use_float=True):
                yield _guarded(f"#{index}", content, lambda c: _entry_frame(c, options))
                index += 1
        except ijson.JSONError as error:
            yield Entry(f"#{index}", None, f"the JSON is broken or ends too early ({error})")


def _prefix(ijson: Any, path: Path) -> str:
    """Where the entries of a file are, in ijson's notation."""
    with open_binary(path) as file:
        (first, _), (_, key) = islice(ijson.basic_parse(file, use_float=True), 2)
    if first == "start_array":
        return "item"
    return "entries.item" if key == "entries" else ""


def _entry_frame(content: dict[str, Any], options: ReadOptions) -> Frame:
    if "structure" not in content or "energy" not in content:
        raise ValueError(f"no ComputedStructureEntry: it has the keys {', '.join(list(content)[:8])}")
    data = content.get("data") or {}
    own = [
        key
        for key in ("forces", "force", "stress")
        if content.get(key) is not None and key not in options.keys.values()
    ]
    if own:
        raise ValueError(
            f"an entry with {' and '.join(own)} is no ComputedStructureEntry; name the keys and the unit of the "
            "stress: --keys forces=forces --keys stress=stress --units stress=-kbar (VASP's sign)"
        )
    material = data.get("material_id") or content.get("entry_id") or ""
    keys = {"energy": "energy", **options.keys}
    units = {"stress": VASP_STRESS, **options.units}
    return _frame_with_labels(content, {**data, **content}, keys, units, str(material), options)


def _frame_with_labels(
    content: dict[str, Any],
    values: dict[str, Any],
    keys: dict[str, str],
    units: dict[str, str],
    material: str,
    options: ReadOptions,
) -> Frame:
    numbers, positions, cell, pbc = parse_structure(content["structure"])
    labels: dict[str, Any] = {"material": str(values.get(keys.get("material", ""), material))}
    if values.get(keys.get("kind", "")) is not None:
        labels["kind"] = str(values[keys["kind"]])
    for label in ("energy", "forces", "stress", "magmoms", "atomic_energies"):
        value = values.get(keys.get(label, ""))
        if value is None:
            continue
        factor = unit_factor(label, units[label]) if label in units else 1.0
        number = np.array(value, dtype=float) * factor
        labels[label] = to_voigt(number, options.stress_order) if label == "stress" else number
        options.note(label, keys[label], units.get(label))
    if "energy" in labels:
        labels["energy"] = float(labels["energy"])
    return Frame(numbers, positions, cell, pbc, **labels)


def _guarded(place: str, content: Any, build: Any) -> Entry:
    try:
        return Entry(place, build(content))
    except (KeyError, TypeError, AttributeError, IndexError) as error:  # the JSON lacks something, or has another type
        return Entry(place, None, f"it lacks something or has it in another form ({type(error).__name__}: {error})")
    except ValueError as error:
        return Entry(place, None, str(error))


def parse_structure(
    structure: dict[str, Any],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Atomic numbers, positions (Å), cell (Å) and periodicity of a pymatgen Structure's dictionary.

    Raises:
        ValueError: a site is partially occupied or of an unknown element.
    """
    lattice = structure["lattice"]
    cell = np.array(lattice["matrix"], dtype=float)
    numbers, fractional = [], []
    for site in structure["sites"]:
        species = site["species"]
        if len(species) != 1 or abs(float(species[0].get("occu", 1)) - 1) > 1e-6:
            raise ValueError("a site is partially occupied; make an ordered structure first")
        number = atomic_numbers.get(species[0]["element"], 0)
        if not number:
            raise ValueError(f"unknown element {species[0]['element']!r}")
        numbers.append(number)
        fractional.append(site["abc"])
    pbc = np.array(lattice.get("pbc", (True, True, True)), dtype=bool)
    return np.array(numbers, dtype=np.int64), np.array(fractional, dtype=float).reshape(-1, 3) @ cell, cell, pbc


def is_json(file: IO[bytes]) -> bool:
    """Whether a stream starts like a JSON list or object."""
    return file.read(64).lstrip()[:1] in (b"{", b"[")
