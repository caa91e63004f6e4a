"""What `benchmarks/properties.py` computes of one crystal, by the package's workflows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from properties_references import Reference
from scipy.signal import find_peaks

from forcefield.workflows import elastic_constants, equation_of_state, find_space_group, phonons
from forcefield.workflows.elastic_tensor import eigenvalues, moduli

QUANTITIES = {
    "volume": "Å³/atom",
    "lattice constant": "Å",
    "bulk modulus": "GPa",
    "shear modulus": "GPa",
    "C11": "GPa",
    "C12": "GPa",
    "C44": "GPa",
    "highest phonon peak": "cm⁻¹",
}
THZ_TO_INVERSE_CM = 1.0e12 / 2.99792458e10  # exact, by the speed of light (SI, 2019)
PROMINENCE = 0.02  # of the highest peak of the density of states; smaller ripples are no peak

Pairs = dict[str, tuple[float, float]]


def measure(kind: str, reference: Reference, calculator: Any) -> dict[str, Any]:
    """Compute a property of a crystal and put it beside the reference.

    Args:
        kind: one of `properties_references.PROPERTIES`.
        reference: the crystal.
        calculator: an ASE calculator, in double precision.

    Returns:
        A record for JSON: "pairs" holds (computed, reference) by quantity, or "error" says why there is none.
    """
    compute: dict[str, Callable[[Reference, Any], tuple[Pairs, str]]]
    compute = {"elastic": _elastic, "eos": _equation, "phonons": _phonons, "experiment": _experiment}
    atoms = reference.atoms
    record: dict[str, Any] = {"property": kind, "key": reference.key, "n_atoms": len(atoms)}
    record["formula"] = atoms.get_chemical_formula(empirical=True)
    begin = time.perf_counter()
    try:
        pairs, verdict = compute[kind](reference, calculator)
    except Exception as error:  # whatever a calculator or workflow raises counts as a failure of this crystal
        record["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    else:
        record.update(pairs={name: list(pair) for name, pair in pairs.items()}, verdict=verdict)
    return {**record, "seconds": round(time.perf_counter() - begin, 2)}


def _elastic(reference: Reference, calculator: Any) -> tuple[Pairs, str]:
    result = elastic_constants(reference.atoms, calculator, strains=(0.005,), fmax=1.0e-3, smax=0.02, steps=300)
    pairs: Pairs = {"volume": (result.atoms.get_volume() / len(result.atoms), reference.values["volume"])}
    # averages of an unstable crystal mean nothing to an engineer, but Voigt's are defined and count as errors here
    averages, voigt = result.moduli, _voigt(result.tensor)
    pairs["bulk modulus"] = (voigt[0] if averages is None else averages.bulk, reference.values["bulk modulus"])
    pairs["shear modulus"] = (voigt[1] if averages is None else averages.shear, reference.values["shear modulus"])
    group = find_space_group(reference.atoms)
    assert reference.tensor is not None
    if group is not None and group.number >= 195 and moduli(reference.tensor) is not None:
        ours, theirs = cubic_constants(result.tensor), cubic_constants(reference.tensor)
        pairs.update({name: (ours[name], theirs[name]) for name in theirs})
    return pairs, result.verdict


def _voigt(tensor: np.ndarray) -> tuple[float, float]:
    """Bulk and shear modulus by Voigt's average."""
    normal, across, shear = np.trace(tensor[:3, :3]), tensor[:3, :3].sum(), np.trace(tensor[3:, 3:])
    return float(across / 9.0), float((normal - 0.5 * (across - normal) + 3.0 * shear) / 15.0)


def cubic_constants(tensor: np.ndarray) -> dict[str, float]:
    """Give C11, C12, C44 of a cubic crystal in any orientation.

    The eigenvalues in Kelvin's notation do not depend on the axes: C11 + 2 C12 once, C11 - C12 twice, 2 C44 three
    times.

    Args:
        tensor: (6, 6) in Voigt's notation.
    """
    single = 3.0 * _voigt(tensor)[0]
    values = eigenvalues(tensor)
    others = np.delete(values, int(np.argmin(np.abs(values - single))))
    pair_first = others[2] - others[1] >= others[3] - others[2]
    pair, triple = (others[:2], others[2:]) if pair_first else (others[3:], others[:3])
    difference, double_shear = float(pair.mean()), float(triple.mean())
    c12 = (single - difference) / 3.0
    return {"C11": c12 + difference, "C12": c12, "C44": 0.5 * double_shear}


def _equation(reference: Reference, calculator: Any) -> tuple[Pairs, str]:
    result = equation_of_state(reference.atoms, calculator, steps=300)
    ours = {"volume": result.equilibrium_volume, "bulk modulus": result.bulk_modulus}
    return {name: (ours[name], reference.values[name]) for name in ours}, result.verdict


def _experiment(reference: Reference, calculator: Any) -> tuple[Pairs, str]:
    result = equation_of_state(reference.atoms, calculator, steps=300)
    pairs: Pairs = {"bulk modulus": (result.bulk_modulus, reference.values["bulk modulus"])}
    if "lattice constant" in reference.values:  # of the cubic cell, which holds one lattice point more than it shows
        scale = (result.equilibrium_volume * len(reference.atoms) / reference.atoms.get_volume()) ** (1.0 / 3.0)
        pairs["lattice constant"] = (scale * _cubic_length(reference), reference.values["lattice constant"])
    return pairs, result.verdict


def _cubic_length(reference: Reference) -> float:
    """Edge of the conventional cell of a cubic crystal, before relaxation (Å)."""
    from forcefield.workflows.surfaces_build import conventional_cell

    return float(conventional_cell(reference.atoms).cell.lengths()[0])


def _phonons(reference: Reference, calculator: Any) -> tuple[Pairs, str]:
    result = phonons(
        reference.atoms,
        calculator,
        supercell_length=9.0,
        mesh_length=30.0,
        fmax=1.0e-3,
        smax=0.02,
        steps=300,
        t_max=10.0,
    )
    peak = last_peak(result.dos.frequencies, result.dos.total) * THZ_TO_INVERSE_CM
    return {"highest phonon peak": (peak, reference.values["highest phonon peak"])}, result.verdict


def last_peak(frequencies: np.ndarray, density: np.ndarray) -> float:
    """Give the frequency of the last peak of a density of states.

    Raises:
        ValueError: for one without a peak.
    """
    padded = np.concatenate([[0.0], density, [0.0]])  # a peak at an end counts
    peaks, _ = find_peaks(padded, prominence=PROMINENCE * float(density.max()))
    if len(peaks) == 0:
        raise ValueError("The density of states has no peak.")
    return float(frequencies[peaks[-1] - 1])
