"""Phonons of a crystal in one call: `phonons(structure, calculator)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from forcefield.workflows import phonons_result as ended
from forcefield.workflows.crystal import Start, start_from
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.phonons_analysis import (
    band_structure,
    density_of_states,
    interpolated_mode,
    run_mesh,
    supercell_modes,
    thermal_properties,
    zero_point_energy,
)
from forcefield.workflows.phonons_follow import follow_mode
from forcefield.workflows.phonons_result import FollowStep, PhononResult
from forcefield.workflows.phonons_setup import (
    PhononOptions,
    compute_phonopy,
    from_phonopy_atoms,
    set_born_charges,
)

if TYPE_CHECKING:
    from phonopy import Phonopy

Born = str | Path | Mapping[str, Any]


def phonons(
    atoms: Any,
    calculator: Any = None,
    *,
    supercell_length: float = 20.0,
    supercell: tuple[int, int, int] | None = None,
    method: str = "displacements",
    displacement: float = 0.01,
    relaxation: str = "cell",
    fmax: float = 1.0e-4,
    smax: float = 0.01,
    steps: int = 1000,
    symmetry: bool = True,
    symprec: float = 0.01,
    mesh_length: float = 60.0,
    t_max: float = 1000.0,
    t_step: float = 10.0,
    tolerance: float = 0.05,
    born: Born | None = None,
    follow_imaginary: bool = False,
    follow_rounds: int = 3,
    store: ForceStore | None = None,
    callback: Callable[[int, int, int], None] | None = None,
) -> PhononResult:
    """Compute phonon bands, density of states, harmonic thermodynamics and imaginary modes of a crystal by phonopy.

    The crystal is relaxed, symmetry-distinct atoms of a supercell are displaced, the forces of the supercell at rest
    are taken off, and the force constants are made to obey translation and permutation. Phonopy: Togo et al.,
    https://doi.org/10.1088/1361-648X/acd831.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        supercell_length: shortest length of a supercell vector (Å), see `choose_supercell`.
        supercell: multiples of the cell's vectors instead.
        method: "displacements", or "hessian" for a calculator with ``get_hessian(atoms)``.
        displacement: of an atom (Å).
        relaxation: before: "cell" for atoms and cell, "positions" for a fixed cell, "none".
        fmax: largest force the relaxation accepts (eV/Å).
        smax: largest stress it accepts (GPa).
        steps: most steps of it.
        symmetry: keep the space group in it.
        symprec: distance within which atoms count as symmetry-equivalent in it (Å).
        mesh_length: length of the supercell as dense as the mesh of q-points for density of states and sums (Å).
        t_max: highest temperature (K); the lowest is 0.
        t_step: step of temperature (K).
        tolerance: size of an imaginary frequency that counts (THz).
        born: Born charges and dielectric tensor: a BORN file, or a mapping with "born" and "dielectric".
        follow_imaginary: displace along the lowest imaginary mode in a supercell that holds it, relax, and repeat.
        follow_rounds: most rounds of that.
        store: keeps forces and relaxed structures, for example in a file, so that an interrupted run can go on.
        callback: told before each supercell how many are done, of how many, with how many atoms.

    Returns:
        The result; `verdict` says whether the crystal is stable.

    Raises:
        ValueError: for a molecule or slab, impossible options, a relaxation that failed, a calculator without stress
            for "cell" or without Hessian for "hessian".
        ImportError: if phonopy or seekpath is not installed.
    """
    settings: dict[str, Any] = {
        **{"supercell_length": supercell_length, "supercell": supercell, "method": method, "relaxation": relaxation},
        **{"displacement": displacement, "fmax": fmax, "smax": smax, "steps": steps, "symmetry": symmetry},
        **{"symprec": symprec, "mesh_length": mesh_length, "t_max": t_max, "t_step": t_step, "tolerance": tolerance},
        **{"follow_imaginary": follow_imaginary, "follow_rounds": follow_rounds},
    }
    options = PhononOptions(**settings)
    instead, packages = "For the vibrations of a molecule use ase.vibrations.Vibrations.", ("phonopy", "seekpath")
    start = start_from(atoms, calculator, options, store, workflow="phonons", instead=instead, packages=packages)
    return _Study(options, start, callback).run(born)


class _Study:
    """Phonons of one crystal and of what its imaginary modes lead to, with the same calculator and options."""

    def __init__(self, options: PhononOptions, start: Start, callback: Callable[[int, int, int], None] | None) -> None:
        self.options = options
        self.start = start
        self.callback = callback
        self.notes = list(start.notes)

    def run(self, born: Born | None) -> PhononResult:
        """Compute, analyse and follow."""
        relaxed = self.start.atoms
        phonon = self._harmonic(relaxed)
        if born is not None:
            self.notes += set_born_charges(phonon, born)
        _, modes = supercell_modes(phonon, self.options.tolerance)
        followed, stable = self._follow(relaxed, phonon) if modes and self.options.follow_imaginary else ((), None)
        return self._sum_up(phonon, followed, stable)

    def _harmonic(self, atoms: Atoms) -> Phonopy:
        return compute_phonopy(atoms, self.start.calculator, self.options, self.start.store, self.callback)

    def _follow(self, atoms: Atoms, phonon: Phonopy) -> tuple[tuple[FollowStep, ...], Atoms | None]:
        """Go down along imaginary modes until there are none; give the rounds and the minimum, if one was reached."""
        rounds: list[FollowStep] = []
        for number in range(self.options.follow_rounds):
            _, modes = supercell_modes(phonon, self.options.tolerance)
            if not modes:
                break
            step, atoms = follow_mode(
                phonon, modes[0], self.start.calculator, self.options, self.start.store, f"round {number}"
            )
            phonon = self._harmonic(atoms)
            lowest, modes = supercell_modes(phonon, self.options.tolerance)
            rounds.append(step(lowest))
        return tuple(rounds), None if modes else atoms

    def _sum_up(self, phonon: Phonopy, followed: tuple[FollowStep, ...], stable: Atoms | None) -> PhononResult:
        lowest, modes = supercell_modes(phonon, self.options.tolerance)
        bands = band_structure(phonon)
        between = interpolated_mode(phonon, bands, self.options.tolerance)
        frequencies, weights = run_mesh(phonon, self.options.mesh_length)
        temperatures = np.arange(0.0, self.options.t_max + 0.5 * self.options.t_step, self.options.t_step)
        share = float((weights @ (frequencies < -self.options.tolerance)).mean())
        return PhononResult(
            atoms=self.start.atoms,
            verdict=_verdict(bool(modes), bool(between), followed, stable),
            warnings=tuple(self._warnings(share)),
            relaxation=self.start.relaxation,
            supercell_matrix=np.array(phonon.supercell_matrix).T,
            supercell_atoms=len(phonon.supercell),
            n_displacements=0 if self.options.method == "hessian" else len(phonon.displacements),
            primitive=from_phonopy_atoms(phonon.primitive),
            bands=bands,
            dos=density_of_states(phonon),
            thermal=thermal_properties(phonon, temperatures),
            zero_point_energy=zero_point_energy(frequencies, weights, len(phonon.primitive)),
            lowest_frequency=lowest,
            highest_frequency=float(max(frequencies.max(), *(part.max() for part in bands.frequencies))),
            imaginary=tuple(modes + between),
            imaginary_share=share,
            stable_structure=stable,
            followed=followed,
            options=self.options,
            phonopy=phonon,
        )

    def _warnings(self, share: float) -> list[str]:
        if share <= 0.0:
            return self.notes
        left_out = f"{100.0 * share:.2g} % of the modes are imaginary and left out of the thermal properties"
        return [*self.notes, left_out]


def _verdict(unstable: bool, between: bool, followed: tuple[FollowStep, ...], stable: Atoms | None) -> str:
    if followed:
        return ended.FOLLOWED if stable is not None else ended.FOLLOWED_IN_VAIN
    if unstable:
        return ended.UNSTABLE
    return ended.UNSURE if between else ended.STABLE
