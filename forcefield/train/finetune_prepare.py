"""Before a fine-tuning: data divided and mixed, element energies refitted, the base model measured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefield.data.batches import plan_batches
from forcefield.data.frames import Frame
from forcefield.data.labels import VOIGT
from forcefield.data.readers import read_frames
from forcefield.data.store import FrameStore, write_store
from forcefield.models import WEIGHTS, Model, load_model, model_folder, models_folder, save_model
from forcefield.potential import Potential
from forcefield.train.checkpoint import CHECKPOINT, PREVIOUS
from forcefield.train.comparison import compare
from forcefield.train.distributed import resolve_device
from forcefield.train.evaluate import predict_data
from forcefield.train.finetune_data import divide, refuse_unknown, repeated_frames, write_mixture, write_new_store
from forcefield.train.finetune_options import FinetuneOptions
from forcefield.train.finetune_report import Stage
from forcefield.train.finetune_shift import EnergyShift, fit_shift, shifted_frames
from forcefield.train.label_doubts import label_doubts
from forcefield.train.logs import LOG, TABLES, Silent, Watcher
from forcefield.train.metrics import measure
from forcefield.train.replay import REPLAY, VALIDATION_SAMPLE
from forcefield.train.start import freeze

PREPARED, REPORT, START, STORES = "prepared.json", "report.json", "start", "stores"
BEST, WORSE = "model", "model-worse"
LOOKED_AT = 500
"""New frames, drawn at random, whose labels are compared with the base model's for mistakes."""
NEW, TRAIN, VALIDATION, BASE_VALIDATION = "new", "train", "validation", "base_validation"


@dataclass(frozen=True)
class Prepared:
    """A fine-tuning whose data is ready.

    Attributes:
        source: name or folder of the model to start from.
        base: the model itself.
        output: folder of the run.
        options: how to fine-tune.
        files: the new data.
        shift: change of the element energies.
        stages: errors of the base model as it is, and after the shift.
        facts: how the data was divided and mixed.
    """

    source: str
    base: Model
    output: Path
    options: FinetuneOptions
    files: tuple[Path, ...]
    shift: EnergyShift
    stages: tuple[Stage, Stage]
    facts: dict[str, Any]


def prepare(
    model: str | os.PathLike[str],
    data: Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    watcher: Watcher | None = None,
    restart: bool = False,
) -> Prepared:
    """Divide and mix the data, refit the element energies and measure the base model.

    What an earlier call has prepared in the same folder is taken up; arguments and errors as of
    `forcefield.train.finetune.finetune`.
    """
    options = options if options is not None else FinetuneOptions()
    watcher = watcher if watcher is not None else Silent()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("fine-tuning runs in one process; start it without torchrun")
    files, output = tuple(Path(file) for file in data), Path(output)
    if not files:
        raise ValueError("there is no new data; give at least one labelled file")
    base = load_model(model, device=resolve_device(options.device))
    freeze(base.potential.requires_grad_(True), options.freeze)  # refuses patterns that fit nothing
    base.potential.requires_grad_(False)
    if restart:
        discard(output)
    settings = _settings(model, files, options)
    if (output / PREPARED).is_file():
        facts = json.loads((output / PREPARED).read_text(encoding="utf-8"))
        _refuse_other_settings(output, facts["settings"], settings)
        watcher.note(f"going on with the data in {output / STORES}")
    else:
        facts = {**_Preparation(model, base, output, options, watcher).run(files), "settings": settings}
        write_json(output / PREPARED, facts)
    first, second = (Stage(**stage) for stage in facts["stages"])
    return Prepared(
        str(model), base, output, options, files, EnergyShift.from_dict(facts["shift"]), (first, second), facts
    )


def discard(output: Path) -> None:
    """Remove what an earlier fine-tuning wrote, and nothing else."""
    for name in (PREPARED, REPORT, CHECKPOINT, PREVIOUS, LOG, *TABLES.values(), "validation.json"):
        (output / name).unlink(missing_ok=True)
    for name in (START, STORES, BEST, WORSE):
        if (output / name).is_dir():
            shutil.rmtree(output / name)


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, path)


def plan(store: FrameStore, options: FinetuneOptions, *, factor: int = 4) -> list[NDArray[np.int64]]:
    """Batches for measuring errors, larger than those of the training by a factor."""
    return plan_batches(store, factor * options.slots, seed=0)


def _settings(model: str | os.PathLike[str], files: Sequence[Path], options: FinetuneOptions) -> dict[str, Any]:
    """What the prepared data depends on."""

    def state(path: Path | None) -> Any:
        if path is None or not path.exists():
            return None
        status = path.stat()
        return [str(path.resolve()), status.st_size, status.st_mtime_ns]

    names = ("validation_share", "no_replay", "replay_share", "seed")
    paths = ("validation", "replay", "base_validation")
    return {
        "model": hashlib.sha256((model_folder(model) / WEIGHTS).read_bytes()).hexdigest(),
        "data": [state(file) for file in files],
        **{name: getattr(options, name) for name in names},
        **{name: state(getattr(options, name)) for name in paths},
        "keys": dict(options.read.keys),
        "units": dict(options.read.units),
        "energy": options.read.energy,
        **({} if options.read.stress_order == VOIGT else {"stress_order": list(options.read.stress_order)}),
    }


def _refuse_other_settings(output: Path, stored: dict[str, Any], settings: dict[str, Any]) -> None:
    changed = [name for name in {**stored, **settings} if stored.get(name) != settings.get(name)]
    if changed:
        raise ValueError(
            f"{output} belongs to a fine-tuning with other {', '.join(changed)}; give another output folder, the "
            "settings of that one to go on with it, or begin anew (--restart)"
        )


def sample_of(model: str | os.PathLike[str], base: Model, name: str) -> tuple[Path | None, EnergyShift]:
    """A sample that travels with a model, and the shift of the model's energies since its labels.

    A fine-tuned model has none of its own: it uses those of the shipped model that it descends from.
    """
    folder = model_folder(model)
    if (folder / name).is_file():
        return folder / name, EnergyShift()
    record = base.config.get("finetuned")
    if record is None or not (models_folder() / record["samples"] / name).is_file():
        return None, EnergyShift()
    return models_folder() / record["samples"] / name, EnergyShift.from_dict(record["shift_since_samples"])


class _Preparation:
    """The work of `prepare`, step by step."""

    def __init__(
        self, model: str | os.PathLike[str], base: Model, output: Path, options: FinetuneOptions, watcher: Watcher
    ) -> None:
        self.model, self.base, self.options, self.watcher = model, base, options, watcher
        self.output, self.folder = output, output / STORES
        self.cutoff, self.elements = base.potential.cutoff, base.potential.elements

    def run(self, files: Sequence[Path]) -> dict[str, Any]:
        """Everything, and what is to be remembered of it."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)  # of a preparation that was killed
        new, training, validation, how = self.divided(files)
        repeated = repeated_frames(new, training, validation)
        if repeated:
            self.watcher.note(
                f"warning: {repeated} training frames are in the validation data too; errors are flattered"
            )
        doubts = self.doubts(new)
        shift = fit_shift(self.base.potential, new, training)
        if not shift:
            self.watcher.note("the element energies stay as they are: no training frame has an energy")
        replay, base_validation = self.replayed(shift), self.base_validation(shift)
        train, copies = write_mixture(
            self.folder / TRAIN, new, training, replay, self.options.replay_share, self.options.seed
        )
        as_it_is = self.errors(self.base.potential, validation)
        start = self.write_start(shift)
        on_base = None if base_validation is None else self.errors(start, base_validation)
        stages = (
            Stage("base model", as_it_is, on_base),
            Stage("element energies refitted", self.errors(start, validation), on_base),
        )
        return {
            "shift": shift.as_dict(),
            "stages": [stage.as_dict() for stage in stages],
            "training": {"frames": len(training), "copies": copies, "with_replay": len(train)},
            "validation": {"frames": len(validation), "how": how},
            "doubts": doubts,
        }

    def doubts(self, new: FrameStore) -> list[str]:
        """What the base model finds suspicious about labels; each is told."""
        chosen = np.random.default_rng(self.options.seed).permutation(len(new))[:LOOKED_AT]
        found = label_doubts(compare(predict_data(self.base.potential, new.folder, chosen=chosen)))
        for doubt in found:
            self.watcher.note(f"warning: doubtful labels: {doubt}")
        return found

    def errors(self, potential: Potential, store: FrameStore) -> dict[str, dict[str, float]]:
        """Errors of a potential on a store."""
        return measure(potential, store, plan(store, self.options), device=str(potential.device))

    def divided(self, files: Sequence[Path]) -> tuple[FrameStore, NDArray[np.int64], FrameStore, str]:
        """All new frames, which of them are for training, the validation frames, and how they were chosen."""
        options, folder = self.options, self.folder / VALIDATION
        new, series = write_new_store(self.folder / NEW, files, self.cutoff, self.elements, options.read)
        if options.validation is not None:
            store, _ = write_new_store(folder, [options.validation], self.cutoff, self.elements, options.read)
            return new, np.arange(len(new)), store, f"{len(store)} frames of {options.validation.name}"
        materials = [new.materials[k] for k in new.arrays["material"]]
        division = divide(materials, series, options.validation_share, options.seed)
        if not division.by_material:
            self.watcher.note(
                "warning: too few materials to set some aside; validation is on "
                f"{division.how}, which flatters the errors"
            )
        store = write_store(folder, (new.frame(int(k)) for k in division.validation), self.cutoff)
        return new, division.training, store, division.how

    def replayed(self, shift: EnergyShift) -> FrameStore | None:
        """Frames to replay, on the new energy scale; None for none."""
        if self.options.no_replay:
            return None
        store = self.base_store(REPLAY, self.options.replay, shift)
        if store is None:
            self.watcher.note(
                f"warning: {self.base.name} comes without a sample to replay and will forget; give one (--replay)"
            )
        return store

    def base_validation(self, shift: EnergyShift) -> FrameStore | None:
        """Frames to measure forgetting on, on the new energy scale; None for none."""
        store = self.base_store(VALIDATION_SAMPLE, self.options.base_validation, shift)
        if store is None:
            self.watcher.note(
                f"forgetting is not measured: {self.base.name} comes without a sample for it (--base-validation)"
            )
        return store

    def base_store(self, name: str, given: Path | None, shift: EnergyShift) -> FrameStore | None:
        """Labelled frames of the base model's training, moved to the new energy scale."""
        path, since = (given, EnergyShift()) if given is not None else sample_of(self.model, self.base, name)
        if path is None:
            return None
        stem = "replay" if name == REPLAY else BASE_VALIDATION
        before = write_store(self.folder / f"{stem}_before", self.known_frames(path), self.cutoff)
        moved = shifted_frames(before.folder, since + shift, self.base.potential)
        store = write_store(self.folder / stem, moved, self.cutoff)
        shutil.rmtree(before.folder)
        return store

    def known_frames(self, path: Path) -> Iterator[Frame]:
        """Frames of a sample or file, all of elements that the model knows."""
        for number, frame in enumerate(read_frames(path)):
            refuse_unknown(frame, f"{path} #{number}", self.elements)
            yield frame

    def write_start(self, shift: EnergyShift) -> Potential:
        """The base model with shifted element energies, as a model folder to start the training from."""
        start = load_model(self.model, device=self.base.potential.device).potential
        shift.apply(start)
        config = self.base.config
        save_model(
            self.output / START,
            start,
            network=config["network"],
            hyperparameters=config["hyperparameters"],
            default=False,
            labels=f"{self.base.name} with shifted element energies: the start of a fine-tuning, no model to use.",
        )
        return start
