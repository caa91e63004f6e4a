"""Options that several commands share, declared once, and groups of them (see `forcefield.cli.groups`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forcefield.cli.report import fail

if TYPE_CHECKING:
    from forcefield.data.labels import ReadOptions

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Structures in any format that ASE reads: CIF, POSCAR, extxyz, xyz, traj, PDB, ..."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER", help="Installed model or model folder; see `forcefield models`.  [default: default]"
    ),
]
Device = Annotated[str | None, typer.Option(help="Where the model runs: auto, cpu, cuda or mps.  [default: auto]")]
Precision = Annotated[
    str | None, typer.Option("--dtype", help="Precision of the network: float32 or float64.  [default: float32]")
]
CalculatorName = Annotated[
    str | None,
    typer.Option(
        "--calculator",
        metavar="MODULE:CLASS",
        help="Use another ASE calculator instead of a model, such as ase.calculators.emt:EMT.",
    ),
]
Index = Annotated[
    str, typer.Option(help="Frames to take from each file, as ASE writes them: 0, -1, 2:5 or : for all of them.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error instead of one line.")]
OutputDir = Annotated[
    Path | None,
    typer.Option(help="Folder for the results, one inside it for each structure.  [default: named as the command]"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip what is done and go on with what an interrupted run left.")
]
Plots = Annotated[bool, typer.Option("--plots/--no-plots", help="Draw figures (needs matplotlib).")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the structures, one thread each.")]

Keys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL=KEY",
        help="Where a label is, if detection misses or confuses it: energy=REF_energy, stress, virial, forces, "
        "atomic_energies, magmoms, material, kind. Repeat for more.",
    ),
]
Units = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL=UNIT",
        help="Unit of a label if it is not eV, eV/Å or eV/Å^3: stress=GPa, forces=Ha/bohr; a minus turns the sign "
        "around: stress=-kbar. Repeat for more.",
    ),
]
Energy = Annotated[
    str,
    typer.Option(help="Energy of MPtrj JSON: uncorrected_total_energy, corrected_total_energy or energy."),
]
StressOrder = Annotated[
    str,
    typer.Option(
        metavar="ORDER",
        help="Order of the stress components, of six numbers or of a tensor made of them: ase (xx yy zz yz xz xy), "
        "vasp (xx yy zz xy yz xz), lammps (xx yy zz xy xz yz), or the components. `forcefield evaluate` notices a "
        "wrong one.",
    ),
]

Relaxation = Annotated[str, typer.Option(help="Relaxation before: cell, positions or none.")]
MaxForce = Annotated[float, typer.Option(help="Largest force a relaxation accepts (eV/Å).")]
Steps = Annotated[int, typer.Option(help="Most steps of a relaxation.")]
CellAxes = Annotated[
    str, typer.Option(metavar="LETTERS", help="Cell vectors that may change: ab relaxes a layer in its plane.")
]
Symmetry = Annotated[bool, typer.Option("--symmetry/--no-symmetry", help="Keep the space group in the relaxation.")]
SupercellLength = Annotated[float, typer.Option(help="Shortest length of a supercell vector (Å).")]
Supercell = Annotated[
    tuple[int, int, int] | None, typer.Option(metavar="N N N", help="Multiples of the cell's vectors instead.")
]
Displacement = Annotated[float, typer.Option(help="Displacement of an atom (Å).")]
MaxTemperature = Annotated[float, typer.Option("--t-max", help="Highest temperature (K).")]
Tolerance = Annotated[float, typer.Option(help="Size of an imaginary frequency that counts (THz).")]


@dataclass(frozen=True)
class CalculatorChoice:
    """Which calculator a command uses: a model of this package, or any ASE calculator by its name."""

    model: Model = None
    device: Device = None
    dtype: Precision = None
    calculator: CalculatorName = None

    def with_precision(self, precision: str) -> CalculatorChoice:
        """Say in which precision a model runs where the user did not."""
        given = self.dtype is not None or self.calculator is not None
        return self if given else dataclasses.replace(self, dtype=precision)

    @property
    def name(self) -> str:
        """What records and `--resume` call it."""
        return self.calculator or f"{self.model or 'default'} {self.dtype or 'float32'}"

    def load(self) -> Any:
        """Make the ASE calculator.

        Raises:
            ValueError: if both a calculator and a model option came, or the calculator cannot be loaded.
        """
        from forcefield.cli.io import load_calculator

        return load_calculator(self.calculator, self.model, self.device, self.dtype)


@dataclass(frozen=True)
class FolderOptions:
    """Options of every command that fills one folder a structure."""

    output_dir: OutputDir = None
    resume: Resume = False
    workers: Workers = 1
    index: Index = ":"
    as_json: AsJson = False
    debug: Debug = False


@dataclass(frozen=True)
class RelaxingCrystal:
    """How a crystal is relaxed before, as `forcefield.workflows.crystal.CrystalOptions` takes it."""

    relaxation: Relaxation = "cell"
    fmax: MaxForce = 1.0e-4
    steps: Steps = 1000
    symmetry: Symmetry = True


@dataclass(frozen=True)
class Vibrations(RelaxingCrystal):
    """Options of commands that compute phonons, as `forcefield.workflows.phonons_setup.PhononOptions` takes them."""

    supercell_length: SupercellLength = 15.0
    supercell: Supercell = None
    method: Annotated[str, typer.Option(help="displacements, or hessian for a calculator that has one.")] = (
        "displacements"
    )
    displacement: Displacement = 0.01
    mesh_length: Annotated[
        float, typer.Option(help="Density of the q-point mesh, as the length of a supercell (Å).")
    ] = 60.0
    t_max: MaxTemperature = 1000.0
    t_step: Annotated[float, typer.Option("--t-step", help="Step of temperature (K).")] = 10.0
    tolerance: Tolerance = 0.05


@dataclass(frozen=True)
class ReadingOptions:
    """How labels are called in files, and their units."""

    keys: Keys = None
    units: Units = None
    energy: Energy = "uncorrected_total_energy"
    stress_order: StressOrder = "ase"

    def read_options(self, count_bytes: Callable[[int], None] | None = None) -> ReadOptions:
        """As the readers take them; they tell ``count_bytes`` how far they are."""
        from forcefield.data.labels import ReadOptions, parse_order

        return ReadOptions(
            _pairs("--keys", self.keys),
            _pairs("--units", self.units),
            self.energy,
            parse_order(self.stress_order),
            count_bytes=count_bytes,
        )


def _pairs(option: str, items: list[str] | None) -> dict[str, str]:
    pairs = {}
    for item in items or []:
        label, equals, value = item.partition("=")
        if not (label and equals and value):
            fail(f"{option} is {item!r}, but must be LABEL=VALUE, such as energy=REF_energy or stress=GPa.")
        pairs[label] = value
    return pairs
