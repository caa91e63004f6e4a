"""Structures to label, made from others: rattled, strained, resized, supercells, vacancies, slabs, substituted.

A calculator makes two more kinds: hot ones from molecular dynamics, and steps of relaxations. Every frame depends only
on its parent, its kind, its number and the seed, so that neither the order of files nor the number of other frames
changes it. None has atoms closer than `SHORTEST` times the sum of their covalent radii.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ase
from ase.calculators.calculator import BaseCalculator

from forcefield.data.sampling.cells import MAX_ATOMS, slabs, supercells, vacancies
from forcefield.data.sampling.displacements import rattled, strained, volumes
from forcefield.data.sampling.draw import SHORTEST
from forcefield.data.sampling.substitution import ELEMENTS, substituted
from forcefield.data.sampling.trajectories import hot, relaxations

__all__ = [
    "ELEMENTS",
    "MAX_ATOMS",
    "KINDS",
    "SHORTEST",
    "SamplePlan",
    "hot",
    "rattled",
    "relaxations",
    "sample",
    "slabs",
    "strained",
    "substituted",
    "supercells",
    "vacancies",
    "volumes",
]

MOVED = ("hot", "relaxation")
"""Kinds of frames that a calculator is needed for."""
KINDS = ("rattled", "strained", "volume", "supercell", "vacancy", "slab", "substituted", *MOVED)


@dataclass(frozen=True)
class SamplePlan:
    """How many frames of each kind to make of a structure.

    Attributes:
        rattled: frames with displaced atoms.
        strained: frames with a strained cell.
        volume: compressed and expanded frames.
        supercell: rattled supercells.
        vacancy: cells with missing atoms.
        slab: slabs with vacuum.
        substituted: frames with other elements.
        hot: snapshots of molecular dynamics.
        relaxation: steps of relaxations of distorted structures.
        max_atoms: most atoms of supercells, vacancies, slabs and hot frames.
        shortest: shortest distance accepted, in units of the sum of covalent radii.
        elements: atomic numbers that substitution may bring in.

    Raises:
        ValueError: a number is negative, all are zero, or a limit is not positive.
    """

    rattled: int = 0
    strained: int = 0
    volume: int = 0
    supercell: int = 0
    vacancy: int = 0
    slab: int = 0
    substituted: int = 0
    hot: int = 0
    relaxation: int = 0
    max_atoms: int = MAX_ATOMS
    shortest: float = SHORTEST
    elements: tuple[int, ...] = ELEMENTS

    def __post_init__(self) -> None:
        """Check the numbers."""
        counts = {kind: getattr(self, kind) for kind in KINDS}
        if min(counts.values()) < 0:
            raise ValueError(f"a number of frames is negative: {counts}")
        if not any(counts.values()):
            raise ValueError(f"no frame was asked for; give a number for at least one of {', '.join(KINDS)}")
        if self.max_atoms < 1 or not self.shortest > 0:
            raise ValueError(f"max_atoms is {self.max_atoms} and shortest {self.shortest}, but both must be positive")


def sample(
    atoms: ase.Atoms,
    plan: SamplePlan,
    *,
    seed: int,
    calculator: BaseCalculator | None = None,
    on_refused: Callable[[str, str], None] | None = None,
) -> Iterator[ase.Atoms]:
    """Make frames of all kinds of a plan from one structure, which is not modified.

    Args:
        atoms: the parent; its info may hold ``material`` and ``source``, which go into ``material`` and ``parent`` of
            the frames.
        plan: how many of each kind.
        seed: same seed and parent, same frames.
        calculator: moves the atoms of hot and relaxation frames, which depend on it.
        on_refused: told the kind and the reason where a kind cannot be made of this structure (a slab of a molecule);
            without it that is an error.

    Raises:
        ValueError: a kind cannot be made of the structure, and nobody is to be told, or there is no calculator and the
            plan needs one.
    """

    def moving() -> BaseCalculator:
        assert calculator is not None
        return calculator

    moved = [kind for kind in MOVED if getattr(plan, kind)]
    if moved and calculator is None:
        raise ValueError(f"{' and '.join(moved)} frames were asked for; give a calculator that moves the atoms")
    makers = {
        "rattled": lambda n: rattled(atoms, n, seed=seed, shortest=plan.shortest),
        "strained": lambda n: strained(atoms, n, seed=seed, shortest=plan.shortest),
        "volume": lambda n: volumes(atoms, n, seed=seed, shortest=plan.shortest),
        "supercell": lambda n: supercells(atoms, n, seed=seed, max_atoms=plan.max_atoms, shortest=plan.shortest),
        "vacancy": lambda n: vacancies(atoms, n, seed=seed, max_atoms=plan.max_atoms, shortest=plan.shortest),
        "slab": lambda n: slabs(atoms, n, seed=seed, max_atoms=plan.max_atoms, shortest=plan.shortest),
        "substituted": lambda n: substituted(atoms, n, seed=seed, elements=plan.elements, shortest=plan.shortest),
        "hot": lambda n: hot(atoms, n, moving(), seed=seed, max_atoms=plan.max_atoms, shortest=plan.shortest),
        "relaxation": lambda n: relaxations(atoms, n, moving(), seed=seed, shortest=plan.shortest),
    }
    for kind in KINDS:
        count = getattr(plan, kind)
        try:
            if count:
                yield from makers[kind](count)
        except Exception as error:
            if not isinstance(error, ValueError) and kind not in MOVED:
                raise  # else it is what a calculator says of this structure
            if on_refused is None:
                raise ValueError(f"{kind}: {error}") from error
            on_refused(kind, " ".join(str(error).split()) or type(error).__name__)
