"""Fine-tuning: the energy scale is found, the new data is learned, the old is kept, and a worse model is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from forcefield.data.frames import Frame, atoms_from_frame, frame_from_atoms
from forcefield.data.labels import ReadOptions
from forcefield.data.store import FrameStore, write_store
from forcefield.models import Model, load_model
from forcefield.train import finetune_prepare, loop
from forcefield.train.checkpoint import CHECKPOINT, load_checkpoint
from forcefield.train.config import TrainConfig
from forcefield.train.element_tables import element_tables
from forcefield.train.evaluate import predict_data
from forcefield.train.finetune import FinetuneOptions, finetune
from forcefield.train.finetune_data import divide, mixture
from forcefield.train.finetune_prepare import prepare
from forcefield.train.finetune_report import Stage, changes, forgetting, forgot_too_much, judgement
from forcefield.train.finetune_shift import EnergyShift, fit_shift, shifted_frames
from forcefield.train.finish import train_to_model
from forcefield.train.logs import Silent
from forcefield.train.loop import Run
from forcefield.train.metrics import measure
from forcefield.train.replay import write_sample

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the log of an interrupted run

HYPERPARAMETERS = {
    **{"cutoff": 4.0, "channels": 8, "n_radial": 4, "lmax": 1, "species_channels": 4, "message_scalars": 4},
    **{"message_vectors": 4, "hidden": 8},
}
OPTIONS = FinetuneOptions(steps=60, slots=1500, learning_rate=5e-3, device="cpu", patience=50, most_forgotten=1e4)


def frozen(atoms: Atoms) -> Atoms:
    """With the labels as plain results."""
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def other_physics(seed: int) -> Atoms:
    """A rattled copper crystal on another energy scale."""
    generator = np.random.default_rng(seed)
    atoms = bulk("Cu", "fcc", a=3.7 + 0.2 * generator.random(), cubic=True)
    atoms.positions += generator.normal(scale=0.08, size=(4, 3))
    atoms.calc = LennardJones(sigma=2.35, epsilon=0.25, rc=4.0, smooth=True)
    return frozen(atoms)


def labelled_crystals(folder: Path) -> list[Frame]:
    store = FrameStore(folder)
    return [store.frame(k) for k in range(len(store))]


@pytest.fixture
def bare_crystals(task) -> list[Atoms]:
    """Copper-aluminium crystals of four atoms without labels."""
    found = [atoms_from_frame(frame) for frame in labelled_crystals(task["train"])]
    for atoms in found:
        atoms.calc = None
    return found


@pytest.fixture(scope="module")
def base(task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of copper and aluminium, with the samples that belong to it."""
    folder: Path = tmp_path_factory.mktemp("base")
    config = TrainConfig(
        **{**task, "output": folder / "run", "hyperparameters": HYPERPARAMETERS, "steps": 150, "slots": 1500},
        **{"learning_rate": 0.01, "warmup_steps": 5, "optimizer": "adam", "ema_decay": 0.9, "plots": False},
        checkpoint_minutes=60,
    )
    train_to_model(config)
    model = (folder / "run" / "model").rename(folder / "tiny")
    for name, store in (("replay.npz", "train"), ("validation_sample.npz", "validation")):
        write_sample(model / name, labelled_crystals(task[store]))
    return model


@pytest.fixture(scope="module")
def new_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the other physics."""
    path = tmp_path_factory.mktemp("new") / "new.extxyz"
    write(path, [other_physics(k) for k in range(20)])
    return path


@pytest.fixture(scope="module")
def tuned(base, new_data, tmp_path_factory):
    """A fine-tuning with a frozen layer, and its folder."""
    output = tmp_path_factory.mktemp("tuned") / "run"
    options = replace(OPTIONS, freeze=("*.element_scale.*",), name="tuned", labels="Lennard-Jones.")
    return finetune(base, [new_data], output=output, options=options), output


def as_predicted(model: Model, structures: Sequence[Atoms], folder: Path) -> list[Frame]:
    """Frames whose labels are the model's own predictions."""
    store = write_store(folder, (frame_from_atoms(atoms) for atoms in structures), model.potential.cutoff)
    return [prediction for _, _, prediction in predict_data(model.potential, store.folder)]


def with_shift(frame: Frame, shifts: dict[int, float]) -> Frame:
    assert frame.energy is not None
    return replace(frame, energy=frame.energy + sum(shifts[int(z)] for z in frame.numbers))


def test_at_shared_rate_zero_frames_without_the_new_elements_keep_their_forces(base, new_data, task, tmp_path):
    options = replace(OPTIONS, shared_rate=0.0, no_replay=True)
    result = finetune(base, [new_data], output=tmp_path / "run", options=options)
    assert result.stages[2].new["all"]["forces_mae"] < 0.9 * result.stages[1].new["all"]["forces_mae"]
    before, after = load_model(base).potential, load_model(result.folder).potential
    aluminium = bulk("Al", cubic=True)
    aluminium.rattle(0.1, seed=0)
    frames = [as_predicted(load_model(folder), [aluminium], tmp_path / name)[0] for folder, name in
              ((base, "before"), (result.folder, "after"))]  # fmt: skip
    np.testing.assert_array_equal(frames[0].forces, frames[1].forces)
    copper = list(before.elements).index(29)
    for name, weights in before.named_parameters():
        moved = (after.get_parameter(name) - weights).detach().abs()
        rows = (
            moved[[k for k in range(len(before.elements)) if k != copper]] if name in element_tables(before) else moved
        )
        assert not rows.any()


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_shared_rate_outside_zero_to_one_is_refused(rate):
    with pytest.raises(ValueError, match="shared_rate"):
        replace(OPTIONS, shared_rate=rate)


def test_refit_recovers_a_known_shift(base, bare_crystals, tmp_path):
    model, shifts = load_model(base), {29: 3.25, 13: -700.5}
    frames = as_predicted(model, bare_crystals, tmp_path / "plain")
    store = write_store(tmp_path / "store", [with_shift(frame, shifts) for frame in frames], model.potential.cutoff)
    found = fit_shift(model.potential, store, np.arange(len(store)))
    assert not found.bound
    assert found.isolated == pytest.approx(shifts, abs=1e-8)
    before = measure(model.potential, store, [np.arange(len(store))])["all"]
    found.apply(model.potential)
    after = measure(model.potential, store, [np.arange(len(store))])["all"]
    assert after["energy_mae"] < 1e-8
    assert after["forces_mae"] == before["forces_mae"] and after["stress_mae"] == before["stress_mae"]


def test_elements_that_only_occur_together_share_the_smallest_change(base, bare_crystals, tmp_path):
    model = load_model(base)
    ordered = [atoms for atoms in bare_crystals if np.count_nonzero(atoms.numbers == 13) == 1]
    assert len(ordered) > 3
    frames = as_predicted(model, ordered, tmp_path / "plain")
    store = write_store(tmp_path / "store", [with_shift(f, {29: 1.0, 13: 9.0}) for f in frames], 4.5)
    found = fit_shift(model.potential, store, np.arange(len(store)))
    assert found.isolated[13] == pytest.approx(1.2) and found.isolated[29] == pytest.approx(3.6)  # 12 in all, as 1 : 3
    store = write_store(tmp_path / "bare", [replace(frame, energy=None) for frame in frames], 4.5)
    assert not fit_shift(model.potential, store, np.arange(len(store)))


def test_free_atoms_of_the_new_data_settle_the_free_atoms(base, bare_crystals, tmp_path):
    model = load_model(base)
    free = Atoms("Cu", cell=[20, 20, 20], pbc=True)
    frames = as_predicted(model, [*bare_crystals, free], tmp_path / "plain")
    shifts = {1: {29: 7.0}, 4: {29: 2.0, 13: -1.0}}
    store = write_store(tmp_path / "store", [with_shift(f, shifts[len(f.numbers)]) for f in frames], 4.5)
    found = fit_shift(model.potential, store, np.arange(len(store)))
    assert found.isolated == pytest.approx({29: 7.0, 13: -1.0}) and found.bound == pytest.approx({29: -5.0})
    assert found.total == pytest.approx({"Cu": 2.0, "Al": -1.0})
    assert EnergyShift.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_moved_labels_keep_the_errors(base, task, tmp_path):
    model = load_model(base, dtype=torch.float64)
    molecule = Atoms("CuAl", positions=[[0, 0, 0], [0, 0, 2.6]])
    frames = labelled_crystals(task["train"])[:4]
    frames.append(replace(frame_from_atoms(molecule), energy=1.0, forces=np.ones((2, 3))))
    store = write_store(tmp_path / "before", frames, 4.5)
    before = measure(model.potential, store, [np.arange(5)])["all"]
    shift = EnergyShift({29: 5.0, 13: 2.0}, {29: -4.0})
    moved = write_store(tmp_path / "after", shifted_frames(store.folder, shift, model.potential), 4.5)
    shift.apply(model.potential)
    after = measure(model.potential, moved, [np.arange(5)])["all"]
    assert after == pytest.approx(before, rel=1e-5, abs=1e-6)


def test_whole_materials_are_set_aside():
    materials = [f"m{k // 4}" for k in range(80)]
    division = divide(materials, ["file"] * 80, 0.1, seed=0)
    sides = [{materials[k] for k in side} for side in (division.training, division.validation)]
    assert division.by_material and len(sides[1]) == 2 and not sides[0] & sides[1]
    assert sorted([*division.training, *division.validation]) == list(range(80))
    other = divide(materials, ["file"] * 80, 0.1, seed=1)
    assert not np.array_equal(division.validation, other.validation)


def test_last_frames_of_each_series_are_set_aside_of_a_single_material():
    division = divide(["m"] * 30, ["a"] * 20 + ["b"] * 10, 0.1, seed=0)
    assert not division.by_material and division.validation.tolist() == [18, 19, 29]
    assert divide(["m"] * 2, ["a"] * 2, 0.1, seed=0).validation.tolist() == [1]
    with pytest.raises(ValueError, match="1 frame cannot be divided"):
        divide(["m"], ["a"], 0.1, seed=0)


@pytest.mark.parametrize(("new", "replay"), [(1000, 40000), (12000, 40000), (10**6, 40000), (10, 40000)])
def test_mixture_has_the_share_asked_for(new, replay):
    copies, atoms = mixture(new, replay, 0.3)
    assert atoms / (atoms + copies * new) == pytest.approx(0.3, abs=0.01)
    assert 1 <= copies <= 50


def test_forgetting_beyond_the_limit_is_a_reason():
    assert "forces +120 %" in forgot_too_much({"energy": 5.0, "forces": 120.0}, 100.0)
    assert not forgot_too_much({"energy": 5.0, "forces": 99.0}, 100.0)
    assert not forgot_too_much(None, 100.0)


def test_judgement_wants_all_errors_to_hold():
    def errors(energy: float, forces: float) -> dict[str, dict[str, float]]:
        return {"all": {"energy_mae": energy, "forces_mae": forces}}

    weights = OPTIONS.weights
    assert not judgement(errors(0.1, 0.1), errors(0.09, 0.05), weights)
    assert "did not fall" in judgement(errors(0.1, 0.1), errors(0.1, 0.1), weights)
    assert "did not fall" in judgement(errors(0.1, 0.1), errors(float("nan"), 0.1), weights)
    assert "forces error" in judgement(errors(1.0, 0.1), errors(0.1, 0.15), weights)
    assert changes(errors(0.1, 0.0), errors(0.2, 0.1)) == {"energy": pytest.approx(100)}
    assert forgetting(Stage("a", errors(1, 1)), Stage("b", errors(1, 1))) is None


def test_new_data_is_learned_and_written_down(tuned, base):
    result, output = tuned
    assert result.better and not result.reason and result.folder == output / "model"
    first, start, end = result.stages
    assert start.new["all"]["energy_mae"] < 0.5 * first.new["all"]["energy_mae"]
    assert start.new["all"]["forces_mae"] == pytest.approx(first.new["all"]["forces_mae"])
    assert end.new["all"]["forces_mae"] < 0.6 * start.new["all"]["forces_mae"]
    model = load_model(result.folder)
    assert model.config["finetuned"]["base"] == base.name and not model.config["default"]
    card = (result.folder / "README.md").read_text(encoding="utf-8")
    for text in ("# tuned", "Lennard-Jones.", "## Fine-tuning", "Forgetting", "new.extxyz", "last 2 of 20"):
        assert text in card
    assert str(output.parent) not in card
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["better"] and report["forgetting"] == result.forgetting
    assert not list(output.glob("*.partial"))


def test_reported_errors_are_those_of_the_model_on_disk(tuned):
    result, output = tuned
    potential = load_model(result.folder).potential
    frames = [prediction for _, _, prediction in predict_data(potential, output / "stores" / "validation")]
    labels = [frame for _, frame, _ in predict_data(potential, output / "stores" / "validation")]
    pairs = zip(frames, labels, strict=True)
    error = np.abs([(p.energy - f.energy) / len(f.numbers) for p, f in pairs]).mean()
    assert error == pytest.approx(result.stages[-1].new["all"]["energy_mae"], rel=1e-4)


def test_frozen_parameters_stay_to_the_last_bit(tuned, base):
    before, after = (dict(load_model(m).potential.named_parameters()) for m in (base, tuned[0].folder))
    same = {name for name in before if torch.equal(before[name], after[name])}
    frozen_ones = {name for name in before if ".element_scale." in name}
    assert frozen_ones and frozen_ones <= same and len(same) < len(before) / 2


def test_replay_lowers_forgetting(base, new_data, tmp_path):
    options = replace(OPTIONS, steps=40, replay_share=0.7)
    both = finetune(base, [new_data], output=tmp_path / "both", options=options)
    alone = finetune(base, [new_data], output=tmp_path / "alone", options=replace(options, no_replay=True))
    assert alone.forgetting is not None and both.forgetting is not None
    assert alone.better and both.better
    for label in ("energy", "forces"):
        assert both.forgetting[label] < 0.6 * alone.forgetting[label]


def test_fine_tuned_model_is_tuned_again_with_the_samples_of_its_ancestor(tuned, base, new_data, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_prepare, "models_folder", lambda: base.parent)
    again = prepare(tuned[0].folder, [new_data], output=tmp_path / "again", options=OPTIONS)
    stage = tuned[0].stages[-1]
    assert again.stages[1].base is not None and stage.base is not None
    for label in ("energy_mae", "forces_mae"):
        assert again.stages[1].base["all"][label] == pytest.approx(stage.base["all"][label], rel=1e-3)


def test_worse_model_is_refused(base, new_data, bare_crystals, tmp_path):
    """What is measured on are the base model's own forces, from which any step leads away."""
    predicted = as_predicted(load_model(base), bare_crystals[:6], tmp_path / "bare")
    write(tmp_path / "own.extxyz", [atoms_from_frame(replace(frame, energy=None)) for frame in predicted])
    options = replace(OPTIONS, steps=3, validation=tmp_path / "own.extxyz")
    result = finetune(base, [new_data], output=tmp_path / "run", options=options)
    assert not result.better and "new validation data" in result.reason
    assert result.folder.name == "model-worse" and not (tmp_path / "run" / "model").exists()


def test_killed_run_goes_on_to_the_same_weights(base, new_data, tmp_path, monkeypatch):
    options = replace(OPTIONS, minutes=None, steps=10)
    straight = finetune(base, [new_data], output=tmp_path / "straight", options=options)
    original, left = Run.update, [6]

    def update(run: Run, frames):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(run, frames)

    monkeypatch.setattr("forcefield.train.finetune.CHECKPOINT_MINUTES", 1e-9)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Run, "update", update)
        with pytest.raises(KeyboardInterrupt):
            finetune(base, [new_data], output=tmp_path / "killed", options=options)
    assert load_checkpoint(tmp_path / "killed" / CHECKPOINT)["counters"]["step"] == 6
    resumed = finetune(base, [new_data], output=tmp_path / "killed", options=options)
    assert resumed.stages[-1].new == straight.stages[-1].new
    one, other = (load_model(result.folder).potential.state_dict() for result in (resumed, straight))
    assert all(torch.equal(one[name], other[name]) for name in one if not one[name].isnan().any())


class Notes(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_other_settings_need_another_folder_or_a_restart(base, new_data, tmp_path):
    prepare(base, [new_data], output=tmp_path, options=OPTIONS)
    with pytest.raises(ValueError, match="other replay_share, seed; .*--restart"):
        prepare(base, [new_data], output=tmp_path, options=replace(OPTIONS, seed=1, replay_share=0.5))
    (tmp_path / "mine.txt").write_text("keep")
    notes = Notes()
    prepare(base, [new_data], output=tmp_path, options=replace(OPTIONS, seed=1), restart=True, watcher=notes)
    assert (tmp_path / "mine.txt").is_file()
    assert any("too few materials" in text for text in notes.texts)


def test_frames_on_both_sides_are_noted(base, new_data, tmp_path):
    notes = Notes()
    prepare(base, [new_data], output=tmp_path, options=replace(OPTIONS, validation=new_data), watcher=notes)
    assert any("20 training frames are in the validation data too" in text for text in notes.texts)


def test_labels_that_contradict_the_base_model_are_told_and_reported(base, bare_crystals, tmp_path):
    """The base model's own forces, turned around as a file of gradients has them."""
    predicted = as_predicted(load_model(base), bare_crystals[:20], tmp_path / "bare")
    turned = [replace(frame, forces=-frame.forces) for frame in predicted]
    write(tmp_path / "turned.extxyz", [atoms_from_frame(frame) for frame in turned])
    notes = Notes()
    prepared = prepare(base, [tmp_path / "turned.extxyz"], output=tmp_path / "run", options=OPTIONS, watcher=notes)
    (doubt,) = prepared.facts["doubts"]
    assert doubt.startswith("forces: labels look like -eV/Å; --units forces=-eV/Å reads them so")
    assert f"warning: doubtful labels: {doubt}" in notes.texts
    read = replace(OPTIONS, read=ReadOptions(units={"forces": "-eV/Å"}))
    prepared = prepare(base, [tmp_path / "turned.extxyz"], output=tmp_path / "again", options=read, watcher=notes)
    assert prepared.facts["doubts"] == []


def test_model_without_samples_is_tuned_with_a_warning(base, new_data, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "weights.safetensors"):
        (bare / name).write_bytes((base / name).read_bytes())
    notes = Notes()
    options = replace(OPTIONS, steps=2)
    result = finetune(bare, [new_data], output=tmp_path / "run", options=options, watcher=notes)
    assert result.forgetting is None
    assert any("without a sample to replay" in text for text in notes.texts)
    assert any("forgetting is not measured" in text for text in notes.texts)


def test_bad_input_is_explained(base, new_data, bare_crystals, tmp_path):
    gold = bulk("Au", cubic=True)
    gold.calc = LennardJones(sigma=2.6)
    write(tmp_path / "gold.extxyz", frozen(gold))
    write(tmp_path / "bare.extxyz", bare_crystals[:3])
    write(tmp_path / "one.extxyz", other_physics(0))
    cases = {
        "gold.extxyz": "#0 has Au, which the model does not know",
        "bare.extxyz": "no frame has an energy, forces or stress",
        "one.extxyz": "1 frame cannot be divided",
        "none.extxyz": "does not exist",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            prepare(base, [tmp_path / name], output=tmp_path / "run", options=OPTIONS)
    with pytest.raises(ValueError, match="freeze: 'nothing' fits no parameter"):
        prepare(base, [new_data], output=tmp_path / "run", options=replace(OPTIONS, freeze=("nothing",)))
    with pytest.raises(ValueError, match="steps and minutes are given"):
        replace(OPTIONS, minutes=1.0)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        replace(OPTIONS, learning_rate=0)
    with pytest.raises(ValueError, match="replay_share is 1"):
        replace(OPTIONS, replay_share=1.0)
