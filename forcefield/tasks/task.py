"""What is predicted: of the structure, of each atom or of each edge; a number, a vector or a tensor."""

from __future__ import annotations

from dataclasses import dataclass

from forcefield.suggest import nearest
from forcefield.tasks.tensors import SHAPES

LEVELS = ("graph", "atom", "edge")
POOLINGS = ("sum", "mean", "attention", "set2set")


@dataclass(frozen=True)
class Task:
    """A property.

    Attributes:
        key: its name in ``atoms.info`` or ``atoms.arrays``, and in results.
        level: "graph", "atom" or "edge".
        shape: "scalar", "vector", "symmetric" (3, 3) or "elastic" (3, 3, 3, 3).
        pooling: how atoms make a property of the structure: "sum" is extensive; "mean", "attention" and "set2set" are
            intensive, the same for any supercell.
        unit: unit of the labels, for people.
        hidden: width of the head's networks.

    Raises:
        ValueError: an entry is unknown, or entries do not go together.
    """

    key: str
    level: str = "graph"
    shape: str = "scalar"
    pooling: str = "mean"
    unit: str = ""
    hidden: int = 64

    def __post_init__(self) -> None:
        known: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("level", LEVELS),
            ("shape", tuple(SHAPES)),
            ("pooling", POOLINGS),
        )
        for name, choices in known:
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"{name} is {value!r} but must be one of {', '.join(choices)}{nearest(value, choices)}"
                )
        if not self.key:
            raise ValueError("key is empty; give the name that the label has in the data")
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {self.hidden}")
        if self.level == "edge" and self.shape != "scalar":
            raise ValueError(f"an edge has scalars only, got shape {self.shape!r}; choose level atom or graph")
        if self.level == "graph" and self.shape != "scalar" and self.pooling == "set2set":
            raise ValueError(f"set2set pools invariant features, not a {self.shape}; choose sum, mean or attention")

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Shape of one value: (), (3,), (3, 3) or (3, 3, 3, 3)."""
        return (3,) * SHAPES[self.shape].rank
