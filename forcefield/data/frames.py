"""One labelled structure, and readers that stream them from files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """A structure with whatever labels it has; a missing label is None.

    Attributes:
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        cell: (3, 3) lattice vectors as rows (Å).
        pbc: (3,) periodic axes.
        energy: total energy (eV).
        forces: (atoms, 3) in eV/Å.
        stress: (6,) in eV/Å^3, ASE's sign and Voigt order xx yy zz yz xz xy.
        atomic_energies: (atoms,) a teacher's partition of the energy (eV).
        kind: what sort of frame this is (equilibrium, rattled, ...).
        material: identifies the material; splits are by material, never by frame.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    atomic_energies: NDArray[np.float64] | None = None
    kind: str = ""
    material: str = ""


def frame_from_atoms(atoms: ase.Atoms, *, kind: str = "", material: str = "") -> Frame:
    """A frame with the labels of the atoms' calculator (a `SinglePointCalculator` after reading a file)."""
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    stress = results.get("stress")
    return Frame(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=atoms.get_positions(),
        cell=np.array(atoms.cell, dtype=float),
        pbc=np.array(atoms.pbc, dtype=bool),
        energy=results.get("energy"),
        forces=results.get("forces"),
        stress=None if stress is None else np.asarray(stress, dtype=float),
        atomic_energies=results.get("energies"),
        kind=str(atoms.info.get("kind", kind)),
        material=str(atoms.info.get("material", material)),
    )


def read_compact(path: str | Path) -> Iterator[Frame]:
    """Frames of the compact archive: fractional coordinates in 1/65536, forces in meV/Å, atomic energies in meV.

    Args:
        path: a ``.npz`` with n_atoms, numbers, fractional, cell, energy, forces, stress, kind, kind_names, material,
            and possibly atomic_energies; all axes are periodic.

    Raises:
        ValueError: an array is missing.
    """
    archive = np.load(path)
    needed = (
        "n_atoms",
        "numbers",
        "fractional",
        "cell",
        "energy",
        "forces",
        "stress",
        "kind",
        "kind_names",
        "material",
    )
    missing = [name for name in needed if name not in archive.files]
    if missing:
        raise ValueError(f"{path} lacks the arrays {missing}; it is not a compact frame archive")
    data = {name: archive[name] for name in archive.files}
    ends = np.cumsum(data["n_atoms"].astype(np.int64))
    for k, end in enumerate(ends):
        rows = slice(end - int(data["n_atoms"][k]), end)
        cell = data["cell"][k].astype(float)
        yield Frame(
            numbers=data["numbers"][rows].astype(np.int64),
            positions=data["fractional"][rows].astype(float) / 65536.0 @ cell,
            cell=cell,
            pbc=np.ones(3, dtype=bool),
            energy=float(data["energy"][k]),
            forces=data["forces"][rows] * 1e-3,
            stress=data["stress"][k].astype(float),
            atomic_energies=data["atomic_energies"][rows] * 1e-3 if "atomic_energies" in data else None,
            kind=str(data["kind_names"][data["kind"][k]]),
            material=str(data["material"][k]),
        )
