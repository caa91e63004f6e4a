"""The end of a job when one process of it has an error: the others would wait for that one for ever.

`python -m forcefield.lammps` has mpi4py for it. Where LAMMPS itself calls Python (ML-IAP) there may be none, and
LAMMPS's own way out waits for all processes; then `MPI_Abort` is called in the library that LAMMPS has loaded.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "MPI_LOCALNRANKS")
"""Environment variables by which launchers tell the number of processes they started."""
WORLD_OF_MPICH = 0x44000000
"""``MPI_COMM_WORLD`` in the binary interface that MPICH, Intel MPI, Cray MPICH and MVAPICH share."""
SECONDS_TO_READ = 1.0
"""What a launcher gets to pass on the last words of a process before the job is aborted."""


def launched_processes() -> int:
    """How many processes the launcher started, 1 where none says so."""
    told = (os.environ.get(name, "") for name in LAUNCHERS)
    return max([int(number) for number in told if number.isdigit()], default=1)


def is_alone() -> bool:
    """Whether this process is the whole job, so that an error can be left to Python."""
    mpi = sys.modules.get("mpi4py.MPI")
    known = mpi.COMM_WORLD.size if mpi is not None and mpi.Is_initialized() else 1
    return max(known, launched_processes()) <= 1


def end_all_processes(message: str) -> None:
    """Print one line and end all processes of the job with the status 1; does not return.

    Args:
        message: what went wrong.
    """
    print(f"forcefield: error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    let_the_launcher_read()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized():
        mpi.COMM_WORLD.Abort(1)
    _abort_in(_loaded_library())
    os._exit(1)  # not known to MPI, but launchers end the others when one leaves without a word


def let_the_launcher_read() -> None:
    """Wait a moment: launchers drop what they have not yet read from a process when the job is aborted (Hydra does)."""
    if not is_alone():
        time.sleep(SECONDS_TO_READ)


def _loaded_library() -> Any:
    """The symbols of everything that this process has loaded, or None where the system cannot tell."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None


def _abort_in(library: Any) -> None:
    """Call ``MPI_Abort`` of a library, if it has one and is in use."""
    if library is None or not hasattr(library, "MPI_Abort"):
        return
    running = ctypes.c_int(0)
    library.MPI_Initialized(ctypes.byref(running))
    if not running.value:
        return
    if hasattr(library, "ompi_mpi_comm_world"):  # Open MPI's handles are addresses
        world = ctypes.byref(ctypes.c_char.in_dll(library, "ompi_mpi_comm_world"))
        library.MPI_Abort(world, ctypes.c_int(1))
    else:
        library.MPI_Abort(ctypes.c_int(WORLD_OF_MPICH), ctypes.c_int(1))
