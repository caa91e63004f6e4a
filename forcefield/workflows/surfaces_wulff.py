"""The Wulff shape of a crystal from its surface energies, and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from forcefield.workflows.outcome import require_package
from forcefield.workflows.plots import save_figure
from forcefield.workflows.surfaces_build import Miller, format_miller, quiet_spglib

SAME_CORNER = 1.0e-6  # of the largest distance from the centre


@dataclass(frozen=True)
class WulffResult:
    """Equilibrium shape of a crystal.

    Attributes:
        area_fractions: share of the surface that each index has, by a name such as "(1 1 1)".
        surface_energy: mean surface energy weighted by area (eV/Å²).
        anisotropy: standard deviation of the surface energy over the area, relative to its mean.
        shape_factor: area / volume^(2/3); 6 for a cube.
        facets: the faces, as (name, corners (corners, 3) in order around the face), in units of eV/Å².
    """

    area_fractions: Mapping[str, float]
    surface_energy: float
    anisotropy: float
    shape_factor: float
    facets: tuple[tuple[str, np.ndarray], ...]

    def to_dict(self) -> dict[str, Any]:
        """Give all but the faces."""
        return {name: value for name, value in vars(self).items() if name != "facets"}


def wulff_shape(conventional: Atoms, energies: Mapping[Miller, float]) -> WulffResult:
    """Construct the Wulff shape (pymatgen's WulffShape, https://doi.org/10.1038/sdata.2016.80).

    Args:
        conventional: the crystal's cell that the indices refer to.
        energies: surface energy (eV/Å²) by Miller index; planes equivalent by the symmetry of the lattice are added.

    Raises:
        ImportError: without pymatgen.
        ValueError: if an energy is not positive, or the planes enclose no body.
    """
    require_package("pymatgen")
    from pymatgen.analysis.wulff import WulffShape
    from pymatgen.io.ase import AseAtomsAdaptor
    from scipy.spatial import QhullError

    wrong = {miller: energy for miller, energy in energies.items() if not (np.isfinite(energy) and energy > 0.0)}
    if wrong or not energies:
        named = ", ".join(f"{format_miller(miller)} {energy:.4f}" for miller, energy in wrong.items()) or "none came"
        raise ValueError(f"a Wulff shape needs positive surface energies (eV/Å²), but {named}")
    try:
        with quiet_spglib():
            lattice = AseAtomsAdaptor.get_structure(conventional).lattice
            shape = WulffShape(lattice, list(energies), list(energies.values()))
    except (QhullError, ValueError) as error:
        planes = ", ".join(format_miller(miller) for miller in energies)
        raise ValueError(f"the planes {planes} alone enclose no body; add more Miller indices") from error
    return WulffResult(
        area_fractions={format_miller(miller): float(share) for miller, share in shape.area_fraction_dict.items()},
        surface_energy=float(shape.weighted_surface_energy),
        anisotropy=float(shape.anisotropy),
        shape_factor=float(shape.shape_factor),
        facets=tuple(_facets(shape, list(energies))),
    )


def _facets(shape: Any, millers: list[Miller]) -> list[tuple[str, np.ndarray]]:
    found = []
    for facet in shape.facets:
        points = np.array([point for triangle in facet.points for point in triangle], dtype=float).reshape(-1, 3)
        if len(points):
            corners = _in_order(points, np.asarray(facet.normal, dtype=float))
            found.append((format_miller(millers[facet.index]), corners))
    return found


def _in_order(points: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Drop repeated corners and go around the axis."""
    scale = np.linalg.norm(points, axis=1).max() * SAME_CORNER
    _, first = np.unique(np.rint(points / scale), axis=0, return_index=True)
    corners = points[first]
    away = corners - corners.mean(axis=0)
    axis = axis / np.linalg.norm(axis)
    x = away[0] / np.linalg.norm(away[0])
    y = np.cross(axis, x)
    return corners[np.argsort(np.arctan2(away @ y, away @ x))]


def plot_wulff(shape: WulffResult, path: Path) -> Path:
    """Draw the shape, its faces coloured by index, and write it as PNG.

    Raises:
        ImportError: without matplotlib.
        OSError: if it cannot be written.
    """
    figure_class = require_package("matplotlib.figure").Figure
    art = require_package("mpl_toolkits.mplot3d.art3d")
    colormap = require_package("matplotlib").colormaps["tab10"]
    patch = require_package("matplotlib.patches").Patch
    figure = figure_class(figsize=(5.0, 4.4), layout="constrained")
    axis = figure.add_subplot(projection="3d")
    shown = [name for name, share in shape.area_fractions.items() if share > 1.0e-4]
    colors = {name: colormap(k % 10) for k, name in enumerate(shown)}
    for name, corners in shape.facets:
        if name in colors:
            face = art.Poly3DCollection([corners], facecolor=colors[name], edgecolor="#333333", linewidth=0.7)
            axis.add_collection3d(face)
    reach = max(float(np.abs(corners).max()) for _, corners in shape.facets)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axis.set_box_aspect((1, 1, 1))
    axis.set_axis_off()
    handles = [patch(color=colors[name], label=f"{name}  {100.0 * shape.area_fractions[name]:.0f} %") for name in shown]
    axis.legend(handles=handles, frameon=False, loc="upper left", fontsize=9)
    return save_figure(figure, path)
