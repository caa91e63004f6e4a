"""VASP's vasprun.xml: every ionic step, one in memory at a time.

The energy is the one for vanishing smearing. VASP 5 writes a wrong ``e_0_energy`` behind the last electronic step
(https://www.vasp.at/forum/viewtopic.php?f=3&t=16942); as the remedy goes, the difference to the free energy is taken
from the last electronic step. Stress comes in kbar with VASP's sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from forcefield.data.frames import Frame
from forcefield.data.labels import ReadOptions, to_voigt, unit_factor
from forcefield.data.readers.entry import Entry
from forcefield.data.readers.opening import open_binary

VASP_STRESS = "-kbar"
UNUSED = ("dos", "eigenvalues", "projected", "dielectricfunction", "dynmat", "kpoints")


def read_vasprun(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """Ionic steps of a vasprun.xml, compressed or not.

    A run that was killed gives its complete steps and then an entry that says so; a step whose electronic
    self-consistency reached NELM is a broken entry.

    Args:
        path: the file.
        options: ``units`` may say another unit of the stress.
    """
    index = 0
    with open_binary(path, options.count_bytes) as file:
        try:
            for numbers, limit, step in _steps(file):
                try:
                    yield Entry(f"#{index}", _frame(numbers, limit, step, options))
                except ValueError as error:
                    yield Entry(f"#{index}", None, str(error))
                index += 1
        except ParseError as error:
            yield Entry(f"#{index}", None, f"the XML is broken or the run was cut short ({error})")


def _steps(file: IO[bytes]) -> Iterator[tuple[NDArray[np.int64] | None, int | None, Element]]:
    """Atomic numbers, NELM and XML of each calculation; what has been used is freed."""
    numbers: NDArray[np.int64] | None = None
    limit: int | None = None
    events = iterparse(file, events=("start", "end"))
    _, root = next(events)
    for event, element in events:
        if event == "start":
            continue
        if element.tag in UNUSED:
            element.clear()
        elif element.tag == "atominfo":
            numbers = _numbers(element)
        elif element.tag == "i" and element.get("name") == "NELM":
            limit = int(element.text or 0)
        elif element.tag == "calculation":
            yield numbers, limit, element
            root.clear()


def _numbers(element: Element) -> NDArray[np.int64]:
    rows = element.findall("array[@name='atoms']/set/rc")
    symbols = [(row.findtext("c") or "").strip() for row in rows]
    return np.array([atomic_numbers.get(symbol, 0) for symbol in symbols], dtype=np.int64)


def _frame(numbers: NDArray[np.int64] | None, limit: int | None, step: Element, options: ReadOptions) -> Frame:
    if numbers is None or not len(numbers):
        raise ValueError("the file names no atoms before its first step")
    steps = step.findall("scstep")
    if limit is not None and len(steps) >= limit > 1:
        raise ValueError(f"the electronic steps reached NELM = {limit} without converging")
    cell = _varray(step.find("structure/crystal/varray[@name='basis']"))
    fractional = _varray(step.find("structure/varray[@name='positions']"))
    if cell is None or fractional is None:
        raise ValueError("the step has no structure")
    if len(fractional) != len(numbers):
        raise ValueError(f"the step has {len(fractional)} positions of {len(numbers)} atoms")
    stress = _varray(step.find("varray[@name='stress']"))
    forces = _varray(step.find("varray[@name='forces']"))
    energy = _energy(step, steps)
    unit = options.units.get("stress", VASP_STRESS)
    for label, value, key in (("energy", energy, "e_0_energy"), ("forces", forces, "forces")):
        if value is not None:
            options.note(label, key)
    if stress is not None:
        stress = to_voigt(stress * unit_factor("stress", unit))
        options.note("stress", "stress", unit)
    return Frame(numbers, fractional @ cell, cell, np.ones(3, dtype=bool), energy=energy, forces=forces, stress=stress)


def _energy(step: Element, steps: list[Element]) -> float | None:
    free = _number(step.find("energy/i[@name='e_fr_energy']"))
    if free is None or not steps:
        return _number(step.find("energy/i[@name='e_0_energy']"))
    last = steps[-1].find("energy")
    inner = [
        None if last is None else _number(last.find(f"i[@name='{name}']")) for name in ("e_0_energy", "e_fr_energy")
    ]
    if inner[0] is None or inner[1] is None:
        return _number(step.find("energy/i[@name='e_0_energy']"))
    return free + inner[0] - inner[1]


def _number(element: Element | None) -> float | None:
    if element is None or element.text is None:
        return None
    try:
        return float(element.text)
    except ValueError as error:
        raise ValueError(
            f"{element.get('name')} is {element.text.strip()!r} (VASP's stars for an overflow?)"
        ) from error


def _varray(element: Element | None) -> NDArray[np.float64] | None:
    """Rows of numbers; None where the element is missing or empty."""
    if element is None or not len(element):
        return None
    try:
        return np.array([[float(word) for word in (row.text or "").split()] for row in element])
    except ValueError as error:
        raise ValueError(f"{element.get('name')} holds something that is no number ({error})") from error
