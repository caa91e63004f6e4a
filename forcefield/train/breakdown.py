"""Errors of a comparison, in total and divided by kind, size, element and force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from forcefield.train.comparison import Comparison, Pair
from forcefield.units import GPA

SIZES = (1, 8, 32, 128)
"""Last number of atoms of each class of sizes; one more class is beyond."""

FORCES = (0.1, 0.5, 2.0, 10.0)
"""Upper limits (eV/Å) of the classes of forces on an atom; one more class is beyond."""

WEAKEST = 0.05
"""Forces below it (eV/Å) have no direction worth comparing."""

Mask = NDArray[np.bool_]


def statistics(pair: Pair, *, unit: float = 1.0) -> dict[str, float] | None:
    """Mean absolute, root mean square, median absolute and largest error, and how many values there are.

    Args:
        pair: labels and predictions; pairs with NaN are left out.
        unit: size of the unit wanted.

    Returns:
        ``mae``, ``rmse``, ``median``, ``max`` and ``count``; None where there is no pair.
    """
    error = ((pair[1] - pair[0]) / unit).ravel()
    size = np.abs(error[np.isfinite(error)])
    if not size.size:
        return None
    return {
        "mae": float(size.mean()),
        "rmse": float(np.sqrt((size**2).mean())),
        "median": float(np.median(size)),
        "max": float(size.max()),
        "count": int(size.size),
    }


def force_statistics(pair: Pair) -> dict[str, float] | None:
    """`statistics` of force components with ``cosine`` and ``slope``.

    ``cosine`` is the mean cosine of the angle between label and prediction, over atoms with a force above `WEAKEST`;
    ``slope`` is that of the predictions over the labels through the origin, below 1 where a potential is too soft
    (Deng et al., https://doi.org/10.1038/s41524-024-01500-6).
    """
    found = statistics(pair)
    if found is None:
        return None
    labels, predictions = (side[np.isfinite(pair[0] + pair[1]).all(axis=1)] for side in pair)
    product, square = (labels * predictions).sum(axis=1), (labels**2).sum(axis=1)
    if square.sum() > 0:
        found["slope"] = float(product.sum() / square.sum())
    strong = square > WEAKEST**2
    if strong.any():
        lengths = np.sqrt(square[strong]) * np.linalg.norm(predictions[strong], axis=1)
        found["cosine"] = float(np.mean(product[strong] / np.maximum(lengths, np.finfo(float).tiny)))
    return found


def errors(comparison: Comparison) -> dict[str, Any]:
    """All errors of a comparison, ready for JSON.

    Energies are in eV/atom, forces in eV/Å, stresses in GPa, atomic energies in eV.

    Returns:
        ``all``; ``by_kind``, ``by_size`` (atoms), ``by_force`` (eV/Å) and ``by_element``, each from class to errors;
        ``worst``, the frames with the largest errors. An error that cannot be told is left out.
    """
    frames, atoms = len(comparison.n_atoms), len(comparison.numbers)
    return {
        "all": _errors_of(comparison, np.ones(frames, dtype=bool), np.ones(atoms, dtype=bool)),
        "by_kind": {name: _errors_of(comparison, *masks) for name, *masks in _kinds(comparison)},
        "by_size": {name: _errors_of(comparison, *masks) for name, *masks in _sizes(comparison)},
        "by_force": _by_force(comparison),
        "by_element": _by_element(comparison),
        "worst": worst(comparison),
    }


def _errors_of(comparison: Comparison, frames: Mask, atoms: Mask) -> dict[str, Any]:
    def part(name: str, mask: Mask) -> Pair:
        labels, predictions = getattr(comparison, name)
        return labels[mask], predictions[mask]

    found = {
        "frames": int(frames.sum()),
        "atoms": int(atoms.sum()),
        "energy": statistics(part("energy", frames)),
        "forces": force_statistics(part("forces", atoms)),
        "stress": statistics(part("stress", frames), unit=GPA),
        "atomic_energies": statistics(part("atomic_energies", atoms)),
    }
    return {name: value for name, value in found.items() if value is not None}


def _kinds(comparison: Comparison) -> Iterator[tuple[str, Mask, Mask]]:
    kinds = np.array(comparison.kinds)
    for kind in sorted(set(comparison.kinds)):
        frames = kinds == kind
        yield kind or "(none)", frames, frames[comparison.frame_of_atom]


def _sizes(comparison: Comparison) -> Iterator[tuple[str, Mask, Mask]]:
    for name, frames in _classes(comparison.n_atoms.astype(float), SIZES, step=1):
        yield name, frames, frames[comparison.frame_of_atom]


def _by_force(comparison: Comparison) -> dict[str, Any]:
    labels, predictions = comparison.forces
    found = {}
    for name, atoms in _classes(np.linalg.norm(labels, axis=1), FORCES, step=0):
        errors_there = force_statistics((labels[atoms], predictions[atoms]))
        if errors_there is not None:
            found[name] = {"atoms": int(atoms.sum()), "forces": errors_there}
    return found


def _classes(values: NDArray[np.float64], limits: Sequence[float], *, step: int) -> Iterator[tuple[str, Mask]]:
    """Names and members of the classes that have some; a limit belongs to the class below it."""
    low = -np.inf
    for high in (*limits, np.inf):
        members = (values > low) & (values <= high)
        if members.any():
            first = step if np.isinf(low) else low + step
            name = f"> {low:g}" if np.isinf(high) else f"{first:g}" if first == high else f"{first:g}-{high:g}"
            yield name, members
        low = high


def _by_element(comparison: Comparison) -> dict[str, Any]:
    """Errors of the forces on each element, and of the energies of frames weighted by their share of it."""
    found = {}
    labels, predictions = comparison.energy
    size = np.abs(predictions - labels)
    known = np.isfinite(size)
    for number in np.unique(comparison.numbers):
        atoms = comparison.numbers == number
        share = np.bincount(comparison.frame_of_atom[atoms], minlength=len(size)) / comparison.n_atoms
        entry: dict[str, Any] = {"atoms": int(atoms.sum()), "frames": int((share > 0).sum())}
        if share[known].sum() > 0:
            weights = share[known] / share[known].sum()
            mean, square = float(weights @ size[known]), float(weights @ size[known] ** 2)
            entry["energy"] = {"mae": mean, "rmse": float(np.sqrt(square))}
        for name, measure in (("forces", force_statistics), ("atomic_energies", statistics)):
            values = getattr(comparison, name)
            entry[name] = measure((values[0][atoms], values[1][atoms]))
        found[chemical_symbols[number]] = {key: value for key, value in entry.items() if value is not None}
    return found


def worst(comparison: Comparison, *, count: int = 5) -> dict[str, list[dict[str, Any]]]:
    """The frames with the largest energy error (eV/atom) and the largest error of a force component (eV/Å)."""
    energy = np.abs(comparison.energy[1] - comparison.energy[0])
    atomwise = np.nan_to_num(np.abs(comparison.forces[1] - comparison.forces[0]), nan=-1.0).max(axis=1)
    forces = np.maximum.reduceat(atomwise, np.cumsum(comparison.n_atoms) - comparison.n_atoms)
    found = {}
    for name, values in (("energy", np.nan_to_num(energy, nan=-1.0)), ("forces", forces)):
        order = [int(k) for k in np.argsort(-values, kind="stable")[:count] if values[k] >= 0]
        found[name] = [
            {"frame": comparison.places[k], "kind": comparison.kinds[k], "error": float(values[k])} for k in order
        ]
    return found


def shift_elements(comparison: Comparison) -> tuple[Comparison, dict[str, float]]:
    """Refit the predictions' element reference energies to the labels by least squares on the energy per atom.

    For potentials on another energy scale: ``E + sum of the shifts of a frame's atoms`` is compared instead of ``E``,
    and the atomic energies are shifted alike. Elements that only occur together share their shift (the solution of
    least norm). The fit sees the labels that the errors are then taken against, so these are a little too good.

    Returns:
        The shifted comparison, and symbol -> shift in eV.

    Raises:
        ValueError: no frame has both a label and a prediction of the energy.
    """
    labels, predictions = comparison.energy
    known = np.isfinite(labels - predictions)
    if not known.any():
        raise ValueError("element energies cannot be shifted: no frame has both a label and a prediction of the energy")
    elements, column = np.unique(comparison.numbers, return_inverse=True)
    composition = np.zeros((len(labels), len(elements)))
    np.add.at(composition, (comparison.frame_of_atom, column), 1.0)
    composition /= comparison.n_atoms[:, None]
    shifts, *_ = np.linalg.lstsq(composition[known], (labels - predictions)[known], rcond=None)
    atomic = comparison.atomic_energies
    shifted = replace(
        comparison,
        energy=(labels, predictions + composition @ shifts),
        atomic_energies=(atomic[0], atomic[1] + shifts[column]),
    )
    return shifted, {chemical_symbols[z]: float(shift) for z, shift in zip(elements, shifts, strict=True)}
