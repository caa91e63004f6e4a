"""What the training of a property model needs to know, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from forcefield.tasks.bodies import BODIES
from forcefield.tasks.task import Task
from forcefield.train.config import Card, LossKind, Weight
from forcefield.train.config_file import check_hyperparameters, checked_as, read_mapping

Part = Path | tuple[Path, ...] | Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TaskEntry(_Strict):
    """What is predicted."""

    key: str
    """name of the label in `atoms.info`, `atoms.arrays`, or a calculator's results"""
    level: Literal["graph", "atom", "edge"] = "graph"
    """graph (the structure), atom, or edge"""
    shape: Literal["scalar", "vector", "symmetric", "elastic"] = "scalar"
    """scalar, vector, symmetric (3, 3), or elastic (3, 3, 3, 3; Voigt labels are taken too)"""
    pooling: Literal["sum", "mean", "attention", "set2set"] = "mean"
    """sum for extensive properties of the structure; mean, attention or set2set for intensive ones"""
    unit: str = ""
    """unit of the labels, for the card and plots"""
    hidden: PositiveInt = 64
    """width of the head's networks"""

    @model_validator(mode="after")
    def _consistent(self) -> TaskEntry:
        self.made()
        return self

    def made(self) -> Task:
        """The task itself."""
        return Task(**self.model_dump())


class PropertyConfig(_Strict):
    """The training of a property model."""

    task: TaskEntry
    """what is predicted"""
    train: Path | tuple[Path, ...]
    """labelled structures: extended XYZ or anything else that ASE reads"""
    validation: Part = 0.1
    """files, or how much of `train` to set apart, by material: a share (below 1) or a number of structures"""
    test: Part | None = None
    """files, or how much of `train` to set apart for the errors on the card; validation's errors if not given"""
    material_key: str | None = None
    """key in `atoms.info` that identifies the material; material or material_id if there is one, else the formula"""
    output: Path
    """folder for the graphs, checkpoints, logs and the finished model"""
    network: str = "crystal_cgcnn"
    """body: any network of the package, or crystal_cgcnn or crystal_megnet"""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """keywords of the network"""
    max_neighbours: PositiveInt | None = None
    """only the nearest neighbours of each atom, whole shells; all within the cutoff if not given"""
    reference: Literal["mean", "elements"] = "mean"
    """what the network's output is added to: the labels' mean, or a number for each element by least squares"""
    epochs: PositiveInt | None = None
    """length of the run in passes through the data; give this, `minutes` or `steps`"""
    minutes: PositiveFloat | None = None
    """length of the run in minutes of work (a resumed run counts on)"""
    steps: PositiveInt | None = None
    """length of the run in steps"""
    batch_atoms: PositiveInt = 1000
    """atoms in a batch"""
    loss: LossKind = "huber"
    """huber, mae or mse, in units of the labels' spread"""
    threshold: PositiveFloat = 0.1
    """error, in units of the labels' spread, below which the Huber loss is quadratic"""
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    """adam, adamw, or muon"""
    learning_rate: PositiveFloat = 2e-3
    """peak learning rate"""
    weight_decay: Weight = 0.0
    """decoupled weight decay of adamw and muon"""
    schedule: Literal["warmup-stable-decay", "cosine", "constant"] = "warmup-stable-decay"
    """course of the learning rate after the warm-up"""
    warmup_steps: int = Field(default=100, ge=0)
    """steps of linear warm-up"""
    decay: float = Field(default=0.6, gt=0, le=1)
    """share of the run, at its end, in which the learning rate of warmup-stable-decay falls"""
    final_rate: float = Field(default=0.0, ge=0, le=1)
    """learning rate at the end as a share of the peak"""
    gradient_clip: PositiveFloat | None = 10.0
    """largest norm of the gradient"""
    ema_decay: float = Field(default=0.999, gt=0, lt=1)
    """decay of the weights' moving average, which is what is validated and exported"""
    seed: int = 0
    """seed of weights, batches and the division by material"""
    dtype: Literal["float32", "float64"] = "float32"
    """precision of the network"""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto"""
    log_every: PositiveInt = 100
    """steps between lines of the log"""
    validation_steps: PositiveInt | None = None
    """steps between validations; an epoch if not given"""
    checkpoint_minutes: PositiveFloat = 5.0
    """minutes of work between checkpoints"""
    patience: PositiveInt | None = None
    """validations without a new best after which the run stops early; the best weights are kept then"""
    plots: bool = True
    """draw a parity plot at the end, if matplotlib is installed"""
    card: Card = Card()
    """what the card of the finished model says and no run can know"""

    @model_validator(mode="after")
    def _consistent(self) -> PropertyConfig:
        if sum(length is not None for length in (self.epochs, self.minutes, self.steps)) != 1:
            raise ValueError("give one of epochs, minutes and steps as the length of the run")
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError(f"weight_decay is {self.weight_decay} but adam has none; choose adamw or muon")
        if self.reference == "elements" and self.task.shape != "scalar":
            raise ValueError(f"a {self.task.shape} has no reference values of the elements; leave reference out")
        return self


def read_property_config(path: str | Path, overrides: Sequence[str] = ()) -> PropertyConfig:
    """Read a configuration; its relative paths are taken from the folder of the file.

    Args:
        path: YAML file.
        overrides: ``key=value``, with dots for nested keys (``task.pooling=sum``).

    Raises:
        ValueError: the file cannot be read, a key is unknown (says the nearest one), or a value is wrong.
    """
    folder = Path(path).parent
    config = checked_as(PropertyConfig, read_mapping(path, overrides), str(path))
    check_body(config)

    def placed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(placed(one) for one in value)
        return folder / value if isinstance(value, Path) else value

    return config.model_copy(
        update={name: placed(getattr(config, name)) for name in ("train", "validation", "test", "output")}
    )


def check_body(config: PropertyConfig) -> None:
    """Raises: ValueError: unknown network, or a keyword that it does not take (says the nearest one)."""
    check_hyperparameters(config, BODIES)
