"""Lattice thermal conductivity by phono3py: `thermal_conductivity(structure, calculator)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.workflows.crystal import CrystalOptions, Start, start_from
from forcefield.workflows.equation_fit import Array
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.outcome import require_package
from forcefield.workflows.phonons_analysis import supercell_modes
from forcefield.workflows.phonons_setup import (
    SYMPREC,
    PhononOptions,
    choose_supercell,
    compute_phonopy,
    from_phonopy_atoms,
    primitive_matrix,
    to_phonopy_atoms,
)

COMPLETE = "complete"
UNSTABLE = "imaginary modes"
UNSCATTERED = "unscattered modes"
LARGEST = 1.0e5  # W/m/K, beyond any crystal


@dataclass(frozen=True)
class ConductivityOptions(CrystalOptions):
    """Options of `thermal_conductivity`, checked; see there for their meaning."""

    supercell_length: float = 10.0
    supercell: tuple[int, int, int] | None = None
    harmonic_length: float = 15.0
    cutoff: float | None = None
    mesh_length: float = 40.0
    t_min: float = 100.0
    t_max: float = 1000.0
    t_step: float = 50.0
    displacement: float = 0.03
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before any structure is read."""
        super().__post_init__()
        for name in ("t_min", "mesh_length"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}, but must be a positive number.")
        if self.t_max < self.t_min:
            raise ValueError(f"t_max is {self.t_max} K, but must not be below t_min, {self.t_min} K.")
        if self.cutoff is not None and not self.cutoff > 0.0:
            raise ValueError(f"cutoff is {self.cutoff}, but must be a positive number, or None for no cutoff.")
        PhononOptions(supercell_length=self.supercell_length, supercell=self.supercell)
        self.phonons()

    def phonons(self) -> PhononOptions:
        """Give the options of the harmonic part."""
        settings: dict[str, Any] = {
            **{"supercell_length": self.harmonic_length, "displacement": self.displacement},
            **{"tolerance": self.tolerance, "t_max": self.t_max, "t_step": self.t_step},
        }
        return PhononOptions(**settings, **self.relaxation_options())


@dataclass(frozen=True)
class ConductivityResult:
    """Lattice thermal conductivity of a crystal, in the relaxation-time approximation.

    Attributes:
        atoms: the relaxed crystal.
        verdict: "complete", or "imaginary modes" or "unscattered modes", which make the numbers meaningless.
        warnings: what else to know, one sentence each.
        temperatures: (temperatures,) K.
        conductivity: (temperatures, 6) in W/m/K, components xx, yy, zz, yz, xz, xy.
        mesh: (3,) q-points along the reciprocal vectors; the numbers should not change with a denser one.
        n_displacements: supercells computed for the cubic part.
        supercell_atoms: atoms of that supercell.
        options: what it was computed with.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    temperatures: Array
    conductivity: Array
    mesh: tuple[int, int, int]
    n_displacements: int
    supercell_atoms: int
    options: ConductivityOptions

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {"formula": self.atoms.get_chemical_formula(), "ok": self.verdict == COMPLETE, **vars(self)}


def thermal_conductivity(
    atoms: Any,
    calculator: Any = None,
    *,
    supercell_length: float = 10.0,
    supercell: tuple[int, int, int] | None = None,
    harmonic_length: float = 15.0,
    cutoff: float | None = None,
    mesh_length: float = 40.0,
    t_min: float = 100.0,
    t_max: float = 1000.0,
    t_step: float = 50.0,
    displacement: float = 0.03,
    relaxation: str = "cell",
    fmax: float = 1.0e-4,
    smax: float = 0.01,
    steps: int = 1000,
    symmetry: bool = True,
    symprec: float = 0.01,
    tolerance: float = 0.05,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
) -> ConductivityResult:
    """Compute the lattice thermal conductivity from three-phonon scattering (Togo, Chaput and Tanaka).

    Linearised Boltzmann equation in the relaxation-time approximation, https://doi.org/10.1103/PhysRevB.91.094306.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        supercell_length: shortest length of a vector of the supercell in which pairs of atoms are displaced (Å).
        supercell: multiples of the cell's vectors instead.
        harmonic_length: the same for the harmonic part (Å).
        cutoff: largest distance of a pair of displaced atoms (Å); None for all pairs.
        mesh_length: length of the supercell as dense as the mesh of q-points (Å).
        t_min: lowest temperature (K).
        t_max: highest temperature (K).
        t_step: step of temperature (K).
        displacement: of an atom (Å).
        relaxation: before: "cell" for atoms and cell, "positions" for a fixed cell, "none".
        fmax: largest force the relaxation accepts (eV/Å).
        smax: largest stress it accepts (GPa).
        steps: most steps of it.
        symmetry: keep the space group in it.
        symprec: distance within which atoms count as symmetry-equivalent in it (Å).
        tolerance: size of an imaginary frequency that counts (THz).
        store: keeps forces and the relaxed structure, for example in a file, so that an interrupted run can go on.
        callback: told in words what is done next.

    Raises:
        ValueError: as `phonons`.
        ImportError: if phono3py is not installed.
    """
    settings: dict[str, Any] = {
        **{"supercell_length": supercell_length, "supercell": supercell, "harmonic_length": harmonic_length},
        **{"cutoff": cutoff, "mesh_length": mesh_length, "t_min": t_min, "t_max": t_max, "t_step": t_step},
        **{"displacement": displacement, "relaxation": relaxation, "fmax": fmax, "smax": smax, "steps": steps},
        **{"symmetry": symmetry, "symprec": symprec, "tolerance": tolerance},
    }
    options = ConductivityOptions(**settings)
    what, instead = "thermal conductivities", "Give a bulk cell."
    start = start_from(atoms, calculator, options, store, workflow=what, instead=instead, packages=["phono3py"])
    notes = start.notes
    harmonic = compute_phonopy(start.atoms, start.calculator, options.phonons(), start.store)
    lowest, modes = supercell_modes(harmonic, tolerance)
    if modes:
        notes.append(f"the lowest frequency is {lowest:.2f} THz: the crystal is unstable and scattering has no meaning")
    phonon3 = _cubic(start, options, harmonic, callback)
    if callback is not None:
        callback("scattering")
    temperatures, conductivity = _scatter(phonon3, options)
    free = not np.all(np.abs(conductivity) < LARGEST)
    if free:
        notes.append("some modes are not scattered at all; take a longer supercell or a denser mesh")
    x, y, z = (int(number) for number in phonon3.mesh_numbers)
    return ConductivityResult(
        atoms=start.atoms,
        verdict=UNSTABLE if modes else UNSCATTERED if free else COMPLETE,
        warnings=tuple(notes),
        temperatures=temperatures,
        conductivity=conductivity,
        mesh=(x, y, z),
        n_displacements=sum(cell is not None for cell in phonon3.supercells_with_displacements),
        supercell_atoms=len(phonon3.supercell),
        options=options,
    )


def _scatter(phonon3: Any, options: ConductivityOptions) -> tuple[Array, Array]:
    """Temperatures (K) and the conductivity at each, (temperatures, 6) in W/m/K."""
    temperatures = np.arange(options.t_min, options.t_max + 0.5 * options.t_step, options.t_step)
    phonon3.mesh_numbers = options.mesh_length
    phonon3.init_phph_interaction()
    phonon3.run_thermal_conductivity(temperatures=temperatures)
    return temperatures, np.array(phonon3.thermal_conductivity.kappa)[0]


def _cubic(start: Start, options: ConductivityOptions, harmonic: Any, callback: Callable[[str], None] | None) -> Any:
    """Give phono3py with the cubic force constants, and the harmonic ones of a phonopy object."""
    phono3py = require_package("phono3py")
    unit_cell = to_phonopy_atoms(start.atoms)
    if options.supercell is not None:
        matrix = np.diag(options.supercell)
    else:
        matrix = choose_supercell(start.atoms, options.supercell_length)
    phonon3 = phono3py.Phono3py(
        unit_cell,
        supercell_matrix=matrix.T,
        phonon_supercell_matrix=harmonic.supercell_matrix,
        primitive_matrix=primitive_matrix(unit_cell),
        symprec=SYMPREC,
    )
    phonon3.generate_displacements(distance=options.displacement, cutoff_pair_distance=options.cutoff)
    cells = phonon3.supercells_with_displacements
    rest = start.store.forces(from_phonopy_atoms(phonon3.supercell), start.calculator)
    forces = np.zeros((len(cells), len(rest), 3))
    for number, cell in enumerate(cells):
        if cell is None:  # beyond the cutoff
            continue
        if callback is not None:
            callback(f"supercell {number + 1} of {len(cells)} with {len(rest)} atoms")
        forces[number] = start.store.forces(from_phonopy_atoms(cell), start.calculator) - rest
    phonon3.forces = forces
    phonon3.produce_fc3()
    phonon3.symmetrize_fc3()
    phonon3.fc2 = harmonic.force_constants
    return phonon3
