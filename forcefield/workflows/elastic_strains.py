"""Straining a crystal, relaxing its atoms, and differences of stress or energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from forcefield.workflows.crystal import Start
from forcefield.workflows.elastic_tensor import Array, strain_matrix, stress_strain_from_energy
from forcefield.workflows.outcome import prepare_crystal

if TYPE_CHECKING:
    from forcefield.workflows.elastic import ElasticOptions


@dataclass
class Engine:
    """Computes one crystal under strains.

    Attributes:
        start: the unstrained crystal, its calculator, and what keeps the strained structures.
        options: sizes of the strains, and how the atoms relax.
        callback: told before each strained cell how many are done, of how many.
        expected: how many there will be.
    """

    start: Start
    options: ElasticOptions
    callback: Callable[[int, int], None] | None = None
    expected: int = 0
    _done: int = field(default=0)

    def strained(self, deformation: Array, name: str) -> Atoms:
        """Deform the crystal by a symmetric (3, 3) matrix and relax its atoms; the calculator is attached.

        Raises:
            ValueError: if the relaxation fails.
        """
        if self.callback is not None:
            self.callback(self._done, self.expected)
        self._done += 1

        def make() -> Atoms:
            atoms = self.start.atoms.copy()
            atoms.set_cell(atoms.cell.array @ deformation.T, scale_atoms=True)
            kind = "positions" if self.options.internal else "none"
            # a strained cell has fewer symmetries, all of which the forces keep by themselves
            settings = self.options.relaxation_options(relaxation=kind, symmetry=False)
            return prepare_crystal(atoms, self.start.calculator, **settings)[0]

        atoms = self.start.store.structure(name, self.start.atoms, make)
        atoms.calc = self.start.calculator
        return atoms

    def stress(self, strain: Array) -> Array:
        """Give the stress (6,) in eV/Å³ under a small strain (6, shear doubled)."""
        atoms = self.strained(np.eye(3) + strain_matrix(strain), f"strain {_name(strain)}")
        return np.asarray(atoms.get_stress(), dtype=float)

    def energy(self, strain: Array) -> float:
        """Give the energy (eV) under a Lagrangian strain (6, shear doubled)."""
        squares, axes = np.linalg.eigh(np.eye(3) + 2.0 * strain_matrix(strain))
        deformation = axes @ np.diag(np.sqrt(squares)) @ axes.T
        return float(self.strained(deformation, f"lagrangian {_name(strain)}").get_potential_energy())


def _name(strain: Array) -> str:
    return " ".join(f"{component:.6f}" for component in strain)


def from_stresses(engine: Engine) -> tuple[Array, Array, float]:
    """Take slopes of the stress.

    Returns:
        The tensor (6, 6) and the stress at rest (6), both in eV/Å³, and the residual of the extrapolation.
    """
    engine.expected = 12 * len(engine.options.strains) + 1
    rest = engine.stress(np.zeros(6))
    slopes = np.empty((len(engine.options.strains), 6, 6))
    for number, size in enumerate(engine.options.strains):
        for component in range(6):
            strain = size * np.eye(6)[component]
            slopes[number, :, component] = (engine.stress(strain) - engine.stress(-strain)) / (2.0 * size)
    tensor, residual = extrapolate(np.array(engine.options.strains), slopes)
    return tensor, rest, residual


def from_energies(engine: Engine) -> tuple[Array, Array, float]:
    """Take curvatures of the energy by Lagrangian strain; returns as `from_stresses`."""
    volume = engine.start.atoms.get_volume()
    engine.expected = 42 * len(engine.options.strains) + 1
    rest = engine.energy(np.zeros(6))
    curvatures, slopes = np.empty((len(engine.options.strains), 6, 6)), np.empty((len(engine.options.strains), 6))
    unit = np.eye(6)
    for number, size in enumerate(engine.options.strains):
        pairs = np.empty((6, 6))  # E(+) + E(-) - 2 E(0) for e_a + e_b, and for e_a alone on the diagonal
        for a in range(6):
            for b in range(a, 6):
                strain = size * (unit[a] if a == b else unit[a] + unit[b])
                plus, minus = engine.energy(strain), engine.energy(-strain)
                pairs[a, b] = pairs[b, a] = plus + minus - 2.0 * rest
                if a == b:
                    slopes[number, a] = (plus - minus) / (2.0 * size * volume)
        single = np.diag(pairs)
        mixed = 0.5 * (pairs - single[:, None] - single[None, :])
        curvatures[number] = np.where(unit > 0.0, pairs, mixed) / (size**2 * volume)
    second, residual = extrapolate(np.array(engine.options.strains), curvatures)
    stress, _ = extrapolate(np.array(engine.options.strains), slopes)
    return stress_strain_from_energy(second, stress), stress, residual


def extrapolate(sizes: Array, values: Array) -> tuple[Array, float]:
    """Extrapolate central differences to no strain, by the even series value + a·size².

    Args:
        sizes: (sizes,).
        values: (sizes, ...).

    Returns:
        The extrapolated value, and the largest distance from it relative to its largest entry (0 for a single size).
    """
    if len(sizes) == 1:
        return values[0], 0.0
    series = np.stack([np.ones_like(sizes), sizes**2], axis=1)
    flat, *_ = np.linalg.lstsq(series, values.reshape(len(sizes), -1), rcond=None)
    value = flat[0].reshape(values.shape[1:])
    return value, float(np.abs(values - value).max() / max(np.abs(value).max(), 1.0e-12))
