"""The examples for other engines run, with small settings, and give sensible numbers."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "engines"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch-sim 0.3 and i-PI


def printed(capsys: pytest.CaptureFixture[str], name: str, *words: object) -> str:
    script = EXAMPLES / f"{name}.py"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [str(script), *map(str, words)])
        runpy.run_path(str(script), run_name="__main__")
    return capsys.readouterr().out


def test_relaxation_with_torch_sim(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("forcefield.torchsim.model")
    pytest.importorskip("torch_sim")
    out = printed(capsys, "torchsim_relax", "--structures", 2)
    assert float(re.search(r"largest force ([\d.]+)", out)[1]) < 0.05
    assert out.count("2 of 2 converged") == 2


def test_dynamics_with_torch_sim(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("forcefield.torchsim.model")
    pytest.importorskip("torch_sim")
    out = printed(capsys, "torchsim_md", "--steps", 3)
    energies = [float(word) for word in re.findall(r"kinetic ([\d.]+)", out)]
    assert len(energies) == 3 and all(0.01 < energy < 0.08 for energy in energies)  # 3/2 kT is 0.039 eV


def test_dynamics_with_openmm(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("openmm")
    out = printed(capsys, "openmm_md", "--steps", 10, "--output", tmp_path)
    assert 40 < float(re.search(r"formula unit: ([\d.]+)", out)[1]) < 50  # 44.9 Å³ at room temperature
    assert len((tmp_path / "openmm_md.csv").read_text().splitlines()) == 11


def test_path_integrals_with_i_pi(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Forty steps of four beads: the kinetic energy is that of the quantum crystal, not the classical one."""
    pytest.importorskip("ipi")
    out = printed(capsys, "path_integrals", "--quick", "--output", tmp_path)
    sampled, beads, exact, classical = (float(number) for number in re.findall(r": ([\d.]+) meV", out))
    assert classical < 20 < beads < exact < 45
    assert sampled == pytest.approx(beads, rel=0.25) and sampled > 1.3 * classical
    assert (tmp_path / "path_integrals.properties").exists()
