"""The force field inside a LAMMPS instance: a `fix external` whose forces, energy and virial we compute."""

from __future__ import annotations

import ctypes
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forcefield.lammps.atoms import RankAtoms, RankGraphs, read_atoms
from forcefield.lammps.elements import check_masses, element_numbers, elements_of_masses
from forcefield.lammps.ending import SECONDS_TO_READ, let_the_launcher_read
from forcefield.lammps.evaluation import RankResult, evaluate_rank
from forcefield.lammps.exchange import GhostExchange
from forcefield.lammps.stopwatch import Stopwatch
from forcefield.models import Model
from forcefield.units import KCAL_PER_MOL

ENERGY_UNIT = {"metal": 1.0, "real": KCAL_PER_MOL}
"""LAMMPS unit style -> its unit of energy in eV; both have Å and amu."""
FIX = "forcefield"
"""Id of the fix in LAMMPS."""


class Attachment:
    """The connection between one LAMMPS instance and a model; made on every process alike.

    After it is made, LAMMPS calls it at every step. Any error ends all processes with a message.

    Args:
        lmp: LAMMPS instance with its box and the pair style `zero`, whose cutoff is that of the model.
        model: the model, on the device of this process.
        symbols: element of each LAMMPS atom type.
        skin: extra radius (Å) of the neighbour list.
        debug: show the full traceback of an error.

    Raises:
        ValueError: the units are neither metal nor real, or the elements do not fit the types or the model.
    """

    def __init__(
        self, lmp: Any, model: Model, symbols: Sequence[str], *, skin: float = 1.0, debug: bool = False
    ) -> None:
        self.lmp, self.model, self.debug = lmp, model, debug
        self.comm = lmp.get_mpi_comm()
        self.symbols = list(symbols)
        self.stopwatch = Stopwatch()
        self.ghosts = GhostExchange(self.comm, self.stopwatch)
        self.unit = energy_unit(lmp)
        potential = model.potential
        n_types = int(lmp.extract_global("ntypes"))
        numbers = element_numbers(symbols, n_types, potential.elements)
        self.graphs = RankGraphs(potential.cutoff, skin, numbers)
        self.n_calls = 0
        self.setup_seconds: dict[str, float] = {}
        self.first_call = self.last_call = 0.0
        lmp.command(f"fix {FIX} all external pf/callback 1 1")
        lmp.command(f"fix_modify {FIX} energy yes virial yes")
        lmp.set_fix_external_callback(FIX, self._call, None)

    @property
    def seconds_per_step(self) -> float | None:
        """Wall-clock time of a step (s) over all calls but the first, None before the second."""
        return (self.last_call - self.first_call) / (self.n_calls - 1) if self.n_calls > 1 else None

    def _call(
        self, _: Any, step: int, n_local: int, tags: Any, positions: Any, forces: NDArray[np.float64] | None
    ) -> None:
        """Called by LAMMPS through C, where an exception would be printed and forgotten: so all ends here."""
        try:
            self._step(n_local, forces)
        except BaseException as error:
            if self.debug:
                traceback.print_exc()
            abort(self.comm, f"step {step}: {type(error).__name__}: {error}")

    def _step(self, n_local: int, forces: NDArray[np.float64] | None) -> None:
        watch = self.stopwatch
        with watch("transfer"):
            if self.n_calls == 0:
                self._check_masses()
            atoms = read_atoms(self.lmp, n_local)
        self.ghosts.update(atoms.tags, n_local)
        with watch("neighbours"):
            graph = self.graphs.graph(atoms).to(self.model.potential.device)
        with watch("network"):
            result = evaluate_rank(self.model.potential, graph, self.ghosts)
        with watch("transfer"):
            if n_local and forces is not None:
                forces[:] = result.forces / self.unit
            self._give_energy_and_virial(result, atoms)
        self.last_call = time.perf_counter()
        self.n_calls += 1
        if self.n_calls == 1:  # the first one also allocates memory and is counted apart
            self.first_call, self.setup_seconds = self.last_call, dict(watch.seconds)
            watch.seconds.clear()

    def _give_energy_and_virial(self, result: RankResult, atoms: RankAtoms) -> None:
        """`fix external` wants the totals of all processes on each of them, and the shares of the local atoms."""
        lmp = self.lmp
        own = np.concatenate([[result.energies.sum()], result.virials.sum(axis=0)]) / self.unit
        total = np.empty_like(own)
        with self.stopwatch("exchange"):
            self.comm.Allreduce(own, total)
        lmp.fix_external_set_energy_global(FIX, total[0])
        lmp.fix_external_set_virial_global(FIX, total[1:].tolist())
        if atoms.n_local:
            energies = np.ascontiguousarray(result.energies / self.unit)
            virials = np.ascontiguousarray(result.virials / self.unit)
            pointer = ctypes.POINTER(ctypes.c_double)
            lmp.lib.lammps_fix_external_set_energy_peratom(lmp.lmp, FIX.encode(), energies.ctypes.data_as(pointer))
            rows = (virials.ctypes.data + virials.strides[0] * np.arange(atoms.n_local)).astype(np.uintp)
            addresses = rows.ctypes.data_as(ctypes.POINTER(pointer))
            lmp.lib.lammps_fix_external_set_virial_peratom(lmp.lmp, FIX.encode(), addresses)

    def _check_masses(self) -> None:
        masses = self.lmp.numpy.extract_atom("mass")
        if masses is None:  # an atom style with a mass for each atom
            return
        for note in check_masses(self.symbols, np.array(masses[1 : len(self.symbols) + 1], dtype=float)):
            say(self.comm, f"note: {note}")


def energy_unit(lmp: Any) -> float:
    """LAMMPS's unit of energy in eV.

    Raises:
        ValueError: the unit style is neither metal nor real.
    """
    style = lmp.extract_global("units")
    if style not in ENERGY_UNIT:
        raise ValueError(f"units are {style} but must be metal or real; write `units metal` at the top of the input")
    return ENERGY_UNIT[style]


def suggested_elements(lmp: Any) -> str:
    """What the masses that are set so far look like, as the end of an error message."""
    masses = lmp.numpy.extract_atom("mass")
    if masses is None or np.any(np.array(masses[1:]) <= 0):
        return ""
    return f" (the masses look like {' '.join(elements_of_masses(np.array(masses[1:])))})"


def say(comm: Any, text: str) -> None:
    """Print one line on the first process."""
    if comm.rank == 0:
        print(f"forcefield: {text}", flush=True)


def abort(comm: Any, message: str) -> None:
    """Print one line and end all processes of the job.

    What went wrong on every process is said by the first one: the others leave it the time to end the job.
    """
    from mpi4py import MPI

    if comm.rank > 0:
        time.sleep(2 * SECONDS_TO_READ)

    where = f"process {comm.rank} of {comm.size}: " if comm.size > 1 else ""
    print(f"forcefield: error: {where}{message}", file=sys.stderr, flush=True)
    let_the_launcher_read()
    MPI.COMM_WORLD.Abort(1)
