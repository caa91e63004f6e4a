"""Reference values for `benchmarks/properties.py`: crystals with what is known of them, from a folder of public data.

The folder holds `elastic_tensors.extxyz` (Materials Project, M. de Jong et al., Sci. Data 2, 150009 (2015),
https://doi.org/10.1038/sdata.2015.9), `eos_acwf_vasp.extxyz` (E. Bosoni et al., Nat. Rev. Phys. 6, 45 (2024),
https://doi.org/10.1038/s42254-023-00655-3), `matbench_phonons.extxyz` (G. Petretto et al., Sci. Data 5, 180065 (2018),
https://doi.org/10.1038/sdata.2018.65) and the experimental bulk moduli and lattice constants gathered by JARVIS
(K. Choudhary et al., npj Comput. Mater. 6, 173 (2020), https://doi.org/10.1038/s41524-020-00440-1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import iread

from forcefield.workflows.equation_fit import fit_equation

PROPERTIES = ("elastic", "eos", "phonons", "experiment")
LABELS = {
    "elastic": "DFT (PBE, GGA+U for some oxides), Materials Project",
    "eos": "DFT (VASP, PBE without spin), ACWF verification set: elements and oxides in ten prototypes each",
    "phonons": "DFPT (ABINIT, PBEsol), Materials Project; the highest peak of the density of states",
    "experiment": "experiment, as gathered by JARVIS; models give the static lattice, without temperature",
}

# Compounds of the experimental list whose structure the formula settles: prototype and a rough lattice constant (Å)
# to start from. Oxides with several polymorphs are left out; elements are taken as in ASE's table.
COMPOUNDS = {
    **{"LiF": ("rocksalt", 4.03), "NaF": ("rocksalt", 4.63), "LiCl": ("rocksalt", 5.14), "NaCl": ("rocksalt", 5.64)},
    **{"MgO": ("rocksalt", 4.21), "CaO": ("rocksalt", 4.81), "SrO": ("rocksalt", 5.16), "BaO": ("rocksalt", 5.52)},
    **{"MnO": ("rocksalt", 4.44), "NiO": ("rocksalt", 4.18), "CoO": ("rocksalt", 4.26)},
    **{"BP": ("zincblende", 4.54), "SiC": ("zincblende", 4.36), "GaAs": ("zincblende", 5.65)},
}


@dataclass(frozen=True)
class Reference:
    """A crystal and what is known of it.

    Attributes:
        key: its name in the source.
        atoms: the cell to start from.
        values: known values by quantity; units are those of `properties_tasks.QUANTITIES`.
        tensor: (6, 6) elastic tensor (GPa), where there is one.
    """

    key: str
    atoms: Atoms
    values: dict[str, float]
    tensor: np.ndarray | None = None


def load_references(kind: str, folder: Path) -> list[Reference]:
    """Read every reference of a property.

    Raises:
        ValueError: for an unknown property or a folder without its file.
    """
    readers = {"elastic": _elastic, "eos": _equations, "phonons": _phonons, "experiment": _experiment}
    if kind not in readers:
        raise ValueError(f"The property is {kind!r}, but must be one of {', '.join(PROPERTIES)}.")
    try:
        return readers[kind](folder)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} does not hold the references of {kind!r}: {error}") from error


def sample(
    references: Sequence[Reference], number: int, *, seed: int, most_atoms: int, elements: Sequence[int] | None
) -> list[Reference]:
    """Draw crystals at random; a larger number with the same seed holds those of a smaller one.

    Args:
        references: to draw from.
        number: how many.
        seed: of the draw.
        most_atoms: larger cells are left out.
        elements: atomic numbers that the calculator knows, so that others are left out; None keeps all.
    """
    known = None if elements is None else set(elements)
    fitting = [
        reference
        for reference in sorted(references, key=lambda reference: reference.key)
        if len(reference.atoms) <= most_atoms and (known is None or known.issuperset(reference.atoms.numbers.tolist()))
    ]
    order = np.random.default_rng(seed).permutation(len(fitting))
    return [fitting[k] for k in order[:number]]


def _elastic(folder: Path) -> list[Reference]:
    found = []
    for atoms in iread(folder / "elastic_tensors.extxyz"):
        values = {"bulk modulus": float(atoms.info["K_VRH"]), "shear modulus": float(atoms.info["G_VRH"])}
        values["volume"] = atoms.get_volume() / len(atoms)
        tensor = np.array(atoms.info["elastic_tensor"], dtype=float)
        found.append(Reference(str(atoms.info["material_id"]), _bare(atoms), values, tensor))
    return found


def _equations(folder: Path) -> list[Reference]:
    """Fit the DFT energies as the model's are, by Birch and Murnaghan."""
    scans: dict[str, list[Atoms]] = {}
    for atoms in iread(folder / "eos_acwf_vasp.extxyz"):
        scans.setdefault(f"{atoms.info['key']} ({atoms.info['kind']})", []).append(atoms)
    found = []
    for key, scan in scans.items():
        volumes = np.array([atoms.get_volume() for atoms in scan])
        fit = fit_equation(volumes, np.array([atoms.get_potential_energy() for atoms in scan]))
        nearest = scan[int(np.argmin(np.abs(volumes - fit.volume)))]
        values = {"volume": fit.volume / len(nearest), "bulk modulus": fit.bulk_modulus}
        found.append(Reference(key, _bare(nearest), values))
    return found


def _phonons(folder: Path) -> list[Reference]:
    found = []
    for number, atoms in enumerate(iread(folder / "matbench_phonons.extxyz")):
        key = f"{number} {atoms.get_chemical_formula(empirical=True)}"
        found.append(Reference(key, _bare(atoms), {"highest phonon peak": float(atoms.info["last_phdos_peak_cm-1"])}))
    return found


def _experiment(folder: Path) -> list[Reference]:
    moduli = json.loads((folder / "jarvis_bulk_modulus_exp.json").read_text(encoding="utf-8"))
    split = json.loads((folder / "jarvis_dft_3d_cubic_lattice_param_a.json").read_text(encoding="utf-8"))
    lengths = {**split["train"], **split["test"]}
    found = []
    for entry in moduli:
        formula, values = entry["formula"], {"bulk modulus": float(entry["bulk_modulus_exp_GPa"])}
        atoms = _prototype(formula)
        if atoms is None:
            continue
        if entry["jid"] in lengths:
            values["lattice constant"] = float(lengths[entry["jid"]])
        found.append(Reference(f"{entry['jid']} {formula}", atoms, values))
    return found


def _prototype(formula: str) -> Atoms | None:
    """Build the crystal that a formula means, or none where it may mean several."""
    if formula in COMPOUNDS:
        structure, a = COMPOUNDS[formula]
        return bulk(formula, structure, a=a)
    alone = len(Atoms(formula)) == 1
    return bulk(formula) if alone else None


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
