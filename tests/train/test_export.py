"""From a run to a model folder with its card."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk

from forcefield import predict
from forcefield.models import load_model
from forcefield.train.export import About, export
from forcefield.train.loop import train


def test_run_becomes_a_model_with_its_card(config, tmp_path):
    run = train(config)
    about = About(
        name="copper",
        labels="Effective medium theory.",
        data="crystals of copper and aluminium",
        validation="six more of them",
        limits=("Knows two elements.", "Was trained for twelve steps."),
        default=True,
    )
    folder = export(run, tmp_path / "copper", about)
    model = load_model(folder, dtype=torch.float64)
    assert model.config["training"]["steps"] == 12 and model.config["default"] is True
    assert model.config["training"]["frames"] == 24 and model.config["training"]["atoms"] == 96
    assert model.config["validation"]["errors"] == run.validate()
    with run.ema.average_parameters():
        for name, value in run.potential.network.named_parameters():
            assert torch.equal(model.potential.network.get_parameter(name), value), name
    assert predict(bulk("Cu"), model=folder, device="cpu").energy == pytest.approx(
        predict(bulk("Cu"), model=folder, device="cpu", dtype="float64").energy, abs=1e-5
    )
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# copper\n") and "Effective medium theory." in card and "Al Cu" in card
    assert "24 frames, 96 atoms" in card and "- Knows two elements.\n- Was trained" in card
    assert f"| all | 6 | {1000 * model.config['validation']['errors']['all']['energy_mae']:.0f} / " in card
    assert str(tmp_path) not in card + (folder / "config.json").read_text(encoding="utf-8")
