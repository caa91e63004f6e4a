"""Whether stress labels have the right sign, unit and order, from pairs of frames that differ by a strain only.

At fixed fractional coordinates dE = V sigma : d(epsilon), whatever the forces are. A pair of strained frames gives both
sides from labels alone, with an error of third order in the strain between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from forcefield.data.labels import VOIGT as ORDER
from forcefield.data.survey import Table
from forcefield.units import GPA, KBAR

LARGEST_STRAIN = 0.06
SMALLEST_WORK = 1e-4
"""eV; below, the rounding of the labels decides."""
FEWEST_PAIRS = 3
REORDERED = 0.3
"""Share of the misfit that is left where another order of the shear components is the right one."""
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


@dataclass(frozen=True)
class StressVerdict:
    """What the pairs say.

    Attributes:
        verdict: ``agrees``, ``opposite``, ``other order``, ``contradictory`` or ``not enough pairs``.
        pairs: number of pairs that could be used.
        agreeing: share of them in which energy and stress have the same sign, weighted by the energy difference, as
            small ones are mostly rounding; None without enough pairs, and where the order is another.
        ratio: median of the energy difference over the work of the stress, 1 if all is right; None where
            ``agreeing`` is.
        message: the verdict in words.
    """

    verdict: str
    pairs: int
    agreeing: float | None
    ratio: float | None
    message: str


def check_stress_sign(table: Table) -> StressVerdict:
    """Compare energy differences of strained pairs with the work of their mean stress."""
    energy, works = strained_pairs(table)
    order = _better_order(energy, works) if len(energy) >= FEWEST_PAIRS else None
    told = np.abs(works[:, 0]) > SMALLEST_WORK
    energy, work = energy[told], works[told, 0]
    if order is not None:
        message = f"SHEAR COMPONENTS ARE IN ANOTHER ORDER, by the energies {order} (--stress-order '{order}')"
        return StressVerdict("other order", len(told), None, None, f"{message}; {len(told)} pairs")
    if len(work) < FEWEST_PAIRS:
        return StressVerdict(
            "not enough pairs",
            len(work),
            None,
            None,
            f"{len(work)} pairs of frames of one material differ by a small strain only; {FEWEST_PAIRS} are needed",
        )
    agreeing = float(np.average(energy * work > 0, weights=np.abs(energy)))
    ratio = float(np.median(energy / work))
    if agreeing >= 0.8:
        verdict, text = "agrees", "sign agrees with the energies"
    elif agreeing <= 0.2:
        verdict, text = "opposite", "SIGN IS OPPOSITE to the energies (VASP's sign? then --units stress=-... turns it)"
    else:
        return StressVerdict(
            "contradictory",
            len(work),
            agreeing,
            ratio,
            f"of {len(work)} pairs {agreeing:.0%} (by weight) agree in sign",
        )
    return StressVerdict(verdict, len(work), agreeing, ratio, f"{text}; {_size(abs(ratio))} ({len(work)} pairs)")


def _size(ratio: float) -> str:
    """What the size of the ratio says about the unit."""
    for unit, value in (("eV/Å^3", 1.0), ("GPa", GPA), ("kbar", KBAR)):
        if 0.5 < ratio / value < 2.0:
            right = unit == "eV/Å^3"
            return f"size is right (ratio {ratio:.3g})" if right else f"size is off: the numbers look like {unit}"
    return f"size is off: energies change {ratio:.3g} times as much as the stress says"


def _better_order(energy: NDArray[np.float64], works: NDArray[np.float64]) -> str | None:
    """The order of the six components in which the works agree much better with the energies than as read."""
    square = np.maximum((works**2).sum(axis=0), SMALLEST_WORK**2)
    scale = (energy[:, None] * works).sum(axis=0) / square  # whatever the unit
    misfit = np.abs(energy[:, None] - scale * works).sum(axis=0)
    best = int(np.argmin(misfit))
    if best == 0 or misfit[best] > REORDERED * misfit[0]:
        return None
    shear = [""] * 3
    for place, component in zip(SHEAR_ORDERS[best], ORDER[3:], strict=True):
        shear[place] = component
    return " ".join((*ORDER[:3], *shear))


SHEAR_ORDERS = list(permutations(range(3)))
"""Where yz, xz and xy are among the last three components; the first as ASE has them."""


def strained_pairs(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Neighbours in volume among frames of one shape.

    Returns:
        Energy differences (pairs,) and works of the mean stress (pairs, 6) in eV, the latter with the shear components
        in each of `SHEAR_ORDERS`.
    """
    usable = np.flatnonzero(
        np.isfinite(table.energy) & np.isfinite(table.volume) & np.isfinite(table.stress).all(axis=1)
    )
    order = usable[np.lexsort((table.volume[usable], table.shape_free[usable]))]
    first, second = order[:-1], order[1:]
    same = table.shape_free[first] == table.shape_free[second]
    first, second = first[same], second[same]
    if not len(first):
        return np.zeros(0), np.zeros((0, len(SHEAR_ORDERS)))
    strain = strain_between(table.cell[first], table.cell[second])
    stress = 0.5 * (table.stress[first] + table.stress[second])
    volume = 0.5 * (table.volume[first] + table.volume[second])
    reordered = [stress[:, [0, 1, 2, *(3 + place for place in places)]][:, VOIGT] for places in SHEAR_ORDERS]
    works = np.stack([volume * np.einsum("pij,pij->p", one, strain) for one in reordered], axis=1)
    energy = table.energy[second] - table.energy[first]
    size = np.abs(strain).max(axis=(1, 2))
    keep = (size < LARGEST_STRAIN) & (np.minimum(np.abs(works).max(axis=1), np.abs(energy)) > SMALLEST_WORK)
    return energy[keep], works[keep]


def strain_between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Strain from one cell to another, (pairs, 3, 3), right to second order: 2 (D - 1) (D + 1)^-1, symmetrised."""
    deformation = np.linalg.solve(first, second)
    one = np.eye(3)
    strain = 2.0 * (deformation - one) @ np.linalg.inv(deformation + one)
    return 0.5 * (strain + strain.swapaxes(1, 2))
