"""What a training run needs to know, checked before anything starts.

Every entry is described once, in its `Field`; the commented example and the reference table in the docs are made from
these descriptions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

FORMAT = 3

LossKind = Literal["huber", "mae", "mse"]
Weight = Annotated[float, Field(ge=0)]
Energies = Path | dict[str, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class LossWeights(_Strict):
    """Weights of the losses; each loss is in units of its label (eV, eV/Å, eV/Å^3) once beyond its threshold."""

    energy: Weight = 5.0
    """of the energy per atom"""
    forces: Weight = 10.0
    """of the force components"""
    stress: Weight = 50.0
    """of the stress components"""
    atomic_energies: Weight = 3.0
    """of a teacher's atomic energies"""


class Phase(LossWeights):
    """Loss weights up to some share of the run."""

    until: float = Field(default=1.0, gt=0, le=1)
    """share of the run at which the phase ends; the last phase ends at 1"""


class HuberThresholds(_Strict):
    """Errors below these are penalised quadratically, larger ones linearly (Huber losses only)."""

    energy: PositiveFloat = 0.02
    """eV/atom"""
    forces: PositiveFloat = 0.05
    """eV/Å"""
    stress: PositiveFloat = 0.005
    """eV/Å^3"""
    atomic_energies: PositiveFloat = 0.05
    """eV"""


class LossKinds(_Strict):
    """Which loss for which label: huber, mae or mse."""

    energy: LossKind = "huber"
    """on the energy per atom"""
    forces: LossKind = "huber"
    """on force components"""
    stress: LossKind = "huber"
    """on stress components"""
    atomic_energies: LossKind = "huber"
    """on a teacher's atomic energies"""


class HessianLoss(_Strict):
    """Loss on products of the Hessian with directions, against softening (Koker et al., arXiv:2601.07742)."""

    file: Path
    """labels made by `forcefield data hessian`"""
    weight: Weight = 1.0
    """weight of the loss"""
    every: PositiveInt = 4
    """steps from one batch of Hessian products to the next"""
    slots: PositiveInt | None = None
    """batch size in padded edges; a third of the run's `slots` if not given"""
    loss: LossKind = "mae"
    """huber, mae or mse"""
    threshold: PositiveFloat = 0.5
    """of the Huber loss (eV/Å^2)"""
    stress_factor: Weight = 3.0
    """of changes of stresses (eV per atom) beside those of forces (eV/Å^2), where there are labels along strains"""


class Card(_Strict):
    """What the card of the finished model says and no run can know."""

    name: str = "unnamed"
    """name of the model"""
    labels: str = "Not stated where the labels come from."
    """where the labels come from, and what they are"""
    data: str = "Training data that was not described"
    """the training data and its licence"""
    validation: str = "validation data that was not described"
    """the validation data"""
    licence: str = "not stated"
    """licence of the weights"""
    limits: tuple[str, ...] = ("Known limits were not stated.",)
    """known limits, a sentence each"""


def _as_phases(value: Any) -> Any:
    """One mapping is a single phase that lasts the whole run."""
    if isinstance(value, LossWeights):
        value = value.model_dump()
    return (value,) if isinstance(value, dict) else value


class TrainConfig(_Strict):
    """A training run."""

    format: Literal[3] = 3
    """version of the configuration's format"""
    train: Path | tuple[Path, ...]
    """frame store to train on, or raw files, from which a store is made in the output folder"""
    validation: Path | tuple[Path, ...]
    """frame store to validate on, or raw files"""
    output: Path
    """folder for checkpoints, logs and the finished model"""
    initial: str | None = None
    """model to start from, a shipped one's name or a folder; its network is used"""
    network: str = "density"
    """architecture: density, gcn, mpnn, cgcnn, schnet, megnet, dimenet, painn, m3gnet, tensornet, allegro, transformer, nequip or mace"""  # noqa: E501
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """keywords of the network"""
    freeze: tuple[str, ...] = ()
    """parameters that stay as they are, as patterns such as `*.sender.*`"""
    isolated_energies: Energies | None = None
    """free atoms' energies (eV) by element symbol, or a JSON file of them; 0 (or `initial`'s) if not given"""
    reference_energies: Literal["fit", "initial"] | Energies | None = None
    """mean energy (eV) of each element's bound atoms: "fit" by least squares, "initial" from the model to start from, or a mapping or JSON file; "initial" if there is one, else "fit", if not given"""  # noqa: E501
    saturation_rate: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    """how soon an atom with near neighbours counts as bound; `initial`'s, or 4, if not given"""
    minutes: PositiveFloat | None = None
    """length of the run in minutes of work (a resumed run counts on); give this or `steps`"""
    steps: PositiveInt | None = None
    """length of the run in steps"""
    clock: Literal["wall", "cpu"] = "wall"
    """what minutes are of: wall, or cpu for this process's own time, fair on a shared machine"""
    slots: PositiveInt = 6000
    """batch size in padded edges: atoms times the most neighbours of one of them"""
    optimizer: Literal["adam", "adamw", "muon"] = "muon"
    """muon for Muon on hidden matrices and Adam on the rest, adam, or adamw"""
    learning_rate: PositiveFloat = 3e-3
    """peak learning rate"""
    shared_rate: float = Field(default=1.0, ge=0, le=1)
    """share of the learning rate for parameters that all elements share; 0 trains those of single elements alone"""
    trained_elements: tuple[str, ...] = ()
    """symbols of the elements whose own parameters are trained, all others' staying as they are; all if none is given"""  # noqa: E501
    scale_by_inputs: bool = False
    """lower learning rates for matrices of more than 64 inputs, in proportion: keeps wide layers from running away"""
    weight_decay: Weight = 0.0
    """decoupled weight decay of adamw and muon"""
    schedule: Literal["warmup-stable-decay", "cosine", "constant"] = "warmup-stable-decay"
    """course of the learning rate after the warm-up: stable, then falling over `decay`; falling from the start; constant"""  # noqa: E501
    warmup_steps: int = Field(default=300, ge=0)
    """steps of linear warm-up"""
    decay: float = Field(default=0.6, gt=0, le=1)
    """share of the run, at its end, in which the learning rate of warmup-stable-decay falls (as a cosine)"""
    final_rate: float = Field(default=0.0, ge=0, le=1)
    """learning rate at the end as a share of the peak"""
    losses: LossKinds = LossKinds()
    """huber, mae or mse for each label"""
    weights: Annotated[tuple[Phase, ...], BeforeValidator(_as_phases)] = (Phase(until=0.75), Phase(energy=20.0))
    """weights of the losses: one mapping, or a list of phases, each with the share of the run at which it ends"""
    thresholds: HuberThresholds = HuberThresholds()
    """thresholds of the Huber losses"""
    hessian: HessianLoss | None = None
    """loss on products of the Hessian with directions"""
    gradient_clip: PositiveFloat | None = 10.0
    """largest norm of the gradient"""
    most_skipped: PositiveInt = 50
    """steps in a row with a gradient that is not finite (they are skipped) after which the run is given up"""
    ema_decay: float = Field(default=0.999, gt=0, lt=1)
    """decay of the weights' moving average, which is what is validated and exported; shorter in the first steps: (1 + n) / (10 + n) after n of them"""  # noqa: E501
    seed: int = 0
    """seed of weights and batches"""
    dtype: Literal["float32", "float64", "tf32", "bf16"] = "float32"
    """precision of the network: tf32 (GPU) and bf16 keep float32 weights and multiply with fewer digits"""
    compile: bool = False
    """let PyTorch compile the network with its gradient: nearly twice as fast after a minute or two, checked against the ordinary evaluation, which goes on where compilation fails"""  # noqa: E501
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto"""
    log_every: PositiveInt = 200
    """steps between lines of the log"""
    checkpoint_minutes: PositiveFloat = 5.0
    """minutes of work between checkpoints"""
    validation_steps: PositiveInt | None = None
    """steps between quick validations; one at every checkpoint if not given"""
    validation_batches: PositiveInt = 60
    """batches of a quick validation"""
    patience: PositiveInt | None = None
    """quick validations without a new best after which the run stops early and goes back to the best weights"""
    tensorboard: bool = False
    """write TensorBoard files too"""
    plots: bool = True
    """draw learning curves and parity plots at the end, if matplotlib is installed"""
    card: Card = Card()
    """what the card of the finished model says and no run can know"""

    @model_validator(mode="before")
    @classmethod
    def _current_format(cls, data: Any) -> Any:
        return updated(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps as the length of the run")
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError(f"weight_decay is {self.weight_decay} but adam has none; choose adamw or muon")
        if self.compile and self.dtype == "bf16":
            raise ValueError("compile and dtype bf16 do not go together; choose float32 or tf32, or leave compile out")
        ends = [phase.until for phase in self.weights]
        if not ends or ends[-1] != 1 or sorted(set(ends)) != ends:
            raise ValueError(f"the phases of weights end at {ends}, but must end in rising order and the last one at 1")
        if self.reference_energies == "initial" and self.initial is None:
            raise ValueError("reference_energies is 'initial', but there is no initial model; give one, or choose fit")
        return self


def updated(data: dict[str, Any]) -> dict[str, Any]:
    """Bring a configuration of an older format up to date.

    Raises:
        ValueError: the format is newer than this version of the package, or no number.
    """
    old = {"final_weights", "final_phase"} & data.keys()
    version = data.get("format", 1 if old else FORMAT)
    if not isinstance(version, int) or not 1 <= version <= FORMAT:
        raise ValueError(
            f"the configuration has format {version!r}, this version of the package reads formats 1 to {FORMAT}; "
            "upgrade the package, or write the configuration anew (forcefield train --example)"
        )
    for number in range(version, FORMAT):
        data = UPDATES[number](data)
    return data


def _update_1_2(data: dict[str, Any]) -> dict[str, Any]:
    """Weights of a last phase became a list of phases."""
    data = {**data, "format": 2}
    share = float(data.pop("final_phase", 0.25))
    first, last = (
        value.model_dump() if isinstance(value, BaseModel) else dict(value)
        for value in (data.pop("weights", {}), data.pop("final_weights", {"energy": 20.0}))
    )
    if not 0 <= share <= 1:
        raise ValueError(f"final_phase is {share} but must be a share between 0 and 1")
    phases = [] if share == 1 else [{**first, "until": 1 - share}]
    data["weights"] = phases if share == 0 else [*phases, {**last, "until": 1.0}]
    return data


def _update_2_3(data: dict[str, Any]) -> dict[str, Any]:
    """New potentials saturated at the rate 1."""
    slow = {} if data.get("initial") else {"saturation_rate": 1.0}
    return {**slow, **data, "format": 3}


UPDATES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _update_1_2, 2: _update_2_3}
"""Format version -> function that turns a configuration of that version into one of the next."""
