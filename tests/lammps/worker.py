"""Runs LAMMPS cases in one MPI process and writes what LAMMPS then holds; started by mpirun from conftest.py.

    mpirun -np 2 python worker.py MODEL FOLDER

For every case, FOLDER holds CASE.in beforehand and CASE-NP.npz afterwards: atoms ordered by id, cell, energy,
pressures of the virial, and how often plans and lists were made.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forcefield.lammps.attachment import Attachment
from forcefield.lammps.command import run_pieces, start_lammps
from forcefield.lammps.placement import import_lammps
from forcefield.lammps.script import split_script
from forcefield.models import Model, load_model

PROBES = """
compute probe_pressure all pressure NULL virial
compute probe_energy all pe/atom
compute probe_stress all stress/atom NULL virial
compute probe_sums all reduce sum c_probe_energy c_probe_stress[*]
thermo_style custom step pe etotal temp press c_probe_pressure[1] c_probe_sums[1]
run 0
"""


def main() -> None:
    torch.set_num_threads(1)
    model_folder, folder = Path(sys.argv[1]), Path(sys.argv[2])
    model = load_model(model_folder, dtype=torch.float64)
    for path in sorted(folder.glob("*.in")):
        run_case(model, path)


def run_case(model: Model, path: Path) -> None:
    lammps, mpi = import_lammps()
    lmp = start_lammps(lammps, ["-log", "none", "-screen", "none"], mpi)
    pieces = split_script(path.read_text(), cutoff=model.potential.cutoff)
    attachment = run_pieces(lmp, model, pieces, skin=0.7, debug=True)
    lmp.commands_string(PROBES)
    found = everything(lmp, attachment)
    if attachment.comm.rank == 0:
        np.savez(path.with_name(f"{path.stem}-{attachment.comm.size}.npz"), **found)
    lmp.close()


def everything(lmp: Any, attachment: Attachment) -> dict[str, Any]:
    """What LAMMPS holds, complete on the first process."""
    from lammps import LMP_STYLE_ATOM, LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR

    comm = attachment.comm
    n = lmp.extract_global("nlocal")
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    lengths = np.array(high) - np.array(low)
    columns = {
        "tags": column(lmp.numpy.extract_atom("id") if n else None, n, ()),
        "types": column(lmp.numpy.extract_atom("type") if n else None, n, ()),
        "positions": column(lmp.numpy.extract_atom("x") if n else None, n, (3,)),
        "forces": column(lmp.numpy.extract_atom("f") if n else None, n, (3,)),
        "energies": column(
            lmp.numpy.extract_compute("probe_energy", LMP_STYLE_ATOM, LMP_TYPE_VECTOR) if n else None, n, ()
        ),
    }
    gathered = {name: comm.gather(values) for name, values in columns.items()}
    pressure = lmp.numpy.extract_compute("probe_pressure", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    shares = lmp.numpy.extract_compute("probe_sums", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    locals_ = comm.gather(n)
    result: dict[str, Any] = {
        "cell": np.array([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]]),
        "origin": np.array(low),
        "pbc": np.array(periodic, dtype=bool),
        "energy": lmp.get_thermo("pe"),
        "total_energy": lmp.get_thermo("etotal"),
        "start_energy": lmp.extract_variable("start"),
        "virial": np.array(pressure) / lmp.extract_global("nktv2p"),
        "shares": -np.array(shares[1:]) / lmp.extract_global("nktv2p"),
        "n_locals": locals_,
        "calls": attachment.n_calls,
        "plans": attachment.ghosts.n_plans,
        "builds": attachment.graphs.neighbours.builds,
    }
    if comm.rank == 0:
        order = np.argsort(np.concatenate(gathered["tags"]))
        result |= {name: np.concatenate(parts)[order] for name, parts in gathered.items()}
        result |= {name: result[name].astype(np.int64) for name in ("tags", "types")}  # none are floats on no atoms
    return result


def column(values: Any, n: int, width: tuple[int, ...]) -> np.ndarray:
    return np.zeros((0, *width)) if n == 0 else np.array(values)[:n].reshape(n, *width)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        import_lammps()[1].COMM_WORLD.Abort(1)
