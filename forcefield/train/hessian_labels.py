"""Labels for a loss on second derivatives: products of the Hessian with random directions, from any calculator.

A product of the Hessian costs two force calls, whatever the size of the structure, and carries what potentials trained
on near-equilibrium frames get wrong most: the curvature, which comes out too soft. A direction may also strain the
cell, the atoms with it: the change of forces and stresses then tells of the elastic constants. The idea of training on
products is that of Koker et al., arXiv:2601.07742; strains and finite-difference labels are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from numpy.typing import NDArray

FORMAT = 2
ARRAYS = ("n_atoms", "numbers", "positions", "cell", "pbc", "directions", "products")
STRAIN_ARRAYS = ("strains", "virials")  # not in format 1
STRAIN_SIZE = 0.3
"""Frobenius norm of a strain direction: neighbours 3 Å apart move by about half an ångström."""


@dataclass(frozen=True)
class HessianLabels:
    """Structures with directions and the products of their Hessians with them.

    Attributes:
        n_atoms: (structures,) atoms of each structure; further arrays hold the atoms of all structures in a row.
        numbers: (atoms,) atomic numbers.
        positions: (atoms, 3) in Å.
        cell: (structures, 3, 3) lattice vectors as rows (Å).
        pbc: (structures, 3) periodic axes.
        directions: (directions, atoms, 3) without unit, root mean square near one; zero where the cell is strained.
        products: (directions, atoms, 3), Hessian times direction in eV/Å^2: minus the change of the forces.
        strains: (directions, structures, 3, 3), symmetric; zero where a displacement is the direction.
        virials: (directions, structures, 3, 3), change of volume times stress over the volume, in eV/Å^3; NaN where
            the calculator has no stress or not all axes are periodic.
    """

    n_atoms: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    directions: NDArray[np.float64]
    products: NDArray[np.float64]
    strains: NDArray[np.float64]
    virials: NDArray[np.float64]

    def atoms(self, k: int) -> ase.Atoms:
        """One structure."""
        rows = self.rows(k)
        return ase.Atoms(self.numbers[rows], self.positions[rows], cell=self.cell[k], pbc=self.pbc[k])

    def rows(self, k: int) -> slice:
        """Where the atoms of a structure are."""
        end = int(self.n_atoms[: k + 1].sum())
        return slice(end - int(self.n_atoms[k]), end)


def random_directions(n_atoms: int, count: int, *, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """(count, atoms, 3) normally distributed displacements without a net translation, root mean square one."""
    drawn = np.random.default_rng(seed).normal(size=(count, n_atoms, 3))
    if n_atoms > 1:
        drawn -= drawn.mean(axis=1, keepdims=True)
    return drawn / np.sqrt((drawn**2).mean(axis=(1, 2), keepdims=True))


def random_strains(count: int, *, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """(count, 3, 3) symmetric, normally distributed, of Frobenius norm `STRAIN_SIZE`."""
    drawn = np.random.default_rng((*seed, 1)).normal(size=(count, 3, 3))
    drawn = drawn + drawn.transpose(0, 2, 1)
    return STRAIN_SIZE * drawn / np.linalg.norm(drawn, axis=(1, 2), keepdims=True)


def hessian_products(
    atoms: ase.Atoms, calculator: Any, directions: NDArray[np.float64], *, displacement: float
) -> NDArray[np.float64]:
    """Hessian times directions by central differences of forces.

    Args:
        atoms: the structure, not changed.
        calculator: an ASE calculator.
        directions: (directions, atoms, 3).
        displacement: step along a direction (Å for a direction of root mean square one).

    Returns:
        (directions, atoms, 3) in eV/Å^2.
    """
    strains = np.zeros((len(directions), 3, 3))
    return strained_products(atoms, calculator, directions, strains, displacement=displacement, stress=False)[0]


def strained_products(
    atoms: ase.Atoms,
    calculator: Any,
    directions: NDArray[np.float64],
    strains: NDArray[np.float64],
    *,
    displacement: float,
    stress: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Changes of forces and virial along displacements and strains, by central differences.

    Args:
        atoms: the structure, not changed.
        calculator: an ASE calculator.
        directions: (directions, atoms, 3).
        strains: (directions, 3, 3).
        displacement: step along a direction.
        stress: ask for stresses, too.

    Returns:
        (directions, atoms, 3), minus the change of the forces, and (directions, 3, 3), the change of volume times
        stress over the volume, NaN without stresses; both over the step.
    """
    work = atoms.copy()
    work.calc = calculator
    products, virials = [], []
    for direction, strain in zip(directions, strains, strict=True):
        forces, virial = [], []
        for step in (displacement, -displacement):
            deformation = np.eye(3) + step * strain
            work.set_cell(atoms.cell.array @ deformation)
            work.positions = atoms.positions @ deformation + step * direction
            forces.append(np.array(work.get_forces(), dtype=float))
            tensor = work.get_stress(voigt=False) * work.get_volume() if stress else np.full((3, 3), np.nan)
            virial.append(tensor)
        products.append((forces[1] - forces[0]) / (2 * displacement))
        virials.append((virial[0] - virial[1]) / (2 * displacement * (atoms.get_volume() if stress else 1.0)))
    return np.array(products).reshape(-1, len(atoms), 3), np.array(virials).reshape(-1, 3, 3)


def label_hessians(
    structures: Iterable[ase.Atoms],
    calculator: Any,
    *,
    directions: int,
    strains: int = 0,
    displacement: float = 0.005,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> HessianLabels:
    """Label structures; what comes out depends on the seed and each structure's place alone.

    Args:
        structures: crystals, slabs, molecules.
        calculator: an ASE calculator, the teacher.
        directions: random displacements for each structure.
        strains: random strains besides, for structures that are periodic along all three axes; the others, and those
            of calculators without stress, get as many more displacements.
        displacement: step of the finite differences (Å, root mean square; 0.3 of it is the norm of a strain).
        seed: of the directions.
        progress: told how many structures are done.

    Raises:
        ValueError: there is no structure, or a product is not finite.
    """
    if directions + strains < 1 or min(directions, strains) < 0 or not displacement > 0:
        raise ValueError(
            f"directions is {directions}, strains {strains} and displacement {displacement}; "
            "the first two must not be negative, their sum and the step must be positive"
        )
    has_stress = "stress" in getattr(calculator, "implemented_properties", ())
    kept: list[ase.Atoms] = []
    drawn, applied, products, virials = [], [], [], []
    for k, atoms in enumerate(structures):
        drawn.append(random_directions(len(atoms), directions + strains, seed=(seed, k)))
        applied.append(np.zeros((directions + strains, 3, 3)))
        stress = has_stress and bool(atoms.pbc.all())
        if stress and strains:
            drawn[-1][directions:] = 0.0
            applied[-1][directions:] = random_strains(strains, seed=(seed, k))
        found = strained_products(atoms, calculator, drawn[-1], applied[-1], displacement=displacement, stress=stress)
        products.append(found[0])
        virials.append(found[1])
        if not np.isfinite(products[-1]).all():
            raise ValueError(f"structure {k} ({atoms.get_chemical_formula()}) got forces that are not finite")
        kept.append(atoms)
        if progress is not None:
            progress(k + 1)
    if not kept:
        raise ValueError("there is no structure to label")
    return HessianLabels(
        n_atoms=np.array([len(atoms) for atoms in kept], dtype=np.int64),
        numbers=np.concatenate([atoms.numbers for atoms in kept]).astype(np.int64),
        positions=np.concatenate([atoms.positions for atoms in kept]),
        cell=np.array([atoms.cell.array for atoms in kept]),
        pbc=np.array([atoms.pbc for atoms in kept]),
        directions=np.concatenate(drawn, axis=1),
        products=np.concatenate(products, axis=1),
        strains=np.stack(applied, axis=1),
        virials=np.stack(virials, axis=1),
    )


def write_hessian_labels(path: str | Path, labels: HessianLabels) -> Path:
    """Write labels as ``.npz``; the file appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, format=FORMAT, **vars(labels))
    partial.replace(path)
    return path


def read_hessian_labels(path: str | Path) -> HessianLabels:
    """Read labels.

    Raises:
        ValueError: the file cannot be read, is of another format, lacks an array, or arrays do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as Hessian labels ({error})") from error
    missing = [name for name in ("format", *ARRAYS) if name not in data]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; `forcefield data hessian` makes Hessian labels")
    if int(data["format"]) not in range(1, FORMAT + 1):
        raise ValueError(f"{path} has format {int(data['format'])}, this version of the package reads up to {FORMAT}")
    size = (data["directions"].shape[0], len(data["n_atoms"]), 3, 3)
    old = {"strains": np.zeros(size), "virials": np.full(size, np.nan)}
    labels = HessianLabels(
        **{name: data[name] for name in ARRAYS}, **{name: data.get(name, old[name]) for name in STRAIN_ARRAYS}
    )
    n = int(labels.n_atoms.sum())
    shape = (labels.directions.shape[0], n, 3)
    fits = labels.numbers.shape == (n,) and labels.directions.shape == shape and labels.products.shape == shape
    if not fits or labels.strains.shape != size or labels.virials.shape != size:
        raise ValueError(f"{path} holds arrays that do not fit together; make it again")
    if not np.isfinite(labels.products).all():
        raise ValueError(f"{path} holds products that are not finite; make it again")
    return labels
