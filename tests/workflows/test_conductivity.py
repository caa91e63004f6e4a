"""Thermal conductivity: symmetry, temperature law, refusals. The scattering itself is phono3py's."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from forcefield.workflows.conductivity import thermal_conductivity

pytest.importorskip("phono3py")


def test_cubic_metal_conducts_alike_along_all_axes_and_less_when_hot():
    result = thermal_conductivity(
        bulk("Cu"), EMT(), supercell=(3, 3, 3), harmonic_length=7.0, mesh_length=15.0, t_min=250.0, t_step=250.0
    )
    assert result.verdict == "complete" and result.supercell_atoms == 27
    np.testing.assert_allclose(result.temperatures, [250, 500, 750, 1000])
    xx, yy, zz, yz, xz, xy = result.conductivity.T
    np.testing.assert_allclose(xx, yy, rtol=1e-6)
    np.testing.assert_allclose(xx, zz, rtol=1e-6)
    np.testing.assert_allclose(np.stack([yz, xz, xy]), 0, atol=1e-6 * xx.max())
    np.testing.assert_allclose(xx[1] / xx[3], 2.0, rtol=0.02)  # 1/T far above the Debye temperature
    assert 1.0 < xx[0] < 100.0


def test_molecule_and_impossible_options_are_refused():
    with pytest.raises(ValueError, match="thermal conductivities need a crystal"):
        thermal_conductivity(molecule("CO"), EMT())
    for options, message in (
        ({"t_min": 0.0}, "t_min is 0.0"),
        ({"t_max": 1.0}, "t_max is 1.0"),
        ({"cutoff": -1.0}, "cutoff"),
    ):
        with pytest.raises(ValueError, match=message):
            thermal_conductivity(bulk("Cu"), EMT(), **options)
