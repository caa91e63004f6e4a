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


def test_card_counts_what_the_model_that_a_run_started_from_had_behind_it(config, tmp_path):
    about = About(name="copper", labels="Effective medium theory.", data="crystals", validation="others")
    folder = export(train(config), tmp_path / "first", about)
    for name, steps in (("second", 12), ("third", 24)):
        settings = {"output": tmp_path / f"run {name}", "initial": str(folder), "reference_energies": "initial"}
        folder = export(train(config.model_copy(update=settings)), tmp_path / name, about)
        facts = load_model(folder).config["training"]
        assert facts["steps"] == 12 and facts["steps_before"] == steps and facts["minutes_before"] >= 0
    assert "minutes_before" not in load_model(tmp_path / "first").config["training"]
