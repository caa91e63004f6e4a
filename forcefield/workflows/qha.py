"""Thermal expansion and free energy of a crystal in the quasi-harmonic approximation: `quasi_harmonic(structure)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.units import GPA
from forcefield.workflows.crystal import Start, start_from
from forcefield.workflows.equation_fit import EQUATIONS, Array, fit_equation
from forcefield.workflows.equation_of_state import EquationOptions, potential_energies, scan_volumes
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.phonons_analysis import run_mesh, supercell_modes, thermal_properties
from forcefield.workflows.phonons_setup import SHORTER_LENGTH, PhononOptions, compute_phonopy, options_at_volumes

COMPLETE = "complete"
CUT_SHORT = "cut short: the crystal outgrows the volumes"
FEWEST_VOLUMES = 5


@dataclass(frozen=True)
class QuasiHarmonicOptions:
    """Options of `quasi_harmonic`, checked; see there for their meaning."""

    compression: float = 0.03
    expansion: float = 0.07
    n_volumes: int = 7
    shape: str = "fixed"
    equation: str = "vinet"
    pressure: float = 0.0
    phonons: PhononOptions = PhononOptions(supercell_length=SHORTER_LENGTH)

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        if not (0.0 <= self.compression < 0.5 and 0.0 < self.expansion < 0.5):
            raise ValueError(
                f"compression is {self.compression} and expansion {self.expansion}, but they are relative "
                "changes of the volume between 0 and 0.5."
            )
        if self.n_volumes < FEWEST_VOLUMES:
            raise ValueError(f"n_volumes is {self.n_volumes}, but must be {FEWEST_VOLUMES} or more.")
        if self.equation not in EQUATIONS:
            raise ValueError(f"equation is {self.equation!r}, but must be one of {', '.join(EQUATIONS)}.")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure is {self.pressure}, but must be a finite number of GPa.")
        self.scan()

    def scan(self) -> EquationOptions:
        """Give the options of the scan over volumes."""
        own: dict[str, Any] = {"n_volumes": self.n_volumes, "shape": self.shape, "equation": self.equation}
        return EquationOptions(**own, **self.phonons.relaxation_options())

    def to_dict(self) -> dict[str, Any]:
        """Give the options for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class QuasiHarmonicResult:
    """Quasi-harmonic thermodynamics of a crystal, per atom, at constant pressure.

    Attributes:
        atoms: the crystal at its static minimum.
        verdict: "complete", or "cut short: ..." where the temperatures end below those asked for.
        warnings: what else to know, one sentence each.
        scan_volumes: (volumes,) Å³/atom.
        scan_energies: (volumes,) without vibrations (eV/atom).
        scan_free_energies: (temperatures, volumes) energy and vibrations (eV/atom).
        temperatures: (temperatures,) K.
        volume: equilibrium volume (Å³/atom).
        gibbs_energy: (eV/atom).
        bulk_modulus: isothermal (GPa).
        thermal_expansion: of the volume (1/K); 0 at 0 K.
        heat_capacity_v: at constant volume (eV/K/atom).
        heat_capacity_p: at constant pressure (eV/K/atom).
        entropy: (eV/K/atom).
        gruneisen: thermodynamic Grüneisen parameter; not a number (None in JSON) where the heat capacity vanishes.
        fit_residual: largest root mean square of the fits (eV/atom).
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    scan_volumes: Array
    scan_energies: Array
    scan_free_energies: Array
    temperatures: Array
    volume: Array
    gibbs_energy: Array
    bulk_modulus: Array
    thermal_expansion: Array
    heat_capacity_v: Array
    heat_capacity_p: Array
    entropy: Array
    gruneisen: Array
    fit_residual: float
    options: QuasiHarmonicOptions

    def at(self, temperature: float, name: str) -> float:
        """Interpolate a property at a temperature (K).

        Raises:
            ValueError: beyond the temperatures computed.
        """
        if not self.temperatures[0] <= temperature <= self.temperatures[-1]:
            raise ValueError(f"temperature is {temperature} K, but 0 to {self.temperatures[-1]:g} K were computed.")
        return float(np.interp(temperature, self.temperatures, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {"formula": self.atoms.get_chemical_formula(), "ok": self.verdict == COMPLETE, **vars(self)}


def quasi_harmonic(
    atoms: Any,
    calculator: Any = None,
    *,
    compression: float = 0.03,
    expansion: float = 0.07,
    n_volumes: int = 7,
    shape: str = "fixed",
    equation: str = "vinet",
    pressure: float = 0.0,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
    **phonon_options: Any,
) -> QuasiHarmonicResult:
    """Compute thermal expansion, Gibbs energy, bulk modulus and heat capacities against temperature.

    At each volume the atoms are relaxed and the vibrations computed as in `phonons`; at each temperature an equation of
    state is fitted to the Helmholtz energies (Baroni et al., https://doi.org/10.2138/rmg.2010.71.3).

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        compression: smallest volume, relative to the static minimum, as a change.
        expansion: largest volume, likewise.
        n_volumes: how many volumes, from the smallest to the largest.
        shape: "fixed" scales the cell, "relaxed" relaxes its shape at each volume.
        equation: "vinet" or "birch-murnaghan".
        pressure: external pressure (GPa).
        store: keeps forces and structures, for example in a file, so that an interrupted run can go on.
        callback: told in words what is done next.
        phonon_options: further options of `phonons`: supercell_length (15 Å here), supercell, method, displacement,
            relaxation, fmax, smax, steps, symmetry, symprec, mesh_length, t_max, t_step, tolerance.

    Raises:
        ValueError: as `phonons`, and where fewer than five volumes are free of imaginary modes or the crystal at 0 K is
            not within the volumes.
        ImportError: if phonopy is not installed.
    """
    settings = options_at_volumes("quasi_harmonic", phonon_options)
    options = QuasiHarmonicOptions(compression, expansion, n_volumes, shape, equation, pressure, settings)
    what, instead = "quasi-harmonic calculations", "A molecule or slab has no volume."
    start = start_from(atoms, calculator, settings, store, workflow=what, instead=instead, packages=["phonopy"])
    factors = np.linspace(1.0 - compression, 1.0 + expansion, n_volumes)
    scan = scan_volumes(start, options.scan(), factors=factors)
    return _sum_up(start.atoms, _vibrations(scan, start, settings, callback), options, start.notes)


@dataclass
class _Table:
    """Per atom: volumes (v,), static energies (v,), and (temperatures, v) of vibrations; volumes left out (Å³)."""

    volumes: Array
    energies: Array
    temperatures: Array
    free_energies: Array
    entropies: Array
    heat_capacities: Array
    left_out: list[float]


def _vibrations(
    scan: list[Atoms], start: Start, options: PhononOptions, callback: Callable[[str], None] | None
) -> _Table:
    """Compute harmonic thermodynamics at all volumes, and keep those without imaginary modes.

    Raises:
        ValueError: if too few are left.
    """
    temperatures = np.arange(0.0, options.t_max + 0.5 * options.t_step, options.t_step)
    kept, thermal, left_out = [], [], []
    for number, atoms in enumerate(scan):
        if callback is not None:
            callback(f"phonons at volume {number + 1} of {len(scan)}")
        phonon = compute_phonopy(atoms, start.calculator, options, start.store)
        _, modes = supercell_modes(phonon, options.tolerance)
        if modes:
            left_out.append(atoms.get_volume() / len(atoms))
            continue
        run_mesh(phonon, options.mesh_length)
        kept.append(atoms)
        thermal.append(thermal_properties(phonon, temperatures))
    if len(kept) < FEWEST_VOLUMES:
        raise ValueError(
            f"Only {len(kept)} of {len(scan)} volumes are free of imaginary modes, but {FEWEST_VOLUMES} are "
            "needed. Look at `phonons` of the crystal, or choose other volumes."
        )
    n = np.array([len(atoms) for atoms in kept])
    return _Table(
        volumes=np.array([atoms.get_volume() for atoms in kept]) / n,
        energies=potential_energies(kept, start.calculator) / n,
        temperatures=temperatures,
        free_energies=np.stack([part.free_energy for part in thermal], axis=1),
        entropies=np.stack([part.entropy for part in thermal], axis=1),
        heat_capacities=np.stack([part.heat_capacity for part in thermal], axis=1),
        left_out=left_out,
    )


def _sum_up(start: Atoms, table: _Table, options: QuasiHarmonicOptions, notes: list[str]) -> QuasiHarmonicResult:
    """Fit every temperature up to where the crystal outgrows the volumes, and differentiate."""
    helmholtz = table.energies + table.free_energies  # (temperatures, volumes)
    fits = []
    for row in helmholtz + options.pressure * GPA * table.volumes:
        fit = fit_equation(table.volumes, row, equation=options.equation)
        if not fit.inside:
            break
        fits.append(fit)
    n = len(fits)
    if n < 3:
        raise ValueError(
            f"At {table.temperatures[n]:g} K the crystal is not within the volumes of {table.volumes.min():.3f} to "
            f"{table.volumes.max():.3f} Å³/atom. Choose a larger compression or expansion."
        )
    if n < len(helmholtz):
        notes.append(
            f"above {table.temperatures[n - 1]:g} K the crystal outgrows the largest volume; choose a larger expansion"
        )
    if table.left_out:
        listed = ", ".join(f"{volume:.3f}" for volume in table.left_out)
        notes.append(f"volumes with imaginary modes are left out: {listed} Å³/atom")
    t, volume = table.temperatures[:n], np.array([fit.volume for fit in fits])
    expansion = np.gradient(volume, t, edge_order=2) / volume
    expansion[0] = 0.0  # the third law, which a one-sided difference misses
    modulus = np.array([fit.bulk_modulus for fit in fits])
    cv = _at_volumes(table.volumes, table.heat_capacities[:n], volume)
    extra = expansion * volume * modulus * GPA  # eV/K/atom
    with np.errstate(divide="ignore", invalid="ignore"):
        gruneisen = np.where(cv > 1.0e-8, extra / cv, np.nan)
    return QuasiHarmonicResult(
        atoms=start,
        verdict=COMPLETE if n == len(helmholtz) else CUT_SHORT,
        warnings=tuple(notes),
        scan_volumes=table.volumes,
        scan_energies=table.energies,
        scan_free_energies=helmholtz,
        temperatures=t,
        volume=volume,
        gibbs_energy=np.array([fit.energy for fit in fits]),
        bulk_modulus=modulus,
        thermal_expansion=expansion,
        heat_capacity_v=cv,
        heat_capacity_p=cv + expansion * extra * t,
        entropy=_at_volumes(table.volumes, table.entropies[:n], volume),
        gruneisen=gruneisen,
        fit_residual=max(fit.residual for fit in fits),
        options=options,
    )


def _at_volumes(volumes: Array, rows: Array, wanted: Array) -> Array:
    """Interpolate each row, known at some volumes, by a cubic polynomial at its own volume."""
    centre = volumes.mean()
    return np.array(
        [np.polyval(np.polyfit(volumes - centre, row, 3), v - centre) for row, v in zip(rows, wanted, strict=True)]
    )
