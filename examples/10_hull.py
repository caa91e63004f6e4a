"""Which compounds of nickel and aluminium are stable: formation energies and the convex hull.

    python examples/10_hull.py --output examples/output

Candidates are made by hand from well-known structures; the elements come in their reference phases from the same
model. A phase above the hull decomposes into those at the ends of the line below it. In experiment NiAl (B2) and
Ni3Al (L1_2) are stable; NiAl3 has a larger cell than the L1_2 tried here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase import Atoms
from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import energy_above_hull
from forcefield.workflows.plots import BLUE, GREY, ORANGE, new_figure, save_figure


def ordered_alloys() -> dict[str, Atoms]:
    """B2, B1 and L1_2 arrangements by name, at rough lattice constants."""
    face_centred = bulk("Ni", cubic=True, a=3.75)
    alloys = {
        "NiAl B2": bulk("NiAl", "cesiumchloride", a=2.9),
        "NiAl B1": bulk("NiAl", "rocksalt", a=4.9),
    }
    for name, aluminium in {"Ni3Al L1_2": [0], "NiAl3 L1_2": [0, 1, 2]}.items():
        crystal = face_centred.copy()
        crystal.symbols[aluminium] = "Al"
        alloys[name] = crystal
    return alloys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="a looser limit for the forces")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    alloys = ordered_alloys()
    points = energy_above_hull(alloys, GNNCalculator(), fmax=0.05 if options.quick else 0.001)
    print("phase        formation (eV/atom)   above the hull (eV/atom)")
    for point in points:
        print(f"{point.name:12} {point.formation_energy:19.3f} {point.above_hull:26.3f}")

    shares = [alloys[point.name].symbols.count("Al") / len(alloys[point.name]) for point in points]
    lowest = sorted(
        (share, point.formation_energy) for share, point in zip(shares, points, strict=True) if point.stable
    )
    corners = [(0.0, 0.0), *lowest, (1.0, 0.0)]
    figure, (axis,) = new_figure(width=5.4, height=3.8)
    axis.plot(*zip(*corners, strict=True), color=GREY, lw=1.0)
    for share, point in zip(shares, points, strict=True):
        axis.plot(share, point.formation_energy, "o", color=BLUE if point.stable else ORANGE)
        axis.annotate(f"  {point.name}", (share, point.formation_energy), fontsize=8, va="top")
    axis.set(xlabel="share of aluminium", ylabel="formation energy (eV/atom)", xlim=(-0.02, 1.02))
    print(f"picture: {save_figure(figure, options.output / '10_hull.png')}")


if __name__ == "__main__":
    main()
