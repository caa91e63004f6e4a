"""Tasks and calculators that worker processes of the tests import."""

from __future__ import annotations

import os
import time
import warnings

from ase.calculators.emt import EMT


def volume_of(atoms, *, factor=1.0):
    """A task without a calculator."""
    return {"volume": factor * atoms.get_volume(), "nested": {"pbc": atoms.pbc.tolist()}, "index": 7}


def energy_of(atoms, calculator):
    """A task with a calculator, which says how often that was made in this process."""
    atoms.calc = calculator
    return {"energy": atoms.get_potential_energy(), "process": os.getpid(), "made": calculator.made, "atoms": atoms}


def die_of_aluminium(atoms):
    """Kills its process."""
    if "Al" in atoms.symbols:
        os._exit(9)
    return {"n": len(atoms)}


class UnsendableError(Exception):
    """An error that cannot be made again from its text, which breaks executors that send it."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raise_unsendable(atoms):
    """Raises what cannot be sent."""
    raise UnsendableError("one", "two")


def sleep(atoms, *, seconds):
    """Takes long."""
    time.sleep(seconds)
    return {}


def say_and_sleep(atoms):
    """Says that it has begun, and takes long."""
    print("at work", flush=True)
    time.sleep(600.0)
    return {}


class CountedEMT(EMT):
    """EMT that counts how often it was made."""

    n_made = 0

    def __init__(self):
        super().__init__()
        type(self).n_made += 1
        self.made = self.n_made


def warn_twice(atoms, calculator):
    for _ in range(2):
        warnings.warn(f"strange atoms,\n{atoms.get_chemical_formula()}", RuntimeWarning, stacklevel=1)
    return {"ok": True}
