"""`forcefield surfaces` and `forcefield adsorption`: surface energies of crystals, and molecules on slabs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from forcefield.cli.folder import structure_hash
from forcefield.cli.groups import expand_groups
from forcefield.cli.options import CalculatorChoice, Files, FolderOptions, MaxForce, Plots, Relaxation, Steps
from forcefield.cli.report import format_number, one_line_errors
from forcefield.cli.structures import Command, Task, run_over_structures

SURFACE_COLUMNS = ("surfaces", "lowest", "energy\nJ/m²", "mean (Wulff)\nJ/m²", "anisotropy")
ADSORPTION_COLUMNS = ("atoms", "tried", "site", "energy\neV", "height\nÅ")


@expand_groups
def surfaces(
    files: Files,
    max_index: Annotated[int, typer.Option(help="All distinct Miller indices up to this one.")] = 1,
    miller: Annotated[
        list[str] | None,
        typer.Option(metavar="H,K,L", help="Miller index (conventional cell) instead; repeatable."),
    ] = None,
    min_slab: Annotated[float, typer.Option(help="Shortest height of the layers (Å).")] = 12.0,
    min_vacuum: Annotated[float, typer.Option(help="Shortest height of the vacuum (Å).")] = 12.0,
    thickness_tolerance: Annotated[
        float | None,
        typer.Option(help="Thicken slabs until the surface energy changes by less (J/m²).  [default: do not]"),
    ] = None,
    relaxation: Relaxation = "cell",
    fmax: MaxForce = 0.02,
    steps: Steps = 500,
    plots: Plots = True,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute relaxed surface energies of crystals and their Wulff shape.

    Each structure gets a folder with result.json, surfaces.csv, slabs.extxyz and wulff.png. The status is 0 where every
    surface got an energy, 1 where one did not or a structure failed, 2 for wrong usage and 130 after Ctrl-C; --resume
    then goes on with the slabs already relaxed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.surfaces import SurfaceOptions

        options = SurfaceOptions(
            max_index=max_index,
            miller=tuple(_parse_miller(text) for text in miller or ()),
            min_slab=min_slab,
            min_vacuum=min_vacuum,
            thickness_tolerance=thickness_tolerance,
            relaxation=relaxation,
            fmax=fmax,
            steps=steps,
        ).to_dict()
    needs = ("pymatgen",)
    command = Command(
        "surfaces", SURFACE_COLUMNS, _surface_row, _compute_surfaces, options, plots=plots, packages=needs
    )
    run_over_structures(command, files, choice, folder)


def _compute_surfaces(task: Task) -> Mapping[str, Any]:
    from forcefield.workflows.surfaces import surfaces as run

    result = run(task.frame.atoms, task.engine, store=task.store, callback=task.show, **task.inputs)
    _write_surfaces(result, task.folder.path)
    if task.plots and result.wulff is not None:
        from forcefield.workflows.surfaces_wulff import plot_wulff

        plot_wulff(result.wulff, task.folder.path / "wulff.png")
    return result.to_dict()


def _parse_miller(text: str) -> tuple[int, int, int]:
    """Understand an index such as 1,1,-2.

    Raises:
        ValueError: for anything else.
    """
    try:
        h, k, l = (int(part) for part in text.replace(" ", ",").split(","))
    except ValueError:
        raise ValueError(f"--miller is {text!r}, but must be three whole numbers such as 1,1,0.") from None
    return h, k, l


def _write_surfaces(result: Any, folder: Path) -> None:
    """Write the table of surfaces, and the slabs."""
    from ase.io import write

    lines = [
        "miller,cut,verdict,energy_J_per_m2,energy_eV_per_A2,unrelaxed_eV_per_A2,symmetric,polar,atoms,thickness_A"
    ]
    slabs = []
    for surface in result.surfaces:
        numbers = (surface.energy_joule, surface.energy, surface.unrelaxed_energy)
        texts = ["" if number is None else f"{number:.6f}" for number in numbers]
        polar = "" if surface.polar is None else str(surface.polar)
        lines.append(
            ",".join(
                [" ".join(map(str, surface.miller)), str(surface.termination), surface.verdict, *texts]
                + [str(surface.symmetric), polar, str(len(surface.atoms)), f"{surface.thickness:.3f}"]
            )
        )
        slab = surface.atoms.copy()
        slab.info["surface"] = surface.label
        slabs.append(slab)
    (folder / "surfaces.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write(folder / "slabs.extxyz", slabs, format="extxyz")


def _surface_row(record: Mapping[str, Any]) -> list[str]:
    from forcefield.workflows.surfaces import JOULE_PER_M2

    with_energy = [item for item in record["surfaces"] if item["energy"] is not None]
    shape = record["wulff"] or {}
    lowest = min(with_energy, key=lambda item: item["energy"]) if with_energy else None
    mean = shape.get("surface_energy")
    return [
        str(len(record["surfaces"])),
        "-" if lowest is None else "({} {} {})".format(*lowest["miller"]),
        format_number(None if lowest is None else lowest["energy_joule_per_m2"], 3),
        format_number(None if mean is None else mean * JOULE_PER_M2, 3),
        format_number(shape.get("anisotropy"), 3),
    ]


@expand_groups
def adsorption(
    files: Files,
    molecule: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Molecule: a name such as CO or H2O, or a file with one.")
    ],
    site: Annotated[list[str] | None, typer.Option(help="ontop, bridge or hollow; repeatable.  [default: all]")] = None,
    orientation: Annotated[
        list[str] | None, typer.Option(help="upright, flipped or flat; repeatable.  [default: all]")
    ] = None,
    height: Annotated[float, typer.Option(help="Height of the molecule to begin with (Å).")] = 1.8,
    min_width: Annotated[float, typer.Option(help="Repeat the slab until it is this wide (Å).")] = 8.0,
    frozen: Annotated[float, typer.Option(help="Share of the slab's height that is held, from below.")] = 0.5,
    fmax: MaxForce = 0.03,
    steps: Steps = 300,
    *,
    folder: FolderOptions,
    choice: CalculatorChoice,
) -> None:
    """Compute the adsorption energy of a molecule on slabs, tried on every site in several orientations.

    Each slab gets a folder with result.json and adsorbates.extxyz (lowest energy first). The status is 0 where the
    molecule binds to all slabs, 1 where not or one failed, 2 for wrong usage and 130 after Ctrl-C; --resume then goes
    on with what is already relaxed.
    """
    with one_line_errors(debug=folder.debug):
        from forcefield.workflows.adsorption import ORIENTATIONS, SITES, AdsorptionOptions

        options = AdsorptionOptions(
            sites=tuple(site or SITES),
            orientations=tuple(orientation or ORIENTATIONS),
            height=height,
            min_width=min_width,
            frozen=frozen,
            fmax=fmax,
            steps=steps,
        ).to_dict()
        gas = _read_molecule(molecule)
    identity, inputs = {**options, "molecule": structure_hash(gas)}, {**options, "molecule": gas}
    about = (ADSORPTION_COLUMNS, _adsorption_row, _compute_adsorption, identity, inputs)
    command = Command("adsorption", *about, packages=("pymatgen",))
    run_over_structures(command, files, choice, folder)


def _compute_adsorption(task: Task) -> Mapping[str, Any]:
    from ase.io import write

    from forcefield.workflows.adsorption import adsorption as run

    result = run(task.frame.atoms, calculator=task.engine, store=task.store, callback=task.show, **task.inputs)
    write(task.folder.path / "adsorbates.extxyz", [item.atoms for item in result.adsorbates], format="extxyz")
    return result.to_dict()


def _read_molecule(text: str) -> Any:
    """Read the molecule from a file, or make it from its name."""
    from forcefield.cli.io import read_frames
    from forcefield.workflows.adsorption import as_molecule

    return as_molecule(read_frames(Path(text), "-1")[0].atoms if Path(text).is_file() else text)


def _adsorption_row(record: Mapping[str, Any]) -> list[str]:
    best = record["best"] or {}
    return [
        str(record["n_atoms"]),
        str(len(record["adsorbates"])),
        f"{best['site']} {best['orientation']}" if best else "-",
        format_number(best.get("energy"), 3),
        format_number(best.get("height"), 2),
    ]
