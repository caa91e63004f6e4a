"""Write every file of this folder, and the table in its README, from the numbers in `experiment.json`.

    python examples/structures/write_structures.py
    python examples/structures/write_structures.py --output copies

A crystal is given there by its space group, cell and symmetry-distinct sites; the CIF files carry exactly these, the
other formats the whole cell. Surfaces are cut from those crystals; chains and molecules are built from bond lengths and
angles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import fcc111, molecule, nanotube, surface
from ase.io import write
from ase.spacegroup import Spacegroup, crystal

FOLDER = Path(__file__).parent
CELL = ("a", "b", "c", "alpha", "beta", "gamma")
README_MARKS = ("<!-- table begins -->", "<!-- table ends -->")
VACUUM = 10.0  # Å on each side of a slab or tube


def load_entries(path: Path = FOLDER / "experiment.json") -> dict[str, dict[str, Any]]:
    """Read what is known of each file: formula, space group, cell (Å, degrees), sites, temperature (K), source."""
    return json.loads(path.read_text(encoding="utf-8"))


def site_coordinates(site: list[Any]) -> list[float]:
    """Fractional coordinates of one site; a text such as "1/3" is an exact fraction."""
    return [float(Fraction(value)) for value in site[1:]]


def build_crystal(entry: dict[str, Any]) -> Atoms:
    """The whole conventional cell of a crystal from its symmetry-distinct sites."""
    return crystal(
        symbols=[site[0] for site in entry["sites"]],
        basis=[site_coordinates(site) for site in entry["sites"]],
        spacegroup=entry["spacegroup"],
        setting=entry.get("setting", 1),
        cellpar=[entry[name] for name in CELL],
        onduplicates="error",
    )


def operation_text(rotation: np.ndarray, translation: np.ndarray) -> str:
    """A symmetry operation as CIF writes it, for instance "-y,x-y,z+1/3"."""
    rows = []
    for row, shift in zip(rotation, translation, strict=True):
        text = "".join(f"{'-' if factor < 0 else '+'}{axis}" for factor, axis in zip(row, "xyz", strict=True) if factor)
        fraction = Fraction(float(shift)).limit_denominator(24)
        rows.append(text.lstrip("+") + (f"+{fraction}" if fraction else ""))
    return ",".join(rows)


def cif_text(name: str, entry: dict[str, Any]) -> str:
    """A CIF with the cell, all symmetry operations and the symmetry-distinct sites."""
    group = Spacegroup(entry["spacegroup"], setting=entry.get("setting", 1))
    suffix = {"R": " :H"}.get(entry["symbol"][0], " :2" if group.setting == 2 else "")
    citation = entry["source"] + (f"; doi:{entry['doi']}" if "doi" in entry else "")
    elements = sorted(build_crystal(entry).symbols.formula.reduce()[0].count().items())
    formula = " ".join(f"{element}{count if count > 1 else ''}" for element, count in elements)
    lines = [
        f"data_{name.split('.')[0]}",
        f"_chemical_formula_sum '{formula}'",
        f"_cell_measurement_temperature {entry['temperature_K']}",
        f"_publ_section_references\n;\n{citation}\n;",
        *(f"_cell_length_{axis} {entry[axis]}" for axis in "abc"),
        *(f"_cell_angle_{angle} {entry[angle]}" for angle in ("alpha", "beta", "gamma")),
        f"_space_group_name_H-M_alt '{group.symbol}{suffix}'",
        f"_space_group_IT_number {entry['spacegroup']}",
        "loop_\n_space_group_symop_operation_xyz",
        *(f"'{operation_text(*operation)}'" for operation in group.get_symop()),
        "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z",
    ]
    for number, site in enumerate(entry["sites"], start=1):
        coordinates = " ".join(f"{value:.10f}" for value in site_coordinates(site))
        lines.append(f"{site[0]}{number} {site[0]} {coordinates}")
    return "\n".join(lines) + "\n"


def aluminium_slab() -> Atoms:
    """Six layers of Al(111), one atom each, periodic in the plane only."""
    slab = fcc111("Al", (1, 1, 6), a=load_entries()["Al.cif"]["a"], vacuum=VACUUM)
    slab.pbc = (True, True, False)
    return slab


def magnesia_slab() -> Atoms:
    """Four layers of MgO(100), periodic in the plane only."""
    slab = surface(build_crystal(load_entries()["MgO.cif"]), (1, 0, 0), layers=2, vacuum=VACUUM)
    slab.pbc = (True, True, False)
    return slab


def polyethylene_chain(
    repeat: float = 2.534, carbon: float = 1.53, hydrogen: float = 1.09, angle: float = 107.0
) -> Atoms:
    """The planar zigzag chain -CH2-CH2- along x: repeat, C-C and C-H distances in Å, H-C-H angle in degrees."""
    half_width = 0.5 * np.sqrt(carbon**2 - (repeat / 2) ** 2)
    along, across = hydrogen * np.cos(np.radians(angle / 2)), hydrogen * np.sin(np.radians(angle / 2))
    positions = []
    for x, side in ((0.0, 1.0), (repeat / 2, -1.0)):
        y = side * half_width
        positions += [(x, y, 0.0), (x, y + side * along, across), (x, y + side * along, -across)]
    return Atoms("CH2CH2", positions=positions, cell=[repeat, 0.0, 0.0], pbc=(True, False, False))


def carbon_nanotube() -> Atoms:
    """One period of a (6, 0) carbon nanotube along z."""
    return nanotube(6, 0, length=1, bond=1.42, vacuum=VACUUM)


def water_molecule(distance: float = 0.9572, angle: float = 104.52) -> Atoms:
    """H2O from its O-H distance (Å) and H-O-H angle (degrees)."""
    y, z = distance * np.sin(np.radians(angle / 2)), distance * np.cos(np.radians(angle / 2))
    return Atoms("OH2", positions=[(0.0, 0.0, 0.0), (0.0, y, z), (0.0, -y, z)])


BUILDERS: dict[str, Callable[[], Atoms]] = {
    "Al111_slab.extxyz": aluminium_slab,
    "MgO100_slab.extxyz": magnesia_slab,
    "polyethylene_chain.extxyz": polyethylene_chain,
    "carbon_nanotube.extxyz": carbon_nanotube,
    "H2O.xyz": water_molecule,
    "ethanol.xyz": lambda: molecule("CH3CH2OH"),
    "Ar.xyz": lambda: Atoms("Ar", positions=[(0.0, 0.0, 0.0)]),
}


def write_entry(folder: Path, name: str, entry: dict[str, Any]) -> None:
    """Write one structure in the format its file name asks for."""
    path = folder / name
    if path.suffix == ".cif":
        path.write_text(cif_text(name, entry), encoding="utf-8")
        return
    atoms = build_crystal(entry) if entry["kind"] == "crystal" else BUILDERS[name]()
    atoms.info, atoms.constraints = {}, []
    formats: dict[str, dict[str, Any]] = {
        ".POSCAR": {"format": "vasp", "direct": True, "vasp5": True},
        ".extxyz": {"format": "extxyz", "columns": ["symbols", "positions"]},
        ".xyz": {"format": "xyz", "comment": entry["source"], "fmt": "%16.8f"},
        ".xsf": {"format": "xsf"},
    }
    write(path, atoms, **formats[path.suffix])


def table(entries: dict[str, dict[str, Any]]) -> str:
    """The list of all files as Markdown."""
    head = ["file", "formula", "space group", "a, b, c (Å); angles (°)", "T (K)", "source"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for name, entry in entries.items():
        source = entry["source"] + (f" [doi](https://doi.org/{entry['doi']})" if "doi" in entry else "")
        if entry["kind"] == "crystal":
            group = f"{entry['symbol']} ({entry['spacegroup']})"
            cell = ", ".join(f"{entry[axis]:g}" for axis in "abc")
            angles = ", ".join(f"{entry[angle]:g}" for angle in ("alpha", "beta", "gamma"))
            cells, temperature = f"{cell}; {angles}", f"{entry['temperature_K']:g}"
        else:
            periodic = " ".join("T" if axis else "F" for axis in entry["pbc"])
            group, cells, temperature = entry["kind"], f"periodic {periodic}", ""
        lines.append(f"| `{name}` | {entry['formula']} | {group} | {cells} | {temperature} | {source} |")
    return "\n".join(lines)


def update_readme(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Put the table between the two marks of the README."""
    head, rest = path.read_text(encoding="utf-8").split(README_MARKS[0])
    tail = rest.split(README_MARKS[1])[1]
    path.write_text(f"{head}{README_MARKS[0]}\n{table(entries)}\n{README_MARKS[1]}{tail}", encoding="utf-8")


def main() -> None:
    """Write all structures, and the README table when they go into this folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    entries = load_entries()
    for name, entry in entries.items():
        write_entry(folder, name, entry)
    if folder.resolve() == FOLDER.resolve():
        update_readme(FOLDER / "README.md", entries)
    print(f"{len(entries)} structures written to {folder}")


if __name__ == "__main__":
    main()
