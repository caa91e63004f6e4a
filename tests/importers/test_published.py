"""Imported models give the originals' energies, forces and stresses (numbers in ``data``; see its README)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from forcefield import GNNCalculator
from forcefield.cli.importing import import_weights
from forcefield.importers import import_model
from forcefield.models import load_model
from forcefield.testing import check_calculator

NAMES = ["nequix", "sevennet-0", "sevennet-l3i5"]
FORCES, ENERGY, STRESS = 1e-4, 1e-5, 1e-5
"""eV/Å, eV/atom, eV/Å^3; the originals' own rounding in float32 is about half of it for the largest forces, 40 eV/Å."""


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory, published_file: Any) -> Any:
    """Function: name of a model -> its folder."""
    folders: dict[str, Path] = {}

    def convert(name: str) -> Path:
        if name not in folders:
            file = published_file(name)
            folders[name] = import_model(name.partition("-")[0], file, tmp_path_factory.mktemp("imported") / name)
        return folders[name]

    return convert


@pytest.mark.parametrize("name", NAMES)
def test_original_numbers_are_reproduced(
    name: str, imported: Any, structures: dict[str, Atoms], reference: Any
) -> None:
    calculator, expected = GNNCalculator(str(imported(name)), dtype="float64"), reference(name)
    assert len(structures) == len(expected) == 50
    for label, atoms in structures.items():
        atoms, values = atoms.copy(), expected[label]
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(values["energy"], abs=ENERGY * len(atoms)), label
        np.testing.assert_allclose(atoms.get_forces(), values["forces"], atol=FORCES, rtol=0, err_msg=label)
        if "stress" in values:
            np.testing.assert_allclose(atoms.get_stress(), values["stress"], atol=STRESS, rtol=0, err_msg=label)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_configuration_say_where_it_is_from(name: str, imported: Any) -> None:
    model = load_model(imported(name))
    assert len(model.config["elements"]) == 89
    assert "MIT" in model.config["licence"]
    card = (imported(name) / "README.md").read_text(encoding="utf-8")
    for text in (model.config["imported"]["sha256"], model.config["licence"], model.config["labels"], "MPtrj"):
        assert text in card
    assert model.config["cutoff"] == (6.0 if name == "nequix" else 5.0)


@pytest.mark.slow
def test_nequix_passes_every_check(imported: Any) -> None:
    calculator = GNNCalculator(str(imported("nequix")), dtype="float64")
    failed = [result.message for result in check_calculator(calculator) if not result.passed]
    assert not failed, failed


@pytest.mark.slow
def test_sevennet_passes_what_its_features_allow(imported: Any) -> None:
    calculator = GNNCalculator(str(imported("sevennet-l3i5")), dtype="float64")
    failed = [result.name for result in check_calculator(calculator) if not result.passed]
    assert failed == ["reflection"]


@pytest.mark.parametrize("name", ["sevennet-0 of May", "sevennet-mf-0"])
def test_other_variants_are_refused(name: str, published_file: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not supported: (_normalize_sph|use_modality)"):
        import_model("sevennet", published_file(name), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_sevennet_itself_gives_the_same(imported: Any, structures: dict[str, Atoms]) -> None:
    pytest.importorskip("sevenn", exc_type=ImportError)
    with warnings.catch_warnings():  # the package warns on import and when used
        warnings.simplefilter("ignore")
        from sevenn.calculator import SevenNetCalculator

        original = SevenNetCalculator("7net-0", device="cpu")
        for label in ("quartz", "alloy", "slab W", "molecule CH3CH2OH"):
            ours, theirs = structures[label].copy(), structures[label].copy()
            ours.calc, theirs.calc = GNNCalculator(str(imported("sevennet-0")), dtype="float64"), original
            np.testing.assert_allclose(ours.get_forces(), theirs.get_forces(), atol=FORCES, rtol=0, err_msg=label)
            difference = abs(ours.get_potential_energy() - theirs.get_potential_energy())
            assert difference < ENERGY * len(ours), label


def test_command_writes_a_model(published_file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_weights("sevennet", published_file("sevennet-0"), tmp_path / "model", labels="Said by the user.")
    assert "809,192 parameters" in capsys.readouterr().out
    assert load_model(tmp_path / "model").config["labels"] == "Said by the user."
