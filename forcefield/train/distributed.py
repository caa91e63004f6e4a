"""Several processes, one training: each takes a part of every batch, gradients are summed, only one writes.

Started by `torchrun`, whose environment variables say who takes part; started without it, there is one process.
Gradients of forces are derivatives of derivatives, which the hooks of DistributedDataParallel do not see reliably; they
are therefore summed by hand, as one flat tensor after the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(hours=12)
"""How long processes wait for one that makes a store."""


@dataclass(frozen=True)
class Group:
    """The processes of a run.

    Attributes:
        rank: number of this process; process 0 writes.
        size: number of processes.
        device: where tensors are exchanged.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_root(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the processes, in place; the same to the last bit on each of them."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def from_root(self, value: T) -> T:
        """What process 0 has, on all of them."""
        if self.size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What each process has, on all of them."""
        if self.size == 1:
            return [value]
        boxes: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(boxes, value)
        return boxes

    def seconds_of_root(self, seconds: float) -> float:
        """Process 0's clock, so that all agree on the progress of the run."""
        if self.size == 1:
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared[0])

    def share(self, frames: NDArray[np.int64], cost: NDArray) -> NDArray[np.int64]:
        """This process's part of a batch, possibly none: dearest frames first, each to who has least so far.

        Args:
            frames: the batch.
            cost: cost of every frame of the store (edges).
        """
        if self.size == 1:
            return frames
        costs = cost[frames].astype(np.int64) + 1
        load = np.zeros(self.size, dtype=np.int64)
        mine = []
        for k in np.argsort(-costs, kind="stable"):
            owner = int(load.argmin())
            load[owner] += costs[k]
            if owner == self.rank:
                mine.append(k)
        return frames[np.sort(np.array(mine, dtype=np.int64))]

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients over the processes; a parameter that none of them used keeps no gradient."""
        if self.size == 1:
            return
        parts = [torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for p in parameters]
        used = parts[0].new_tensor([p.grad is not None for p in parameters])
        flat = self.sum(torch.cat([*parts, used]))
        used = flat[-len(parameters) :].cpu()
        start = 0
        for parameter, count in zip(parameters, used.tolist(), strict=True):
            end = start + parameter.numel()
            parameter.grad = flat[start:end].view_as(parameter).clone() if count else None
            start = end


def resolve_device(device: str) -> str:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.split(":")[0] not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device is {device!r} but must be auto, cpu, cuda, cuda:1, ...")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch sees no GPU; use auto or cpu")
    return device


@contextmanager
def process_group(device: str) -> Iterator[tuple[Group, str]]:
    """The processes that `torchrun` started, or this one alone, and the device of this one.

    The back end is NCCL on CUDA devices and gloo elsewhere. An error of one process ends it, and `torchrun` then ends
    the others.

    Args:
        device: "cpu", "cuda" for one GPU for each process, or "auto".

    Raises:
        ValueError: there is no such device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = resolve_device(device)
    if size == 1:
        yield Group(), device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    with torch.cuda.device(device) if on_gpu else nullcontext():
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
        yield Group(torch.distributed.get_rank(), size, device), device
        torch.distributed.destroy_process_group()  # not after an error: the others may be waiting in an exchange
