"""Configurations from files: paths, overrides, and errors that help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from forcefield.train.config import FORMAT, TrainConfig
from forcefield.train.config_file import at_folder, checked, read_config
from forcefield.train.reference import example, reference_table

PATHS = {"train": "a", "validation": "b", "output": "c"}
DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def written(folder: Path, **entries: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**PATHS, "steps": 10, **entries}), encoding="utf-8")
    return path


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path):
    entries = {"train": ["one.xyz", "/two.xyz"], "hessian": {"file": "h.npz"}, "isolated_energies": "free.json"}
    config = read_config(written(tmp_path, **entries))
    assert config.train == (tmp_path / "one.xyz", Path("/two.xyz"))
    assert config.validation == tmp_path / "b" and config.output == tmp_path / "c"
    assert config.hessian is not None and config.hessian.file == tmp_path / "h.npz"
    assert config.isolated_energies == tmp_path / "free.json"
    assert read_config(written(tmp_path, isolated_energies={"Cu": 1.0})).isolated_energies == {"Cu": 1.0}


def test_initial_is_a_shipped_name_or_a_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    config = TrainConfig(**PATHS, steps=1, initial="mine")
    assert at_folder(config, tmp_path).initial == str(tmp_path / "mine")
    assert at_folder(config, tmp_path / "elsewhere").initial == "mine"


def test_overrides(tmp_path):
    path = written(tmp_path, weights=[{"until": 0.5}, {"energy": 7}], hyperparameters={"lmax": 1})
    options = ["learning_rate=1e-3", "weights.1.energy=9", "hyperparameters.channels=16", "card.name=a b", "freeze=[x]"]
    config = read_config(path, options)
    assert config.learning_rate == 1e-3 and config.weights[1].energy == 9 and config.card.name == "a b"
    assert config.hyperparameters == {"lmax": 1, "channels": 16} and config.freeze == ("x",)
    for wrong, message in (
        ("steps", "key=value"),
        ("weights.7.energy=1", "no entry '7'"),
        ("weights.x=1", "by number"),
    ):
        with pytest.raises(ValueError, match=message):
            read_config(path, [wrong])


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"learnig_rate": 1}, "unknown key 'learnig_rate'; did you mean 'learning_rate'?"),
        ({"weights": {"force": 1}}, "unknown key 'weights.0.force'; did you mean 'forces'?"),
        ({"weights": [{"until": 0.5, "enrgy": 2}, {}]}, "unknown key 'weights.0.enrgy'; did you mean 'energy'?"),
        ({"hessian": {"file": "h", "evry": 2}}, "unknown key 'hessian.evry'; did you mean 'every'?"),
        ({"card": {"zzz": 2}}, "unknown key 'card.zzz'; known are name, labels,"),
        ({"hyperparameters": {"chanels": 3}}, "has no hyper-parameter 'chanels'; did you mean 'channels'?"),
        ({"network": "macee"}, "unknown network 'macee'; did you mean 'mace'?"),
        ({"train": 3}, "train is 3: expected is: frame store to train on"),
        ({"reference_energies": 3}, "reference_energies is 3: expected is: mean energy"),
        ({"slots": -1}, "slots is -1"),
        ({"hessian": {}}, "the key 'hessian.file' is missing"),
        ({"weights": [{"until": 0.5}]}, "the last one at 1"),
        ({"weights": []}, "the last one at 1"),
        ({"weight_decay": 0.1, "optimizer": "adam"}, "choose adamw or muon"),
        ({"reference_energies": "initial"}, "there is no initial model"),
        ({"format": FORMAT + 1}, f"has format {FORMAT + 1}, this version of the package reads formats 1 to {FORMAT}"),
        ({"format": "two"}, "has format 'two'"),
    ],
)
def test_errors_say_what_to_do(entries, message):
    with pytest.raises(ValueError) as error:
        checked({**PATHS, "steps": 10, **entries}, "c.yaml")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_all_errors_are_told_at_once():
    with pytest.raises(ValueError) as error:
        checked({"output": "c", "steps": 0}, "c.yaml")
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(line.startswith("c.yaml: ") for line in lines)


def test_broken_yaml(tmp_path):
    (tmp_path / "c.yaml").write_text("train: [a\nb: 1")
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        read_config(tmp_path / "c.yaml")


def test_new_potentials_of_format_two_saturate_as_they_did():
    assert TrainConfig(**PATHS, steps=1, format=2).saturation_rate == 1.0
    assert TrainConfig(**PATHS, steps=1, format=2, initial="mp-0").saturation_rate is None  # that of the model
    assert TrainConfig(**PATHS, steps=1).saturation_rate is None


def test_configurations_of_format_one_are_updated():
    weights, final = {"energy": 5.0, "forces": 10.0}, {"energy": 30.0}
    old = {**PATHS, "steps": 10, "weights": weights, "final_weights": final, "final_phase": 0.2}
    for entries in (old, {**old, "format": 1}):
        config = TrainConfig(**entries)
        assert [phase.until for phase in config.weights] == [0.8, 1.0] and config.format == FORMAT
        assert [phase.energy for phase in config.weights] == [5.0, 30.0]
    assert [phase.energy for phase in TrainConfig(**{**old, "final_phase": 0}).weights] == [5.0]
    assert [phase.energy for phase in TrainConfig(**{**old, "final_phase": 1}).weights] == [30.0]
    assert [phase.until for phase in TrainConfig(**PATHS, steps=1, format=1).weights] == [0.75, 1.0]
    with pytest.raises(ValueError, match="final_phase is 3"):
        TrainConfig(**{**old, "final_phase": 3})


def test_configuration_survives_json():
    config = TrainConfig(**PATHS, minutes=2, hessian={"file": "h.npz"}, weights={"energy": 2.0}, freeze=["a*"])
    assert config.weights[0].energy == 2.0 and len(config.weights) == 1
    assert TrainConfig(**json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_example_has_every_entry_at_its_default():
    text = example()
    given = checked(yaml.safe_load(text), "example")
    everything = []
    for line in text.splitlines():
        bare = line.removeprefix("# ").split("  # ")[0]
        if line.startswith("#") and bare.split(":")[0].strip() in {*TrainConfig.model_fields, *NESTED} and ":" in bare:
            everything.append(bare)
        elif not line.startswith("#"):
            everything.append(line)
    data = yaml.safe_load("\n".join(everything))
    assert data.keys() == TrainConfig.model_fields.keys()
    del data["hessian"]
    data |= {"reference_energies": None}
    assert TrainConfig(**data) == given


NESTED = {"  energy", "  forces"} | {
    *(
        "energy",
        "forces",
        "stress",
        "atomic_energies",
        "until",
        "file",
        "weight",
        "every",
        "slots",
        "loss",
        "threshold",
    ),
    *("name", "labels", "data", "validation", "licence", "limits"),
}


def test_reference_in_the_docs_is_that_of_the_code():
    """To renew it: python -c "from forcefield.train.reference import reference_table; print(reference_table())"."""
    start, end = "<!-- reference: begin -->\n", "\n<!-- reference: end -->"
    text = DOCS.read_text(encoding="utf-8")
    assert text[text.index(start) + len(start) : text.index(end)].strip() == reference_table()
