"""Surface energies of aluminium and the shape of a small crystal of it (Wulff).

    python examples/07_surfaces.py --output examples/output

Slabs are cut by Miller index and relaxed; the shape minimises the sum of area times energy. Experiment gives about
1.15 J/m² as a mean over orientations (W. R. Tyson, W. A. Miller, Surf. Sci. 62, 267 (1977),
https://doi.org/10.1016/0039-6028(77)90442-3).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ase.build import bulk

from forcefield import GNNCalculator
from forcefield.workflows import surfaces
from forcefield.workflows.surfaces_wulff import plot_wulff


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output", help="folder for the files")
    parser.add_argument("--quick", action="store_true", help="indices up to 1 and thin slabs")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    settings = {"max_index": 1, "min_slab": 6.0} if options.quick else {"max_index": 2, "min_slab": 12.0}
    result = surfaces(bulk("Al"), GNNCalculator(), fmax=0.05 if options.quick else 0.02, **settings)
    for surface in result.surfaces:
        energy = "no energy" if surface.energy_joule is None else f"{surface.energy_joule:.2f} J/m²"
        print(f"{surface.label}: {energy}, {len(surface.atoms)} atoms, {surface.verdict}")
    for warning in result.warnings:
        print(f"note: {warning}")
    if result.wulff is None:
        raise SystemExit("no Wulff shape, see the notes above")
    print(f"mean over the shape {result.wulff.surface_energy * 16.0218:.2f} J/m²")
    for name, share in result.wulff.area_fractions.items():
        print(f"{name} covers {100 * share:.0f} % of the crystal")
    print(f"picture: {plot_wulff(result.wulff, options.output / '07_surfaces.png')}")


if __name__ == "__main__":
    main()
