"""The files of `examples/structures` say what their table says, and the lattice benchmark reads them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.formula import Formula
from ase.io import read
from ase.neighborlist import neighbor_list

from forcefield.workflows import find_space_group

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "structures"
ENTRIES: dict[str, dict[str, Any]] = json.loads((FOLDER / "experiment.json").read_text(encoding="utf-8"))
CRYSTALS = [name for name, entry in ENTRIES.items() if entry["kind"] == "crystal"]
CELL = ("a", "b", "c", "alpha", "beta", "gamma")


def load_script(path: Path) -> ModuleType:
    """Import a script that is in no package, under a name that hides nothing else."""
    specification = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    return load_script(FOLDER / "write_structures.py")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "lattice_parameters.py")


def composition(formula: str) -> dict[str, int]:
    """Smallest whole numbers of atoms of each element."""
    return Formula(formula).reduce()[0].count()


def shortest_contact(atoms: Atoms) -> float:
    """Smallest distance between two atoms (images included) over the sum of their covalent radii."""
    first, second, distances = neighbor_list("ijd", atoms, 4.0)
    radii = covalent_radii[atoms.numbers]
    return float((distances / (radii[first] + radii[second])).min(initial=np.inf))


def test_table_lists_exactly_the_files_of_the_folder() -> None:
    others = {"README.md", "experiment.json", "write_structures.py"}
    files = {path.name for path in FOLDER.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert files - others == set(ENTRIES)


def test_there_is_one_of_each_kind_asked_for() -> None:
    assert len(CRYSTALS) >= 20
    assert {entry["kind"] for entry in ENTRIES.values()} == {"crystal", "slab", "chain", "molecule", "atom"}
    assert {entry["bonding"] for entry in ENTRIES.values() if "bonding" in entry} == {
        "compound",
        "metal",
        "layered",
        "molecular",
    }
    assert {Path(name).suffix for name in ENTRIES} >= {".cif", ".POSCAR", ".extxyz", ".xyz"}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_is_complete(name: str) -> None:
    entry = ENTRIES[name]
    assert entry["formula"] and entry["source"]
    if entry["kind"] != "crystal":
        assert len(entry["pbc"]) == 3 and not all(entry["pbc"])
        return
    assert all(2.0 < entry[length] < 35.0 for length in CELL[:3])
    assert all(60.0 <= entry[angle] <= 120.0 for angle in CELL[3:])
    assert 0.0 < entry["temperature_K"] < 310.0
    assert entry["sites"] and all(len(site) == 4 for site in entry["sites"])
    assert "doi" not in entry or entry["doi"].startswith("10.")


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystal_file_has_the_cell_formula_and_space_group_of_the_table(name: str) -> None:
    entry, atoms = ENTRIES[name], read(FOLDER / name)
    assert atoms.pbc.all()
    assert composition(str(atoms.symbols)) == composition(entry["formula"])
    np.testing.assert_allclose(atoms.cell.cellpar(), [entry[parameter] for parameter in CELL], atol=1e-6)
    group = find_space_group(atoms, symprec=1e-4)
    assert group is not None and (group.symbol, group.number) == (entry["symbol"], entry["spacegroup"])


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in CRYSTALS])
def test_other_file_has_the_formula_and_periodic_axes_of_the_table(name: str) -> None:
    entry, atoms = ENTRIES[name], read(FOLDER / name)
    assert composition(str(atoms.symbols)) == composition(entry["formula"])
    assert atoms.pbc.tolist() == entry["pbc"]


@pytest.mark.parametrize("name", ENTRIES)
def test_no_atoms_overlap(name: str) -> None:
    assert shortest_contact(read(FOLDER / name)) > 0.65  # alpha-uranium has 0.70, far below all others


@pytest.mark.parametrize(
    ("name", "pair", "distance", "neighbours"),
    [
        ("NaCl.cif", "NaCl", 2.820, 6),
        ("diamond.cif", "CC", 1.545, 4),
        ("LiFePO4.cif", "PO", 1.54, 4),
        ("SiO2_quartz.cif", "SiO", 1.61, 4),
        ("CaCO3.cif", "CO", 1.28, 3),
        ("MgAl2O4.cif", "AlO", 1.93, 6),
        ("MgAl2O4.cif", "MgO", 1.92, 4),
        ("MoS2.cif", "MoS", 2.42, 6),
        ("CO2.cif", "CO", 1.16, 2),
        ("TiO2_anatase.cif", "TiO", 1.95, 6),
        ("Mg2SiO4.cif", "SiO", 1.63, 4),
    ],
)
def test_bonds_are_those_known(name: str, pair: str, distance: float, neighbours: int) -> None:
    atoms = read(FOLDER / name)
    centre, other = Formula(pair).count() if pair != "CC" else ("C", "C")
    symbols = np.array(atoms.get_chemical_symbols())
    first, second, distances = neighbor_list("ijd", atoms, 1.15 * distance)
    bonds = (symbols[first] == centre) & (symbols[second] == other)
    assert bonds.sum() == neighbours * (symbols == centre).sum()
    assert distances[bonds].mean() == pytest.approx(distance, abs=0.02)


def test_files_and_readme_are_what_the_script_writes(writer: ModuleType, tmp_path: Path) -> None:
    for name, entry in ENTRIES.items():
        writer.write_entry(tmp_path, name, entry)
        written, kept = read(tmp_path / name), read(FOLDER / name)
        assert written.get_chemical_symbols() == kept.get_chemical_symbols()
        np.testing.assert_allclose(written.positions, kept.positions, atol=1e-7)
        np.testing.assert_allclose(written.cell.array, kept.cell.array, atol=1e-7)
    assert writer.table(ENTRIES) in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")  # whatever pymatgen says of its own dependencies
@pytest.mark.parametrize("name", [name for name in CRYSTALS if name.endswith(".cif")])
def test_pymatgen_reads_the_same_crystal(name: str) -> None:
    core = pytest.importorskip("pymatgen.core")
    structure, atoms = core.Structure.from_file(FOLDER / name), read(FOLDER / name)
    assert len(structure) == len(atoms)
    assert structure.volume == pytest.approx(atoms.get_volume())
    assert structure.composition.reduced_composition.as_dict() == composition(str(atoms.symbols))


def test_benchmark_relaxes_metals_and_reports_what_a_calculator_refuses(benchmark: ModuleType, tmp_path: Path) -> None:
    options = {"fmax": 0.02, "steps": 100, "optimizer": "FIRE", "symmetry": True}
    rows = benchmark.run_benchmark(["Cu.cif", "Cu3Au.POSCAR", "MgO.cif"], EMT(), options)
    copper, alloy, magnesia = rows
    assert copper.converged and copper.symmetry_kept and copper.worst < 2.0
    assert len(copper.independent) == 1 and copper.errors[0] == pytest.approx(-0.69, abs=0.05)
    assert alloy.symmetry_kept and alloy.relaxed[0] == pytest.approx(alloy.relaxed[2])
    assert "No EMT-potential for Mg" in magnesia.error
    summary = benchmark.summarise(rows)
    assert (summary["crystals"], summary["failed"], summary["within_5_percent"]) == (3, 1, 2)
    benchmark.write_output(tmp_path / "table.md", rows, {"calculator": "EMT"})
    benchmark.write_output(tmp_path / "table.json", rows, {"calculator": "EMT"})
    assert "| Cu.cif | Cu | Fm-3m (225) |" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["summary"] == summary


def test_benchmark_counts_each_independent_length_once(benchmark: ModuleType) -> None:
    assert [benchmark.independent_lengths(number) for number in (225, 194, 141, 62, 14, 2)] == [
        (0,),
        (0, 2),
        (0, 2),
        (0, 1, 2),
        (0, 1, 2),
        (0, 1, 2),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--files", "kryptonite.cif"], "no crystal kryptonite.cif"),
        (["--output", "table.txt"], "must end in .md or .json"),
    ],
)
def test_benchmark_refuses_wrong_arguments(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ase.calculators.emt", "ase.calculators.emt:Nothing"])
def test_benchmark_explains_a_wrong_calculator(benchmark: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="calculator|no Nothing"):
        benchmark.load_calculator(name)
