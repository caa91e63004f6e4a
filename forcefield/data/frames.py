"""One labelled structure, and readers that stream them from files."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ase
import numpy as np
import numpy.lib.format as npy
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

COMPACT = ("n_atoms", "numbers", "fractional", "cell", "energy", "forces", "stress", "kind", "kind_names", "material")
"""Arrays of a compact archive."""


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
        magmoms: (atoms,) magnetic moments (Bohr magnetons).
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
    magmoms: NDArray[np.float64] | None = None


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
        magmoms=results.get("magmoms"),
    )


def atoms_from_frame(frame: Frame) -> ase.Atoms:
    """New atoms with the frame's labels as results of a `SinglePointCalculator`; kind and material are in ``info``."""
    atoms = ase.Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.info.update({name: getattr(frame, name) for name in ("kind", "material") if getattr(frame, name)})
    labels = {
        "energy": frame.energy,
        "free_energy": frame.energy,
        "energies": frame.atomic_energies,
        "forces": frame.forces,
        "stress": frame.stress,
        "magmoms": frame.magmoms,
    }
    known: dict[str, Any] = {
        name: float(value) if isinstance(value, (int, float)) else np.array(value)
        for name, value in labels.items()
        if value is not None
    }
    if known:
        atoms.calc = SinglePointCalculator(atoms, **known)
    return atoms


def read_compact(path: str | Path) -> Iterator[Frame]:
    """Frames of the compact archive, streamed: fractional coordinates in 1/65536, forces and atomic energies in meV.

    Args:
        path: a ``.npz`` with n_atoms, numbers, fractional, cell, energy, forces, stress, kind, kind_names, material,
            and possibly atomic_energies and pbc (else all axes are periodic). A label that is NaN is missing; the cell
            of a frame that is not periodic is only what its coordinates are fractions of.

    Raises:
        ValueError: an array is missing or too short.
    """
    with np.load(path) as archive, zipfile.ZipFile(path) as members:
        missing = [name for name in COMPACT if name not in archive.files]
        if missing:
            raise ValueError(f"{path} lacks the arrays {missing}; it is not a compact frame archive")
        per_frame = {name: archive[name] for name in ("n_atoms", "cell", "energy", "stress", "kind", "material")}
        kinds = archive["kind_names"]
        columns = ("numbers", "fractional", "forces", "atomic_energies")
        atoms = {name: _Rows(members, name) for name in columns if name in archive.files}
        periodic = archive["pbc"] if "pbc" in archive.files else np.ones((len(per_frame["n_atoms"]), 3), dtype=bool)
        for k, n in enumerate(per_frame["n_atoms"].astype(int)):
            cell = per_frame["cell"][k].astype(float)
            rows = {name: column.take(n) for name, column in atoms.items()}
            energy = float(per_frame["energy"][k])
            yield Frame(
                numbers=rows["numbers"].astype(np.int64),
                positions=rows["fractional"].astype(float) / 65536.0 @ cell,
                cell=cell if periodic[k].any() else np.zeros((3, 3)),
                pbc=periodic[k],
                energy=None if math.isnan(energy) else energy,
                forces=_known(rows["forces"] * 1e-3),
                stress=_known(per_frame["stress"][k].astype(float)),
                atomic_energies=_known(rows["atomic_energies"] * 1e-3) if "atomic_energies" in rows else None,
                kind=str(kinds[per_frame["kind"][k]]),
                material=str(per_frame["material"][k]),
            )


def _known(label: NDArray) -> NDArray | None:
    """The label, or None where every number of it is NaN; one that is NaN in parts is for others to refuse."""
    return None if np.isnan(label).all() else label


class _Rows:
    """An array of an ``.npz`` archive, unpacked a few rows at a time."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        self.file: IO[bytes] = archive.open(f"{name}.npy")
        version = npy.read_magic(self.file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, column_major, self.dtype = read_header(self.file)
        self.shape: tuple[int, ...] = shape[1:]
        if self.dtype.hasobject:
            raise ValueError(f"the array {name} must hold plain numbers")
        if column_major and len(shape) > 1:  # its rows are not together: the one array is unpacked as a whole
            with archive.open(f"{name}.npy") as file:
                self.file = io.BytesIO(np.ascontiguousarray(npy.read_array(file)).tobytes())

    def take(self, n: int) -> NDArray:
        content = self.file.read(n * self.dtype.itemsize * int(np.prod(self.shape)))
        rows = np.frombuffer(content, self.dtype)
        if rows.size != n * int(np.prod(self.shape)):
            raise ValueError(f"the array {self.name} has fewer rows than there are atoms")
        return rows.reshape(n, *self.shape)
