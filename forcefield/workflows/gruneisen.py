"""How phonon frequencies answer to the volume: `gruneisen_parameters(structure, calculator)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.workflows.crystal import start_from
from forcefield.workflows.equation_fit import Array
from forcefield.workflows.equation_of_state import EquationOptions, scan_volumes
from forcefield.workflows.force_store import ForceStore
from forcefield.workflows.phonons_analysis import SMALLEST_FREQUENCY, mode_heat_capacity, run_mesh, supercell_modes
from forcefield.workflows.phonons_setup import PhononOptions, compute_phonopy, options_at_volumes

COMPLETE = "complete"
UNSTABLE = "imaginary modes"


@dataclass(frozen=True)
class GruneisenResult:
    """Grüneisen parameters γ = -d ln ω / d ln V of a crystal.

    Attributes:
        atoms: the crystal in the middle.
        verdict: "complete", or "imaginary modes" where some are left out.
        warnings: what else to know, one sentence each.
        qpoints: (points, 3) of the mesh, in units of the primitive reciprocal vectors.
        weights: (points,), their sum is one.
        frequencies: (points, bands) in THz.
        parameters: (points, bands); not a number (None in JSON) for modes that do not vibrate.
        temperatures: (temperatures,) K.
        mean: (temperatures,), weighted by the modes' heat capacities; at 0 K that of the lowest temperature above.
        volume_change: relative change of the volume, both ways.
        options: of the phonons.
    """

    atoms: Atoms
    verdict: str
    warnings: tuple[str, ...]
    qpoints: Array
    weights: Array
    frequencies: Array
    parameters: Array
    temperatures: Array
    mean: Array
    volume_change: float
    options: PhononOptions

    def to_dict(self) -> dict[str, Any]:
        """Give everything, for JSON by `forcefield.workflows.outcome.plain`."""
        return {"formula": self.atoms.get_chemical_formula(), "ok": self.verdict == COMPLETE, **vars(self)}


def gruneisen_parameters(
    atoms: Any,
    calculator: Any = None,
    *,
    volume_change: float = 0.01,
    store: ForceStore | None = None,
    callback: Callable[[str], None] | None = None,
    **phonon_options: Any,
) -> GruneisenResult:
    """Compute mode Grüneisen parameters by phonopy from the phonons at three volumes, atoms relaxed at each.

    Args:
        atoms: a crystal as `ase.Atoms` or pymatgen `Structure`.
        calculator: an ASE calculator; None takes the one attached, else the default model in float64.
        volume_change: relative change of the volume, both ways.
        store: keeps forces and structures, for example in a file, so that an interrupted run can go on.
        callback: told in words what is done next.
        phonon_options: further options of `phonons`, as for `quasi_harmonic`.

    Raises:
        ValueError: as `phonons`, and for an impossible change of the volume.
        ImportError: if phonopy is not installed.
    """
    if not 0.0 < volume_change <= 0.1:
        raise ValueError(f"volume_change is {volume_change}, but must lie between 0 and 0.1.")
    options = options_at_volumes("gruneisen_parameters", phonon_options)
    what, instead = "Grüneisen parameters", "A molecule or slab has no volume."
    start = start_from(atoms, calculator, options, store, workflow=what, instead=instead, packages=["phonopy"])
    settings = EquationOptions(**options.relaxation_options())
    factors = np.array([1.0, 1.0 + volume_change, 1.0 - volume_change])
    phonopys = []
    for number, crystal in enumerate(scan_volumes(start, settings, factors=factors)):
        if callback is not None:
            callback(f"phonons at volume {number + 1} of 3")
        phonopys.append(compute_phonopy(crystal, start.calculator, options, start.store))
    unstable = any(supercell_modes(phonon, options.tolerance)[1] for phonon in phonopys)
    if unstable:
        start.notes.append("modes that are imaginary at one of the volumes have no meaningful parameter; see `phonons`")
    return _sum_up(start.atoms, phonopys, volume_change, unstable, options, start.notes)


def _sum_up(
    start: Atoms,
    phonopys: list[Any],
    volume_change: float,
    unstable: bool,
    options: PhononOptions,
    notes: list[str],
) -> GruneisenResult:
    from phonopy import PhonopyGruneisen

    study = PhonopyGruneisen(*phonopys)
    run_mesh(phonopys[0], options.mesh_length)
    study.set_mesh(phonopys[0].mesh.mesh_numbers, is_gamma_center=True)
    found = study.get_mesh()
    assert found is not None
    qpoints, counts, frequencies, _, parameters = found
    weights = np.array(counts, dtype=float) / np.sum(counts)
    parameters = np.where(frequencies > SMALLEST_FREQUENCY, parameters, np.nan)
    temperatures = np.arange(0.0, options.t_max + 0.5 * options.t_step, options.t_step)
    return GruneisenResult(
        atoms=start,
        verdict=UNSTABLE if unstable else COMPLETE,
        warnings=tuple(notes),
        qpoints=np.array(qpoints),
        weights=weights,
        frequencies=np.array(frequencies),
        parameters=parameters,
        temperatures=temperatures,
        mean=_mean(frequencies, parameters, weights, temperatures),
        volume_change=volume_change,
        options=options,
    )


def _mean(frequencies: Array, parameters: Array, weights: Array, temperatures: Array) -> Array:
    """Weight the parameters by heat capacity at each temperature."""
    values = np.nan_to_num(parameters)
    means = []
    for temperature in temperatures:
        shares = weights[:, None] * mode_heat_capacity(frequencies, max(temperature, temperatures[1]))
        means.append((shares * values).sum() / shares.sum())
    return np.array(means)
